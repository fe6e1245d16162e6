"""``compare --truth`` and the page's large numbers: withholding less, or more, wins nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from run_by_hand import TinyImage, make_run

from recamlabel.cli.main import run as command
from recamlabel.review.compare.page import write_comparison
from recamlabel.review.compare.runs import compare_runs
from recamlabel.storage.hdf5 import ShardedWriter
from recamlabel.storage.png import write_mask
from recamlabel.storage.run_folder import RunFolder

TRUTH = [[1, 1, 1, 1, 0, 0, 0, 0, 0, 0]]
# A is right with 60 % of the pixels; B answers all, and is wrong with one more.
CAREFUL, BOLD = [[1, 1, 1, 255, 255, 255, 255, 0, 0, 0]], [[1, 1, 1, 1, 1, 1, 0, 0, 0, 0]]
A_SCORES, B_SCORES = [[9, 9, 9, 9, 6, 1, 1, 1, 1, 1]], [[9, 9, 9, 9, 9, 9, 1, 1, 1, 1]]


def made(folder: Path, name: str, mask: list[list[int]], scores: list[list[int]], images: int = 4) -> RunFolder:
    maps = np.zeros((1, 1, 10))
    tiny = [TinyImage(f"images/{number}", ("dent",), maps, maps, mask) for number in range(images)]
    run = make_run(folder, ("dent",), tiny, name)
    with ShardedWriter(run.path / "work/scores.h5", "key", {}) as writer:
        for image in tiny:
            soft = np.array([scores], dtype=np.uint8) * 28
            writer.add(image.id, {f"scores/{image.id}": (soft, {"class_ids": np.array([1], np.int32)})})
        writer.finish()
    run.finish("refine", "refine-key", 1.0, ["work/scores.h5"])
    return run


@pytest.fixture
def runs(tmp_path: Path) -> tuple[RunFolder, RunFolder]:
    for number in range(4):
        write_mask(tmp_path / "truth" / f"{number}.png", np.array(TRUTH, np.uint8))
    return made(tmp_path, "careful", CAREFUL, A_SCORES), made(tmp_path, "bold", BOLD, B_SCORES)


def test_all_measures_together(runs: tuple[RunFolder, RunFolder], tmp_path: Path) -> None:
    scores = compare_runs(*runs, tmp_path / "truth").scores
    assert scores is not None and scores.complete is not None
    # As missed pixels the withheld ones would make B the winner: 62.5 mIoU of A, 66.7 of B.
    assert scores.second.miou > scores.first.miou
    # Complete: A takes one pixel of background (4/5, 5/6), B two (4/6, 4/6). What remains of A is all right.
    assert [(one.name, one.first, one.second) for one in scores.measures] == [
        ("mIoU of the complete masks", pytest.approx((4 / 5 + 5 / 6) / 2), pytest.approx(2 / 3)),
        ("mIoU of what remains", 1, pytest.approx(2 / 3)),
        ("coverage", 0.6, 1),
    ]
    # All images are alike, so is every drawing of them.
    complete = scores.measures[0].interval
    assert complete == pytest.approx((2 / 3 - 49 / 60, 2 / 3 - 49 / 60))
    assert [side.tolist() for side in scores.iou()] == [pytest.approx([5 / 6, 4 / 5]), pytest.approx([4 / 6, 4 / 6])]


def test_the_winner_in_the_terminal_and_on_the_page(
    runs: tuple[RunFolder, RunFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = tmp_path / "truth"
    assert command(["compare", *(str(run.path) for run in runs), "--truth", str(truth)]) == 0
    out = capsys.readouterr().out
    assert (
        "A → B over 4 images, in percent: "
        "mIoU of the complete masks 81.7 → 66.7 (−15.0, 95 % interval −15.0 to −15.0); "
        "mIoU of what remains 100.0 → 66.7 (−33.3, 95 % interval −33.3 to −33.3); "
        "coverage 60.0 → 100.0 (+40.0, 95 % interval +40.0 to +40.0)"
    ) in out
    assert "IoU of the complete masks" in out
    page = write_comparison(compare_runs(*runs, truth), tmp_path / "page.html").read_text()
    head = page.partition("</header>")[0]
    for text in (
        "<b>81.7 → 66.7</b>",
        "<b>100.0 → 66.7</b>",
        "<b>60.0 → 100.0</b>",
        "−15.0, 95 % interval −15.0 to −15.0",
    ):
        assert text in head, text
    assert "62.5 → 66.7" not in page


def test_one_image_has_no_interval(tmp_path: Path) -> None:
    write_mask(tmp_path / "truth" / "0.png", np.array(TRUTH, np.uint8))
    first, second = (made(tmp_path, name, CAREFUL, A_SCORES, images=1) for name in ("one", "two"))
    scores = compare_runs(first, second, tmp_path / "truth").scores
    assert scores is not None and str(scores.measures[0]) == "mIoU of the complete masks 81.7 → 81.7 (0.0)"


def test_evaluate_and_the_report_name_them_together(
    runs: tuple[RunFolder, RunFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = runs[0].path
    assert command(["evaluate", str(path), "--truth", str(tmp_path / "truth")]) == 0
    out = capsys.readouterr().out
    assert "complete masks, nothing withheld: mIoU 81.7, 95 % interval 81.7 to 81.7" in out
    assert (
        "60.0 % of the true pixels have a label" in out and "without them: 100.0, 95 % interval 100.0 to 100.0" in out
    )
    assert set(RunFolder.open(path).metrics()["evaluation"]) == {"masks", "complete-masks"}
    assert command(["report", str(path)]) == 0
    head = (path / "report.html").read_text().partition("</header>")[0]
    for value, name in ((81.7, "mIoU of the complete masks"), (100.0, "mIoU of what remains"), (60.0, "coverage")):
        assert f"<b>{value}</b><span>{name}, 95 % interval" in head
    assert "62.5" not in head
