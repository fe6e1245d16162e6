"""The five lines at the end of `fit`, and the table of `status`, of a run folder made by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_by_hand import TinyImage, make_run

from recamlabel.cli.main import run as command
from recamlabel.run.summary import summary_lines
from recamlabel.storage.run_folder import RunFolder

ORIGIN = "chosen without ground truth"
PLAN = ("dataset", "gate", "classifier", "recam", "maps", "refine", "calibration", "masks", "quality")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Four images of 2 x 5 pixels: two objects without a pixel, one doubtful mask, one class not to trust."""
    monkeypatch.chdir(tmp_path)
    one = np.ones((1, 2, 2))
    mask = [[0, 1, 1, 0, 255], [0, 0, 0, 0, 255]]
    run = make_run(Path(), ("cat", "dog"), [TinyImage(name, ("cat",), one, one, mask) for name in "abcd"])
    config = {"segmenter": {"enabled": False}, "masks": {"threshold": "auto", "ignore": "auto"}}
    run.state.config = config
    run.state.dataset = {"images": 4, "classes": ["cat", "dog"], "source": "photos/labels.csv"}
    run.state.plan = {name: f"{name}-key" for name in PLAN} | {"maps": run.key_of("maps")}
    pixels = {"background": 24, "cat": 8, "dog": 0, "ignored": 8}
    facts = {"threshold": 0.4, "threshold_origin": ORIGIN, "pixels": pixels}
    run.finish("masks", "masks-key", 65.0, ["masks.h5"], {"settings": {"masks.threshold": "auto"}}, **facts)
    for name, needs in (("gate", {}), ("quality", {"masks": "masks-key"})):
        (run.path / f"{name}.json").write_text(json.dumps(tree(name)))
        run.finish(name, f"{name}-key", 1.0, [f"{name}.json"], {"needs": needs})
    (run.path / "report.html").write_text("")
    return run


def tree(name: str) -> dict[str, Any]:
    if name == "quality":
        scores = {image: {"score": score} for image, score in zip("abcd", (0.0, 0.49, 0.5, 0.9), strict=True)}
        return {"order": list("abcd"), "images": scores, "missing": {"a": ["cat", "dog"], "b": []}}
    verdicts = {"cat": "ok", "dog": "do not trust", "owl": "weak", "<b>": "do not trust"}
    return {"note": "", "classes": [{"name": name, "verdict": verdict} for name, verdict in verdicts.items()]}


WHOLE = [
    "level:    0.40 (chosen without ground truth)",
    "withheld: 20.0 % of the pixels",
    "doubtful: 2 labelled objects without a pixel in 1 image; 2 of 4 masks with a score below 0.5",
    "classes:  do not trust dog, <b>; weak: owl",
    "next:     open run/report.html, decide on the masks, then recamlabel review run --import decisions.json",
]


def test_a_finished_run_in_five_lines(run):
    assert summary_lines(run) == WHOLE


SCORES = "2 of 4 masks with a score below 0.5"
FINDINGS: list[tuple[str, dict[str, Any], str]] = [
    (
        "quality",
        {"missing": {}, "normal": {"images": 3, "fires": ["e"]}},
        f"doubtful: no labelled object without a pixel; {SCORES}; the segmenter fires on 1 of 3 normal images",
    ),
    (
        "quality",
        {"missing": {}, "normal": {"images": 0, "fires": []}},
        f"doubtful: no labelled object without a pixel; {SCORES}",
    ),
    ("quality", {"missing": {}}, f"doubtful: no labelled object without a pixel; {SCORES}"),
    ("quality", {"missing": {"d": ["cat"]}}, f"doubtful: 1 labelled object without a pixel in 1 image; {SCORES}"),
    (
        "quality",
        {"missing": {}, "kept": {"a": ["cat"], "b": ["cat", "dog"]}},
        f"doubtful: no labelled object without a pixel; 3 objects at a level of their own; {SCORES}",
    ),
    ("gate", {"note": "random features"}, "classes:  random features"),
    ("gate", {"classes": [{"name": "cat", "verdict": "ok"}]}, "classes:  none that is not to be trusted"),
    (
        "quality",
        {"images": []},
        "doubtful: not scored: quality.json is damaged (expected images); delete it and run `recamlabel fit run`",
    ),
]


@pytest.mark.parametrize(("name", "change", "line"), FINDINGS)
def test_other_findings(run, name, change, line):
    (run.path / f"{name}.json").write_text(json.dumps({**tree(name), **change}))
    assert line in summary_lines(run)


