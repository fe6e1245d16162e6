"""``benchmarks/datasets.py``: one table a data set, from labels to masks."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
from helpers import TINY, TINY_SEGMENTER, load_script

from recamlabel.demo.scenes import SceneSettings, make_scenes
from recamlabel.evaluation.evaluate import evaluate_run
from recamlabel.storage.hdf5 import leaf_paths
from recamlabel.storage.png import read_mask
from recamlabel.storage.run_folder import RunFolder

CLASSES = ("starfish", "fish")
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "datasets.py"
SETTINGS = [*TINY, "backbone.name=resnet18", "backbone.weights=none", "refine.method=none", "probe.images=4"]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(SCRIPT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight scenes of 48x48 pixels, two classes, the masks where the shared data sets have them."""
    made = make_scenes(tmp_path_factory.mktemp("scenes"), SceneSettings(images=8, classes=2, side=48, empty=0))
    shutil.copytree(made.truth, made.labels.parent / "masks")
    return made.labels.parent


def table(text: str) -> dict[str, str]:
    """Rows by name."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {row[0].strip(): row[-1].strip() for row in rows}


def test_every_step_then_only_evaluated(
    script: ModuleType, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = [str(folder), "--runs", str(tmp_path), "--markdown"]
    chosen = [part for line in SETTINGS for part in ("--set", line)]
    assert script.main([*common, *chosen, "--until", "classifier"]) == 0
    early = table(capsys.readouterr().out)
    # H(p) of two classes in some of the seven training images: below log 2, above 0.
    assert 0 < float(early["classifier: guessing loss"]) < 0.6932
    assert float(early["classifier: reached loss"]) > 0
    assert early["CAM, level with masks"] == early["what remains"] == early["objects without a pixel"] == "-"
    assert script.main([*common, *chosen]) == 0
    full = table(capsys.readouterr().out)
    assert full["classifier: reached loss"] == early["classifier: reached loss"]
    run, masks = RunFolder.open(tmp_path / "data-seed0"), folder / "masks"
    for name, what in {"CAM, level with masks": "cam-seeds", "refined scores, level with masks": "scores"}.items():
        found = evaluate_run(run, masks, what)  # type: ignore[arg-type]
        assert full[name] == f"{found.miou:.1f} at {found.threshold:.2f}"
    left, complete = (evaluate_run(run, masks, what) for what in ("masks", "complete-masks"))  # type: ignore[arg-type]
    assert full["complete masks, automatic level"] == f"{complete.miou:.1f}"
    assert full["what remains"] == f"{100 * left.scores.miou_covered:.1f}"
    assert full["withheld, % of the true pixels"] == f"{100 - 100 * left.scores.coverage:.1f}"
    assert full["finer maps, level with masks"] == full["segmenter on val"] == "-"
    assert full["joined with the probe, level with masks"] != "-"
    labels = [row.split(",")[1].split() for row in (folder / "labels.csv").read_text().splitlines()[1:]]
    drawn = sum(map(len, labels))
    missing, among = map(int, full["objects without a pixel"].split(" of "))
    held = [set(np.unique(read_mask(file)).tolist()) for file in sorted((run.path / "masks").rglob("*.png"))]
    there = sum(CLASSES.index(name) + 1 in ids for names, ids in zip(labels, held, strict=True) for name in names)
    assert (among, missing) == (drawn, drawn - there)
    assert float(full["seconds: masks"]) > 0
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    assert script.main([*common, "--only-evaluate"]) == 0
    assert table(capsys.readouterr().out) == full
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


def test_seeds_beside_each_other_and_a_run_that_is_not_there(
    script: ModuleType, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [part for line in SETTINGS for part in ("--set", line)]
    common = [str(folder), "--runs", str(tmp_path), "--markdown"]
    assert script.main([*common, *chosen, "--until", "gate"]) == 0
    assert script.main([*common, "--seeds", "0", "1", "--only-evaluate"]) == 1
    output = capsys.readouterr().out
    assert "| seed 0 | seed 1 |" in " ".join(output.split())
    assert "stopped: " in output and "data-seed1: no run" in output


def test_the_limit_is_taught_by_the_true_masks_in_a_copy(
    script: ModuleType, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*SETTINGS, *TINY_SEGMENTER[len(TINY) :], "segmenter.predict.smooth=none"]
    chosen = [part for line in settings for part in ("--set", line)]
    assert script.main([str(folder), "--runs", str(tmp_path), "--markdown", "--limit", *chosen]) == 0
    rows = table(capsys.readouterr().out)
    assert 0 <= float(rows["segmenter trained on the true masks, on val"]) <= 100
    run, copy = (tmp_path / name for name in ("data-seed0", "data-seed0-limit"))
    for file in sorted((folder / "masks").rglob("*.png")):
        with h5py.File(copy / "masks.h5") as taught, h5py.File(run / "masks.h5") as pseudo:
            found = [name for name in leaf_paths(taught) if name.endswith(file.stem)]
            assert len(found) == 1
            assert np.array_equal(taught[found[0]][()], read_mask(file))
            assert not np.array_equal(pseudo[found[0]][()], read_mask(file))
