"""The gate in a run: what it reads and writes, and that it and the other stages leave each other alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import TINY

import recamlabel.stages.features as features
import recamlabel.stages.gate as stage
from recamlabel.config import Config, load_config
from recamlabel.errors import StoreError
from recamlabel.review.page.report import write_report
from recamlabel.run.fit import fit
from recamlabel.storage.run_folder import RunFolder

CopyRun = Callable[..., tuple[Path, Any]]


def config(*lines: str) -> Config:
    return load_config("quick", assignments=[*TINY, "refine.method=none", *lines])


def ran(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.split(":")[0] for line in capsys.readouterr().err.splitlines() if ": done in" in line]


@pytest.fixture(scope="module")
def finished(copy_run: CopyRun, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run: RunFolder = copy_run(tmp_path_factory.mktemp("gate"), *TINY, "refine.method=none")[1]
    return run


@pytest.fixture
def run(copy_run: CopyRun, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the data set and of its finished run."""
    source, run = copy_run(tmp_path, *TINY, "refine.method=none")
    # The record of the data set names the other copy of the images: read the labels once.
    fit(source, run.path, config())
    return source, run.path


def test_what_it_writes(finished: RunFolder) -> None:
    tree = json.loads((finished.path / "work/gate.json").read_text())
    assert finished.section("gate") == tree and tree["stage_key"] == finished.key_of("gate")
    assert [(one["name"], one["positives"], one["negatives"], one["unknown"]) for one in tree["classes"]] == [
        ("red", 3, 3, 0),
        ("blue", 3, 3, 0),
    ]
    assert {one["verdict"] for one in tree["classes"]} == {"do not trust"} and tree["images"] == 8
    record = finished.state.stages["gate"]
    assert (record["ok"], record["weak"], record["do_not_trust"]) == (0, 0, 2)
    with h5py.File(finished.path / "work/features.h5") as file:
        assert file["images/0"].shape == (1280,) and np.isfinite(file["images/0"][()]).all()


def test_fit_says_a_line_for_each_class_that_is_not_ok(
    tiny_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tiny_csv, tmp_path / "run", config(), until="gate")
    err = capsys.readouterr().err
    assert "gate: red: do not trust: only 3 training images with it: too rare to learn" in err
    assert err.count("gate: blue: ") == 1


def test_a_changed_gate_redoes_the_gate_alone(run: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    source, out = run
    ran(capsys)
    fit(source, out, config("gate.min_positives=2"))
    assert ran(capsys) == ["gate"]
    assert json.loads((out / "work/gate.json").read_text())["classes"][0]["verdict"] == "weak"
    (out / "work/gate.json").unlink()
    fit(source, out, config("gate.min_positives=2"))
    assert ran(capsys) == ["gate"]


def test_changed_stages_leave_the_gate_alone(run: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    source, out = run
    ran(capsys)
    fit(source, out, config("classifier.lr=0.01", "seed=3"))
    assert ran(capsys) == ["classifier", "recam", "maps", "probe", "refine", "calibration", "masks", "quality"]


def test_an_older_run_gets_the_gate_and_keeps_the_rest(
    run: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = run
    older = RunFolder.open(out)
    del older.state.stages["gate"]
    older.save()
    (out / "work/gate.json").unlink()
    (out / "work/features.h5").unlink()  # a cache: made again, as the gate needs it
    ran(capsys)
    fit(source, out, config())
    assert ran(capsys) == ["features", "gate"]
    (out / "work/features.h5").unlink()
    fit(source, out, config())
    assert ran(capsys) == []  # and not where nobody does


def test_a_corrected_label_needs_no_second_pass(run: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = run

    def never(*args: object) -> None:
        raise AssertionError("a pass through the network")

    monkeypatch.setattr(features, "pretrained", never)
    table = source / "labels.csv"
    table.write_text(table.read_text().replace("images/0.png,red,train", "images/0.png,blue,train"))
    fit(source, out, config(), until="gate")
    tree = json.loads((out / "work/gate.json").read_text())
    assert [one["positives"] for one in tree["classes"]] == [2, 4]


def test_an_interrupted_redo_forgets_the_gate_of_the_old_labels(
    run: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = run
    table = source / "labels.csv"
    table.write_text(table.read_text().replace("images/0.png,red,train", "images/0.png,blue,train"))

    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "assess", stop)
    with pytest.raises(KeyboardInterrupt):
        fit(source, out, config())
    again = RunFolder.open(out)
    assert again.stage_state("gate") == "not run" and again.section("gate") == {}
    assert again.stage_state("classifier") == again.stage_state("masks") == "outdated"
    assert "Not judged yet" in write_report(again).read_text(encoding="utf-8")


def test_the_features_do_not_depend_on_training(run: tuple[Path, Path]) -> None:
    source, out = run
    (out / "work/features.h5").rename(out / "before.h5")
    fit(source, out, config("classifier.lr=0.5", "classifier.min_steps=2", "gate.folds=2"), until="classifier")
    with h5py.File(out / "before.h5") as one, h5py.File(out / "work/features.h5") as two:
        for number in range(8):
            assert np.array_equal(one[f"images/{number}"][()], two[f"images/{number}"][()])


def test_without_weights_it_runs_and_warns(tiny_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit(tiny_csv, tmp_path / "run", config("backbone.weights=none"), until="gate")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gate: ") and "done" not in line]
    assert lines == ["gate: backbone.weights=none: the features are random, so these verdicts are not to be used"]
    assert "the features are random" in write_report(run).read_text(encoding="utf-8")


def test_the_report_lists_and_shows_suspects(run: tuple[Path, Path]) -> None:
    out = run[1]
    tree = json.loads((out / "work/gate.json").read_text())
    one = {"image": "images/2", "name": "red", "probability": 0.0123, "typical": 0.5}
    (out / "work/gate.json").write_text(json.dumps({**tree, "doubtful": [one] * 60, "missing": []}))
    page = write_report(RunFolder.open(out)).read_text(encoding="utf-8")
    assert "Labels that never fire (60)" in page and "Probably missing labels" not in page
    assert page.count("<td>red</td>") == 50 and "The first 50" in page and "0.012" in page
    assert page.count("<figcaption>red? images/2</figcaption>") == 8
    (out / "work/gate.json").write_text("{}")
    with pytest.raises(StoreError, match=r"gate\.json: damaged .*; delete it and run `recamlabel fit` again"):
        write_report(RunFolder.open(out))


def test_the_report_shows_it(finished: RunFolder) -> None:
    page = write_report(finished).read_text(encoding="utf-8")
    assert "0 ok, 0 weak, 2 do not trust" in page
    assert "only 3 training images with it: too rare to learn" in page