def test_what_was_not_looked_for_is_not_claimed(run):
    known = tree("quality")
    del known["missing"]
    (run.path / "quality.json").write_text(json.dumps(known))
    assert summary_lines(run)[2] == "doubtful: 2 of 4 masks with a score below 0.5"


def test_an_unfinished_and_an_outdated_run(run):
    run.state.config["masks"]["threshold"] = 0.5
    run.state.plan |= {"masks": "other-key", "quality": "of-other-masks"}
    facts = {"threshold": 0.5, "pixels": {"background": 40, "ignored": 0}}
    run.finish("masks", "other-key", 1.0, ["masks.h5"], **facts)
    assert summary_lines(run) == [
        "level:    0.50",
        "withheld: 0.0 % of the pixels",
        "doubtful: not scored: quality is outdated",
        WHOLE[3],
        "next:     recamlabel fit run  (makes the quality again: masks.threshold auto -> 0.5)",
    ]
    for name in ("masks", "quality", "gate"):
        run.begin(name)
    assert summary_lines(run) == [
        "level:    no masks yet",
        "withheld: no masks yet",
        "doubtful: not scored: quality is not run",
        "classes:  not judged: gate is not run",
        "next:     recamlabel fit run  (continues)",
    ]


def test_the_next_step_is_the_first_stage_that_is_left(run):
    run.state.plan["segmenter"] = "segmenter-key"
    assert summary_lines(run)[-1] == "next:     recamlabel fit run  (continues with segmenter)"
    del run.state.plan["segmenter"]
    (run.path / "report.html").unlink()
    assert summary_lines(run)[-1] == "next:     recamlabel report run"


def test_status_fits_eighty_columns(run, capsys):
    for name in ("maps", "masks", "quality", "gate"):
        run.state.stages[name]["finished"] = "2026-11-24T14:53:21+00:00"
    run.save()
    assert command(["status", "run"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "run: 4 images, 2 classes",
        "from photos/labels.csv",
        "stage         state       seconds  finished (UTC)",
        "dataset       not run",
        "gate          finished        1.0  2026-11-24 14:53",
        "classifier    not run",
        "recam         not run",
        "maps          finished        1.5  2026-11-24 14:53",
        "refine        not run",
        "calibration   not run",
        "masks         finished       65.0  2026-11-24 14:53",
        "quality       finished        1.0  2026-11-24 14:53",
        WHOLE[0],
        WHOLE[1],
        "doubtful: 2 labelled objects without a pixel in 1 image; 2 of 4 masks with a",
        "          score below 0.5",
        WHOLE[3],
        "next:     open run/report.html, decide on the masks, then recamlabel review run",
        "          --import decisions.json",
    ]


def test_status_says_what_is_outdated_and_why(run, capsys):
    run.state.config["masks"]["threshold"] = 0.5
    run.state.plan |= {"masks": "other-key", "quality": "of-other-masks"}
    run.finish("masks", "other-key", 1.0, ["masks.h5"], threshold=0.5)
    assert command(["status", "run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("quality"))
    assert row.split()[1] == "outdated" and lines[lines.index(row) + 1] == "  masks.threshold auto -> 0.5"
    assert command(["status", "run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    stages = {one["stage"]: one for one in found["stages"]}
    assert stages["quality"]["state"] == "outdated" and stages["quality"]["key"] == "quality-key"
    assert stages["quality"]["because"] == "masks.threshold auto -> 0.5" and found["summary"][0] == "level:    0.50"


def test_status_lists_what_is_planned_and_what_fit_would_redo(run, capsys):
    run.state.plan |= {"probe": "probe-key", "masks": "other-key", "quality": "of-other-masks"}
    run.save()
    assert command(["status", "run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split()[0] for line in lines]
    assert "probe" in listed and not {"cams", "relabel", "confidence"} & set(listed)
    assert "fit redoes masks, quality, which took 66 s" in lines


def test_a_file_that_a_setting_names_is_looked_at(run, capsys):
    weights = Path("weights.pt")
    weights.write_bytes(b"old")
    run.state.config["backbone"] = {"weights": str(weights)}
    digest = "e27cf4ae1f6fa8b5"  # not that of b"old"
    run.finish("maps", run.key_of("maps"), 1.0, ["work/maps.h5"], {"facts": {"weights": digest}})
    run.finish("masks", "masks-key", 65.0, ["masks.h5"], {"needs": {"maps": run.key_of("maps")}})
    assert command(["status", "run"]) == 0
    text = capsys.readouterr().out
    assert text.count("  backbone.weights: weights.pt has other content") == 3  # masks and quality stand on the maps


def test_status_needs_no_torch(run):
    code = "import sys; from recamlabel.cli.main import run; run(['status', 'run']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
