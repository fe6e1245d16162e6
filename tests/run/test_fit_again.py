"""`fit` on an earlier run: what it says before it redoes, its own settings, and a review that is continued."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recamlabel.cli.main import run as command
from recamlabel.config import load_config
from recamlabel.errors import RecamlabelError, StoreError
from recamlabel.masks.reviewed import Decision, ReviewFolder
from recamlabel.run import engine, review_round
from recamlabel.run.engine import run_stage
from recamlabel.run.fit import Hooks, fit, render
from recamlabel.run.review_round import fit_with_review
from recamlabel.storage.run_folder import RunFolder
from tests.helpers import TINY_SEGMENTER, draw, make_tiny_csv

LINES = [*TINY_SEGMENTER, "probe.enabled=false"]
SETTINGS = [part for line in LINES for part in ("--set", line)]
REVIEW_STAGES = ["masks", "segmenter", "segmentation", "quality"]


def config(*lines: str):
    return load_config(assignments=[*LINES, *lines])


def ran(text: str) -> list[str]:
    return [line.split(":")[0] for line in text.splitlines() if ": done in" in line]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> RunFolder:
    base = tmp_path_factory.mktemp("again")
    return fit(make_tiny_csv(base), base / "run", config())


@pytest.fixture
def run(finished, tmp_path) -> RunFolder:
    """A copy of a finished run, with a copy of its data."""
    base = finished.path.parent
    shutil.copytree(base / "run", tmp_path / "run")
    shutil.copytree(base / "data", tmp_path / "data")
    # Links into the data set would be shared: give the copy its own.
    found = RunFolder.open(tmp_path / "run")
    for name in ("run.toml", "work/dataset.json"):
        file = found.path / name
        file.write_text(file.read_text().replace(str(base / "data"), str(tmp_path / "data")))
    fit(tmp_path / "data", found.path, config())
    return RunFolder.open(found.path)


def accept(run: RunFolder, *numbers: int) -> None:
    """Empty masks, accepted: their level is another one than the run's."""
    names = [f"images/{number}" for number in numbers]
    masks = {name: np.zeros((64, 80), np.uint8) for name in names}
    ReviewFolder(run.path).add([Decision(name, "accepted", painted=True) for name in names], masks, 255)


def stop_at(patch: pytest.MonkeyPatch, name: str, *, after: bool) -> None:
    """A process that ends in a stage, or right after it."""

    def stopping(view, one):
        if one.name != name:
            return run_stage(view, one)
        if after:
            run_stage(view, one)
        else:
            view.run.begin(one.name)
        raise KeyboardInterrupt

    patch.setattr(engine, "run_stage", stopping)


def stop_before_the_metrics(patch: pytest.MonkeyPatch) -> None:
    def stop(*arguments):
        raise KeyboardInterrupt

    patch.setattr(review_round, "mask_facts", stop)


def stop_in_the_snapshot(patch: pytest.MonkeyPatch) -> None:
    def half(run, own):
        whole(run, own)
        raise KeyboardInterrupt

    whole = review_round.snapshot
    patch.setattr(review_round, "snapshot", half)


KILLS = {
    "in the snapshot": stop_in_the_snapshot,
    "in masks": lambda patch: stop_at(patch, "masks", after=False),
    "after masks": lambda patch: stop_at(patch, "masks", after=True),
    "in segmenter": lambda patch: stop_at(patch, "segmenter", after=False),
    "in quality": lambda patch: stop_at(patch, "quality", after=False),
    "before the metrics": stop_before_the_metrics,
}


@pytest.mark.parametrize("place", KILLS)
def test_a_review_is_continued_after_a_kill_and_before_stays_before(run, monkeypatch, place, capsys):
    before = (run.path / "masks.h5").read_bytes()
    level = run.state.stages["masks"]["threshold"]
    accept(run, 0, 1, 2, 4, 5)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        KILLS[place](patch)
        fit_with_review(run.path)
    for _ in range(2):
        assert command(["fit", str(run.path), "--with-review"]) == 0
        assert (run.path / "review/before/masks.h5").read_bytes() == before
    after = RunFolder.open(run.path)
    found = after.metrics()["with_review"]
    assert after.state.stages["masks"]["threshold"] != level
    assert (found["before"]["threshold"], found["after"]["threshold"]) == (
        level,
        after.state.stages["masks"]["threshold"],
    )
    assert found["changed"] > 0 and "With the review" in (run.path / "report.html").read_text()


