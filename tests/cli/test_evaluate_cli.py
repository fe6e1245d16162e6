"""``recamlabel evaluate`` and ``recamlabel report`` as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from run_by_hand import TinyImage, make_run

from recamlabel.cli.main import run as run_cli
from recamlabel.storage.png import write_mask
from recamlabel.storage.run_folder import RunFolder

NAMES = ("[red] fox", "dog")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    fox, dog = [[[1.0, 1.0, 0.0, 0.0]]], [[[0.0, 0.0, 1.0, 1.0]]]
    return make_run(
        tmp_path,
        NAMES,
        [
            TinyImage("images/a", (NAMES[0],), fox, fox, [[1, 1, 0, 255]], split="train"),
            TinyImage("images/b", (NAMES[1],), dog, dog, [[0, 0, 2, 2]], split="val"),
        ],
    )


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    write_mask(tmp_path / "truth" / "a.png", np.array([[1, 1, 0, 0]], np.uint8))
    write_mask(tmp_path / "truth" / "b.png", np.array([[0, 0, 0, 2]], np.uint8))
    return tmp_path / "truth"


def evaluate(run: RunFolder, truth: Path, *more: str) -> int:
    return run_cli(["evaluate", str(run.path), "--truth", str(truth), *more])


def test_table(run: RunFolder, truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(run, truth) == 0
    out = capsys.readouterr().out
    assert "masks, all images: 2 images" in out
    rows = [line.replace("│", " ").split() for line in out.splitlines() if "│" in line]
    assert rows == [
        ["background", "60.0", "100.0", "60.0"],
        ["[red]", "fox", "100.0", "100.0", "100.0"],
        ["dog", "50.0", "50.0", "100.0"],
        ["mean", "IoU", "70.0"],
    ]
    assert "threshold 0.5 (as the masks were made, without ground truth); pixel accuracy 75.0 %" in out
    assert "87.5 % of the true pixels have a label, the others count as missed (mIoU without them: 75.0, " in out
    assert "; mIoU 70.0, 95 % interval 58.3 to 75.0" in out


def test_json_alone_on_stdout_and_in_metrics(run: RunFolder, truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(run, truth, "--what", "cam-seeds", "--split", "train", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert {"miou", "per_class", "threshold", "images", "unit"} <= set(printed)
    assert (printed["miou"], printed["images"], printed["unit"], printed["split"]) == (100.0, 1, "percent", "train")
    assert printed["threshold_origin"] == "chosen with ground truth"
    assert RunFolder.open(run.path).metrics()["evaluation"] == {"cam-seeds/train": printed}


def test_images_left_out_are_said(run: RunFolder, truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (truth / "b.png").unlink()
    assert evaluate(run, truth) == 0
    assert f"note: 1 images scored, 1 left out because {truth} has no mask for them" in capsys.readouterr().err


def test_truth_classes(run: RunFolder, truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = tmp_path / "names.txt"
    names.write_text("dog\n[red] fox\nbird\n")
    write_mask(truth / "a.png", np.array([[2, 2, 3, 0]], np.uint8))
    write_mask(truth / "b.png", np.array([[0, 0, 1, 1]], np.uint8))
    assert evaluate(run, truth, "--truth-classes", str(names), "--json") == 0
    streams = capsys.readouterr()
    assert json.loads(streams.out)["pixel_accuracy"] == 87.5
    assert "note: true classes that the run does not have count as background: bird" in streams.err


def test_errors_are_one_line_with_an_exit_code(
    run: RunFolder, truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [
        (evaluate(run, truth, "--split", "test"), 2, "--split: unknown 'test'. The splits are: train, val"),
        (
            evaluate(run, tmp_path / "gone"),
            1,
            f"{tmp_path / 'gone'}: no such folder; expected the folder with the true masks",
        ),
        (run_cli(["evaluate", str(tmp_path), "--truth", str(truth)]), 1, "not a run folder (no run.toml)"),
        (
            evaluate(run, truth, "--what", "maps"),
            2,
            "'maps' is not one of 'cam-seeds', 'recam-seeds', 'scores', 'masks'",
        ),
    ]
    for code, expected, _ in cases:
        assert code == expected
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    for _, _, message in cases:
        assert message in errors
    assert not (run.path / "metrics.json").exists()


def test_run_that_another_process_works_on(run: RunFolder, truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock(run.path / ".lock"):
        assert evaluate(run, truth) == 1
    assert "another recamlabel process is working on this run" in capsys.readouterr().err


def test_report_prints_where_the_page_is(run: RunFolder, truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["report", str(run.path), "--truth", str(truth), "--images", "1"]) == 0
    assert capsys.readouterr().out.strip() == str(run.path / "report.html")
    assert (run.path / "report.html").read_text().count("<article") == 1
    assert run_cli(["report", str(run.path), "--images", "0"]) == 2
    assert run_cli(["report", str(run.path), "--truth", str(run.path / "masks")]) == 1
