"""Another background level and back: what stands on the masks is outdated, then current again; nothing is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from recamlabel.cli.main import run as command
from recamlabel.config import load_config
from recamlabel.review.compare.runs import compare_runs
from recamlabel.review.page.report import write_report
from recamlabel.review.page.tables import read_quality_scores, review_rows, score_rows, scored
from recamlabel.run.engine import run_stage
from recamlabel.run.fit import fit, render
from recamlabel.storage.outdated import why_outdated
from recamlabel.storage.run_folder import RunFolder
from tests.helpers import TINY_SEGMENTER, make_tiny_csv

AFTER = ["segmenter", "segmentation", "quality"]


def config(*lines: str):
    return load_config(assignments=[*TINY_SEGMENTER, "probe.enabled=false", *lines])


def ran(capsys) -> list[str]:
    return [line.split(":")[0] for line in capsys.readouterr().err.splitlines() if ": done in" in line]


def states(run: RunFolder) -> dict[str, str]:
    return {name: RunFolder.open(run.path).stage_state(name) for name in ("masks", *AFTER)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> RunFolder:
    base = tmp_path_factory.mktemp("outdated")
    return fit(make_tiny_csv(base), base / "run", config())


@pytest.fixture
def run(finished, tmp_path) -> RunFolder:
    shutil.copytree(finished.path, tmp_path / "run")
    return RunFolder.open(tmp_path / "run")


@pytest.fixture
def data(finished) -> Path:
    return finished.path.parent / "data"


def test_another_level_and_back_loses_nothing(run, data, capsys):
    files = ("weights/segmenter.safetensors", "segmenter.h5", "quality.json")
    kept = {name: (run.path / name).read_bytes() for name in files}
    keys = {name: run.key_of(name) for name in AFTER}
    with h5py.File(run.path / "masks.h5") as file:
        before = file["images/2"][()]
    assert command(["masks", str(run.path), "--threshold", "0.9"]) == 0
    assert "note: the segmenter is outdated (masks.threshold auto -> 0.9)" in capsys.readouterr().err
    assert states(run) == {"masks": "finished", **dict.fromkeys(AFTER, "outdated")}
    assert why_outdated(RunFolder.open(run.path), "quality") == "masks.threshold auto -> 0.9"
    assert command(["masks", str(run.path), "--threshold", "auto"]) == 0
    assert "outdated" not in capsys.readouterr().err
    assert set(states(run).values()) == {"finished"}
    with h5py.File(run.path / "masks.h5") as file:
        assert np.array_equal(file["images/2"][()], before)
    fit(data, run.path, config())
    assert ran(capsys) == []
    again = RunFolder.open(run.path)
    assert {name: again.key_of(name) for name in AFTER} == keys
    assert {name: (run.path / name).read_bytes() for name in files} == kept


def test_the_first_command_again_brings_the_old_level_back_and_trains_nothing(run, data, capsys):
    render(run.path, 0.9)
    ran(capsys)
    fit(data, run.path, config())
    assert ran(capsys) == ["masks"] and set(states(run).values()) == {"finished"}


def test_fit_at_the_new_level_trains_again_and_a_stopped_one_never_passes_for_finished(
    run, data, capsys, monkeypatch, tmp_path
):
    render(run.path, 0.9)
    ran(capsys)

    def stop(view, one):
        if one.name == "segmenter":
            view.run.begin(one.name)
            raise KeyboardInterrupt
        return run_stage(view, one)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("recamlabel.run.engine.run_stage", stop)
        fit(data, run.path, config("masks.threshold=0.9"))
    outdated = dict.fromkeys(AFTER, "outdated")
    assert states(run) == {"masks": "finished", **outdated, "segmenter": "not run"}
    # The files of the segmenter before are still there; nothing may take them for this run's.
    assert (run.path / "segmenter.h5").is_file()
    for verb in (
        ["predict", str(run.path), str(data / "images"), "--out", str(tmp_path / "new")],
        ["export-model", str(run.path), "--format", "onnx", "--out", str(tmp_path / "model.onnx")],
    ):
        assert command(verb) == 1, verb
    # Its masks are whole: they are of the level before, and said to be.
    assert "Segmenter (outdated)" in write_report(RunFolder.open(run.path)).read_text()
    ran(capsys)
    target = ["--format", "voc", "--out", str(tmp_path / "out"), "--what", "segmenter"]
    assert command(["export", str(run.path), *target]) == 0
    assert "note: the segmenter is outdated (masks.threshold auto -> 0.9)" in capsys.readouterr().err
    fit(data, run.path, config("masks.threshold=0.9"))
    assert ran(capsys) == AFTER and set(states(run).values()) == {"finished"}


def test_a_rendering_that_was_stopped_leaves_the_segmenter_outdated(run, monkeypatch, capsys):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("recamlabel.masks.render.save_mask", stop)
        render(run.path, 0.9)
    assert states(run) == {"masks": "not run", **dict.fromkeys(AFTER, "outdated")}
    assert why_outdated(RunFolder.open(run.path), "segmenter") == "masks.threshold auto -> 0.9"
    render(run.path, "auto")
    assert set(states(run).values()) == {"finished"}


def test_an_outdated_segmenter_predicts_and_says_so(run, data, tmp_path, capsys):
    render(run.path, 0.9)
    capsys.readouterr()
    assert command(["predict", str(run.path), str(data / "images/0.png"), "--out", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().err.splitlines()[0] == (
        f"note: the segmenter is outdated (masks.threshold auto -> 0.9); `recamlabel fit {run.path}` trains it again, "
        "the earlier setting makes it current again"
    )
    assert (tmp_path / "new/masks/0.png").is_file()


def test_nothing_outdated_is_shown_as_current(run, data, capsys):
    truth = str(data.parent / "truth")
    for what in ("masks", "segmenter"):
        assert command(["evaluate", str(run.path), "--truth", truth, "--what", what]) == 0
    whole, scores = RunFolder.open(run.path), ["masks", "complete-masks", "segmenter"]
    assert {row["key"]: row["outdated"] for row in score_rows(whole)} == dict.fromkeys(scores, False)
    assert scored(whole) == scores and read_quality_scores(whole) is not None
    assert ">Segmenter<" in (page := write_report(whole).read_text()) and "(outdated)" not in page
    render(run.path, 0.9)
    other = RunFolder.open(run.path)
    assert {row["key"]: row["outdated"] for row in score_rows(other)} == dict.fromkeys(scores, True)
    assert scored(other) == [] and read_quality_scores(other) is None
    page = write_report(other).read_text()
    assert "Segmenter (outdated)" in page and ">Segmenter<" not in page
    shutil.copytree(run.path, run.path.with_name("copy"))
    copy = RunFolder.open(run.path.with_name("copy"))
    render(copy.path, "auto")
    stages = {one.name: (one.first, one.second) for one in compare_runs(other, RunFolder.open(copy.path)).stages}
    assert stages["segmenter"] == ("outdated", whole.key_of("segmenter"))


def test_a_run_of_an_earlier_version_keeps_its_segmenter_too(run):
    run.state.plan, run.state.inputs = {}, {}
    keys = {name: f"old-{name}" for name in run.state.stages}
    for name, record in run.state.stages.items():
        record["key"] = keys[name]
    for name, need in (("segmenter", "masks"), ("segmentation", "segmenter"), ("quality", "segmentation")):
        run.state.stages[name]["inputs"] = {need: keys[need]}
    assert states(run) == dict.fromkeys(("masks", *AFTER), "finished")
    run.save()
    render(run.path, 0.9)
    assert states(run) == {"masks": "finished", **dict.fromkeys(AFTER, "outdated")}
    assert why_outdated(RunFolder.open(run.path), "segmenter") == "masks.threshold auto -> 0.9"
    render(run.path, "auto")
    assert set(states(run).values()) == {"finished"}


def test_a_fit_builds_on_nothing_of_an_earlier_version_and_says_so(run, data, capsys):
    text = (run.path / "run.toml").read_text().replace("format = 2", "format = 1")
    start, end = text.index("[plan]"), text.index("[stages.")
    inputs = text.index("[inputs.")
    (run.path / "run.toml").write_text(text[:start] + text[end:inputs])
    old = RunFolder.open(run.path)
    for name, record in old.state.stages.items():
        record["key"] = f"old-{name}"
    old.save()
    (run.path / "run.toml").write_text((run.path / "run.toml").read_text().replace("format = 2", "format = 1"))
    assert command(["status", str(run.path)]) == 0 and " outdated " not in capsys.readouterr().out
    target = ["--format", "voc", "--out", str(run.path.parent / "voc"), "--images", "none"]
    assert command(["export", str(run.path), *target]) == 0
    capsys.readouterr()
    assert command(["fit", str(run.path), "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "made by an earlier version of recamlabel, whose results are read and exported, but not built on" in text
    assert "redoes gate (" in text or "redoes features (" in text


def test_the_table_of_a_review_goes_with_its_masks(run):
    row = {"criterion": 0.5, "threshold": 0.4, "withheld": 0.1, "quality": 0.8}
    run.update_metrics("with_review", {"digest": "d", "before": row, "after": row}, stage="quality")
    assert [one["round"] for one in review_rows(run)] == ["before", "after"]
    render(run.path, 0.9)
    assert review_rows(RunFolder.open(run.path)) == []


def test_other_settings_of_the_segmenter_leave_no_old_one(run, data, monkeypatch, capsys):
    """Masks of the old key do not save a segmenter of another key."""
    render(run.path, 0.9)

    def stop(view, one):
        raise KeyboardInterrupt

    monkeypatch.setattr("recamlabel.run.engine.run_stage", stop)
    with pytest.raises(KeyboardInterrupt):
        fit(data, run.path, config("segmenter.lr=0.5"))
    assert set(states(run).values()) == {"outdated"}
    assert why_outdated(RunFolder.open(run.path), "segmenter") == "segmenter.lr 0.01 -> 0.5"


def test_a_stage_that_the_settings_leave_out_is_not_current(run, data, capsys):
    fit(data, run.path, config("segmenter.enabled=false"))
    again = RunFolder.open(run.path)
    assert again.stage_state("segmenter") == "outdated" and again.artifact("segmenter.h5") is None
    assert why_outdated(again, "segmentation") == "the settings have no stage segmentation"
    ran(capsys)
    fit(data, run.path, config())
    assert ran(capsys) == ["quality"] and set(states(run).values()) == {"finished"}


def test_versions_are_those_that_made_the_results(run, data, monkeypatch, capsys):
    before = run.state.versions
    monkeypatch.setattr("recamlabel.run.engine.versions", lambda: {**before, "torch": "99"})
    fit(data, run.path, config())
    assert ran(capsys) == [] and RunFolder.open(run.path).state.versions == before
    fit(data, run.path, config("masks.threshold=0.3"))
    again = RunFolder.open(run.path)
    assert again.state.versions["torch"] == "99" == again.state.stages["masks"]["versions"]["torch"]
    assert again.state.stages["refine"]["versions"] == before