def status(run: RunFolder, capsys) -> str:
    capsys.readouterr()
    assert command(["status", str(run.path)]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_decisions_made_while_a_redo_is_unfinished_keep_what_was_before_it(run, monkeypatch, capsys):
    before = (run.path / "masks.h5").read_bytes()
    accept(run, 0, 1, 2, 4, 5)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, "segmenter", after=False)
        fit_with_review(run.path)
    line = f"fit --with-review was stopped before its end: `recamlabel fit {run.path} --with-review` goes on with it"
    assert line in status(run, capsys)
    accept(run, 6)
    assert line in status(run, capsys)
    fit_with_review(run.path)
    assert "was stopped" not in status(run, capsys)
    assert (run.path / "review/before/masks.h5").read_bytes() == before
    # Decisions after a finished redo: the state after it is what was before them.
    after = (run.path / "masks.h5").read_bytes()
    accept(run, 7)
    fit_with_review(run.path)
    assert (run.path / "review/before/masks.h5").read_bytes() == after != before


def test_a_redo_that_was_given_up_is_not_unfinished(run, monkeypatch, capsys):
    accept(run, 0, 1, 2, 4, 5)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, "masks", after=True)
        fit_with_review(run.path)
    assert "fit --with-review was stopped" in status(run, capsys)
    fit(run.path.parent / "data", run.path, config())
    assert "was stopped" not in status(run, capsys)


def test_a_plain_fit_in_between_is_what_was_before(run):
    accept(run, 0, 1, 2, 4, 5)
    fit_with_review(run.path)
    fit(run.path.parent / "data", run.path, config("masks.ignore=none"))
    plain = (run.path / "masks.h5").read_bytes()
    fit_with_review(run.path)
    assert (run.path / "review/before/masks.h5").read_bytes() == plain


def test_a_run_that_is_not_finished_is_no_before(run, monkeypatch):
    accept(run, 0)
    run.begin("segmenter")
    with pytest.raises(StoreError, match=r"stage 'segmenter' is not run; run `recamlabel fit .*run` first"):
        fit_with_review(run.path)
    assert not (run.path / "review/before").exists()


def test_an_image_that_came_in_since_does_not_stop_the_comparison(run):
    accept(run, 0, 1, 2, 4, 5)
    draw(run.path.parent / "data/images/new.png", ["red"], 50)
    table = run.path.parent / "data/labels.csv"
    table.write_text(table.read_text() + "images/new.png,red,train\n")
    found = fit_with_review(run.path).metrics()["with_review"]
    assert 0 < found["changed"] <= 1


