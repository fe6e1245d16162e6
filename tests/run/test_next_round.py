"""The next round with a reviewer's masks, and the background level from known masks."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from recamlabel.cli.main import run as command
from recamlabel.errors import ConfigError, StoreError
from recamlabel.evaluation.calibration import KnownLevel, calibrate_with_truth, known_level
from recamlabel.masks.reviewed import Decision, ReviewFolder
from recamlabel.run.review_round import fit_with_review
from recamlabel.stages import masks as masks_stage
from recamlabel.storage.png import read_mask
from recamlabel.storage.run_folder import RunFolder
from tests.helpers import TINY, TINY_SEGMENTER

LEVELS = [0.2, 0.4, 0.6]
PLAIN = [*TINY, "refine.method=none"]


def ran(capsys) -> list[str]:
    return [line.split(":")[0] for line in capsys.readouterr().err.splitlines() if ": done in" in line]


def store(path: Path, scores: dict[str, list[float]]) -> h5py.File:
    file = h5py.File(path, "w")
    for name, row in scores.items():
        stored = np.round(np.array(row)[None, None] * 255).astype(np.uint8)
        file.create_dataset(f"scores/{name}", data=stored).attrs["class_ids"] = [1]
    return file


def test_the_level_that_gives_the_known_masks_is_found(tmp_path):
    truth = np.array([[1, 1, 0, 0]])
    with store(tmp_path / "a.h5", {name: [0.9, 0.5, 0.3, 0.1] for name in "abc"}) as file:
        found = known_level(file, [(name, truth) for name in "abc"], LEVELS, 2, 255)
        assert found.threshold == 0.4 and found.interval == (0.4, 0.4) and found.images == ("a", "b", "c")
        assert dict(found.curve)[0.4] == 1 and dict(found.curve)[0.6] == pytest.approx((0.5 + 2 / 3) / 2)
        assert "3 known masks" in found.origin
        with pytest.raises(StoreError, match="no scores of image 'z'"):
            known_level(file, [("z", truth)], LEVELS, 2, 255)
        with pytest.raises(StoreError, match="no known mask"):
            known_level(file, [], LEVELS, 2, 255)


def test_images_that_want_different_levels_widen_the_interval(tmp_path):
    rows = {"a": [0.9, 0.7, 0.3, 0.1], "b": [0.5, 0.5, 0.3, 0.1]}
    low, high = np.array([[1, 1, 0, 0]]), np.array([[1, 1, 1, 0]])
    with store(tmp_path / "a.h5", rows) as file:
        found = known_level(file, [("a", low), ("b", high)] * 3, LEVELS, 2, 255)
    assert found.interval[0] < found.interval[1]


@pytest.fixture
def run(copy_run, tmp_path) -> RunFolder:
    return copy_run(tmp_path, *PLAIN)[1]


def test_calibrate_renders_the_masks_and_says_where_the_level_is_from(run, capsys):
    truth = run.path.parent / "truth"
    before = RunFolder.open(run.path).key_of("masks")
    arguments = ["calibrate", str(run.path), "--truth", str(truth), "--n", "4"]
    assert command([*arguments, "--dry-run"]) == 0 and RunFolder.open(run.path).key_of("masks") == before
    assert command(arguments) == 0
    out = capsys.readouterr().out
    assert "90 % interval" in out and "--set masks.threshold=" in out
    after = RunFolder.open(run.path)
    assert "4 known masks" in after.state.stages["masks"]["threshold_origin"]
    known = after.metrics()["threshold"]["known"]
    assert known["threshold"] == after.state.stages["masks"]["threshold"] and len(known["images"]) == 4
    assert "images/3" not in known["images"]  # has no label: no level changes its mask


def test_calibrate_says_what_is_wrong(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert command(["calibrate", str(run.path), "--truth", str(tmp_path / "empty")]) == 1
    assert "empty" in capsys.readouterr().err
    assert command(["calibrate", str(tmp_path / "none"), "--truth", str(tmp_path)]) == 1
    with pytest.raises(ConfigError, match="at least 2"):
        calibrate_with_truth(run, tmp_path, 1)


def test_reviewed_masks_set_the_level_and_teach_the_segmenter(copy_run, tmp_path, capsys):
    data, run = copy_run(tmp_path, *TINY_SEGMENTER)
    out = run.path
    with pytest.raises(StoreError, match="no reviewed mask in it"):
        fit_with_review(out)
    names = [f"images/{number}" for number in (0, 1, 2, 4, 5)]
    true = {name: read_mask(tmp_path / "truth" / f"{name.partition('/')[2]}.png").astype(np.uint8) for name in names}
    decisions = [Decision(name, "accepted", painted=True) for name in names]
    ReviewFolder(out).add([*decisions, Decision("images/3", "rejected")], {**true, "images/3": true["images/0"]}, 255)
    ran(capsys)
    run = fit_with_review(out)
    assert ran(capsys) == ["masks", "segmenter", "segmentation", "quality"]
    assert "5 known masks" in run.state.stages["masks"]["threshold_origin"]
    found = run.metrics()["with_review"]
    assert found["reviewed"] == {"painted": 5, "rejected": 1} and {"before", "after", "changed"} <= set(found)
    assert RunFolder.open(out / "review/before").stage_state("masks") == "finished"
    assert command(["compare", str(out / "review/before"), str(out)]) == 0
    capsys.readouterr()
    fit_with_review(out)
    assert ran(capsys) == []  # nothing new was decided
    assert RunFolder.open(out).metrics()["with_review"] == found
    ReviewFolder(out).add([Decision("images/3", "accepted")], {"images/3": np.zeros((64, 80), np.uint8)}, 255)
    assert command(["fit", str(out), "--with-review"]) == 0
    assert ran(capsys) == ["masks", "segmenter", "segmentation", "quality"]
    page = (out / "report.html").read_text()
    assert "With the review" in page and 'href="before-after.html"' in page and (out / "before-after.html").is_file()
    assert command(["fit", str(out), "--with-review", "--out", str(tmp_path / "x")]) == 2
    assert command(["fit", str(data)]) == 2


def test_reviewed_masks_that_agree_leave_the_level_alone(run, monkeypatch):
    """They are the most doubtful ones: only a level outside their interval is overruled."""
    out = run.path
    before = run.state.stages["masks"]["threshold"]
    ReviewFolder(out).add([Decision("images/0", "accepted")], {"images/0": np.zeros((64, 80), np.uint8)}, 255)
    for low, expected in ((0.0, before), (0.93, 0.95)):
        found = KnownLevel(0.95, (low, 1.0), ("images/0",), ((0.95, 0.5),))
        monkeypatch.setattr(masks_stage, "reviewed_level", lambda context, scores, found=found: found)
        run = fit_with_review(out, ["masks.ignore=0.02" if low == 0 else "masks.ignore=0.01"])
        stage = run.state.stages["masks"]
        assert stage["threshold"] == expected
        assert ("1 reviewed masks agree" in stage["threshold_origin"]) == (expected == before)