def test_a_forgotten_setting_is_said_before_anything_is_redone(run, capsys):
    data, out = run.path.parent / "data", run.path
    state = (out / "run.toml").read_bytes()
    arguments = ["fit", str(data), "--out", str(out), *SETTINGS]
    assert command([*arguments, "--set", "segmenter.lr=0.001", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert text.splitlines() == [
        f"{out}: 1 setting differs from what the run was made with",
        "  segmenter.lr 0.01 -> 0.001",
        text.splitlines()[2],
        f"(`recamlabel fit {out}` alone goes on with the run's own settings)",
        "to run: segmenter, segmentation, quality",
        "up to date: features, gate, classifier, recam, maps, refine, calibration, masks",
    ]
    assert text.splitlines()[2].startswith(f"{out}: redoes segmenter (")
    assert (out / "run.toml").read_bytes() == state
    with pytest.raises(RecamlabelError, match="nothing was changed"):
        fit(data, out, config("segmenter.lr=0.001"), hooks=Hooks(agree=lambda: False))
    assert (out / "run.toml").read_bytes() == state
    capsys.readouterr()
    # No terminal: it says the same, and goes on.
    assert command([*arguments, "--set", "segmenter.lr=0.001"]) == 0
    text = capsys.readouterr().err
    assert text.index("  segmenter.lr 0.01 -> 0.001") < text.index("segmenter: done in")
    assert ran(text) == ["segmenter", "segmentation", "quality"]


def test_on_a_terminal_it_asks(run, capsys, monkeypatch):
    asked: list[str] = []

    def no(text: str, **_) -> bool:
        asked.append(text)
        return False

    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", no)
    arguments = ["fit", str(run.path), "--set", "segmenter.predict.flip=false"]
    assert command(arguments) == 1 and asked == ["Go on?"]
    assert "nothing was changed" in capsys.readouterr().err
    assert command([*arguments, "--yes"]) == 0 and len(asked) == 1
    assert command(["fit", str(run.path)]) == 0 and len(asked) == 1  # nothing finished is redone


def test_fit_of_a_run_alone_goes_on_with_its_own_settings(run, capsys):
    capsys.readouterr()
    assert command(["fit", str(run.path)]) == 0
    assert ran(capsys.readouterr().err) == []
    run.begin("segmentation")
    assert command(["fit", str(run.path)]) == 0
    text = capsys.readouterr().err
    assert ran(text) == ["segmentation"] and "redoes" not in text  # equal keys: the scores are those of these masks
    assert command(["fit", str(run.path), "--set", "segmenter.predict.flip=false"]) == 0
    text = capsys.readouterr().err
    assert ran(text) == ["segmentation", "quality"] and "  segmenter.predict.flip true -> false" in text
    assert RunFolder.open(run.path).state.config["classifier"]["max_steps"] == 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--preset", "paper"], "--preset: the run given as SOURCE has its own settings"),
        (["--config", "x.toml", "--with-review"], "--config: the run given as SOURCE has its own settings"),
        (["--out", "other"], "is a run, which goes on with `recamlabel fit"),
    ],
)
def test_nothing_given_beside_a_run_is_dropped_in_silence(finished, capsys, more, message):
    assert command(["fit", str(finished.path), *more]) == 2
    assert message in capsys.readouterr().err


def test_a_run_without_a_data_set_is_told(tmp_path, capsys):
    RunFolder.create(tmp_path / "run")
    assert command(["fit", str(tmp_path / "run")]) == 1
    assert "the run has no data set yet; `recamlabel fit SOURCE --out" in capsys.readouterr().err


def test_changed_data_is_said(run, capsys):
    data = run.path.parent / "data"
    table = data / "labels.csv"
    table.write_text(table.read_text().replace("images/0.png,red,train", "images/0.png,blue,val"))
    Image.new("RGB", (80, 64), (9, 9, 9)).save(data / "images/3.png")
    capsys.readouterr()
    assert command(["fit", str(run.path), "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "the data changed: 1 image with other labels, 1 image in another split, 1 image with other pixels" in text
    assert "differs" not in text and "redoes features (" in text


def test_masks_rendered_since_are_the_reason_to_train_again(run, capsys):
    render(run.path, 0.9)
    capsys.readouterr()
    assert command(["fit", str(run.path), "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "rendered again since the segmenter was trained (masks.threshold auto -> 0.9)" in text
    assert "to run: segmenter, segmentation, quality\n" in text


def test_there_is_a_page_before_the_segmenter_and_its_failure_stops_nothing(run, monkeypatch, capsys):
    pages: list[Path] = []

    def made(folder: RunFolder) -> None:
        assert folder.stage_state("masks") == "finished" and folder.stage_state("segmenter") == "outdated"
        pages.append(folder.path)
        raise OSError("no space left")

    data = run.path.parent / "data"
    fit(data, run.path, config("masks.ignore=none"), hooks=Hooks(masks_made=made))
    assert pages == [run.path]
    assert "no page to look at yet (no space left); fit goes on" in capsys.readouterr().err
    fit(data, run.path, config("masks.ignore=none", "segmenter.lr=0.5"), hooks=Hooks(masks_made=made))
    assert pages == [run.path]  # the masks are what they were
    (run.path / "report.html").unlink(missing_ok=True)
    with monkeypatch.context() as patch:
        stop_at(patch, "segmenter", after=False)
        assert command(["fit", str(run.path), "--set", "masks.ignore=auto"]) == 130
    assert "a first look: " in capsys.readouterr().out and (run.path / "report.html").is_file()
