"""True masks with another id order: noticed by the labels, however poor the masks are; a right order never is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from run_by_hand import TinyImage, make_run

from recamlabel.cli.main import run as command
from recamlabel.errors import StoreError
from recamlabel.evaluation.calibration import calibrate_with_truth
from recamlabel.evaluation.evaluate import evaluate_run
from recamlabel.storage.hdf5 import ShardedWriter
from recamlabel.storage.png import write_mask
from recamlabel.storage.run_folder import RunFolder

CLASSES = ("dent", "hole", "scratch")
SETS = [("dent",), ("hole",), ("scratch",), ("dent", "hole"), (), ("scratch", "dent"), ("hole",), ("dent",)] * 2


def made(folder: Path, name: str = "run", sets: list[tuple[str, ...]] = SETS, poor: bool = False) -> RunFolder:
    """A run with scores; each class has a column of two pixels of its own. Poor: every mask says the next class."""
    images = []
    for number, names in enumerate(sets):
        mask = np.zeros((2, 8), np.uint8)
        for one in names:
            at = CLASSES.index(one)
            mask[:, 2 * at : 2 * at + 2] = (at + 1) % 3 + 1 if poor else at + 1
        maps = np.zeros((len(names), 2, 8))
        images.append(TinyImage(f"images/{number:02d}", names, maps, maps, mask))
    run = make_run(folder, CLASSES, images, name)
    with ShardedWriter(run.path / "work/scores.h5", "key", {}) as writer:
        for image in images:
            ids = [CLASSES.index(one) + 1 for one in image.labels]
            scores = np.stack([255 * (image.mask == number) for number in ids]) if ids else np.zeros((0, 2, 8))
            attrs = {"class_ids": np.array(ids, np.int32)}
            writer.add(image.id, {f"scores/{image.id}": (scores.astype(np.uint8), attrs)})
        writer.finish()
    run.finish("refine", "refine-key", 1.0, ["work/scores.h5"])
    return run


def true_masks(folder: Path, order: tuple[str, ...] = CLASSES, sets: list[tuple[str, ...]] = SETS) -> Path:
    """Exact masks whose ids are in ``order``."""
    for number, names in enumerate(sets):
        mask = np.zeros((2, 8), np.uint8)
        for one in names:
            at = 2 * CLASSES.index(one)
            mask[:, at : at + 2] = order.index(one) + 1
        write_mask(folder / f"{number:02d}.png", mask)
    return folder


OTHER = ("hole", "scratch", "dent")


def test_another_order_is_named_with_the_list_to_give(tmp_path: Path) -> None:
    run, truth = made(tmp_path), true_masks(tmp_path / "truth", OTHER)
    found = evaluate_run(run, truth)
    assert found.miou < 50
    assert "of the images labelled 'dent', 2 hold id 1, which is to mean it, and 8 hold id 3" in found.warning
    assert "2 of 16 images agree with their labels; with the ids in the order below, 16 do" in found.warning
    names = [line.strip() for line in found.warning.splitlines()[1:]]
    assert names == list(OTHER) and found.to_json()["warning"] == found.warning
    (tmp_path / "names.txt").write_text("\n".join(names))
    fixed = evaluate_run(run, truth, truth_classes=tmp_path / "names.txt")
    assert (fixed.miou, fixed.warning) == (100, "")


def test_a_list_in_a_wrong_order_is_mended_too(tmp_path: Path) -> None:
    """With a class that the run does not have, whose place in the list stays."""
    run, truth = made(tmp_path), true_masks(tmp_path / "truth", ("scratch", "rust", "dent", "hole"))
    (tmp_path / "names.txt").write_text("dent\nrust\nscratch\nhole\n")
    warning = evaluate_run(run, truth, truth_classes=tmp_path / "names.txt").warning
    assert [line.strip() for line in warning.splitlines()[1:]] == ["scratch", "rust", "dent", "hole"]
    assert "labelled 'dent', 2 hold id 1, which is to mean it, and 8 hold id 3" in warning
    assert "'hole'" not in warning


@pytest.mark.parametrize("what", ["masks", "complete-masks", "scores", "recam-seeds"])
def test_a_right_order_is_never_suspected(tmp_path: Path, what: str) -> None:
    """Not even where every mask shows another class: the labels are right."""
    run, truth = made(tmp_path, poor=True), true_masks(tmp_path / "truth")
    found = evaluate_run(run, truth, what)  # type: ignore[arg-type]
    assert found.warning == "" and found.scores.iou[1:].tolist() == [0, 0, 0]


def test_nor_with_noise_in_the_labels_or_unknown_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noisy = [tuple(name for name in CLASSES if (name in names) != (rng.random() < 0.25)) for names in SETS * 2]
    run, truth = made(tmp_path, sets=noisy), true_masks(tmp_path / "truth", sets=SETS * 2)
    assert evaluate_run(run, truth).warning == ""
    for number in range(0, 32, 2):
        write_mask(truth / f"{number:02d}.png", np.full((2, 8), 255, np.uint8))
    assert evaluate_run(run, truth).warning == ""


def test_too_few_images_say_nothing(tmp_path: Path) -> None:
    run, truth = made(tmp_path, sets=SETS[:4]), true_masks(tmp_path / "truth", OTHER, SETS[:4])
    assert evaluate_run(run, truth).warning == ""


def test_evaluate_and_compare_warn_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(made(tmp_path, name).path) for name in ("one", "two")]
    truth = str(true_masks(tmp_path / "truth", OTHER))
    assert command(["evaluate", runs[0], "--truth", truth]) == 0
    assert "WARNING: " in capsys.readouterr().err
    page = tmp_path / "page.html"
    assert command(["compare", *runs, "--truth", truth, "--out", str(page)]) == 0
    assert "WARNING: " in capsys.readouterr().err
    assert "seem to stand for other classes" in page.read_text()
    assert command(["report", runs[0]]) == 0
    assert "seem to stand for other classes" in (Path(runs[0]) / "report.html").read_text()


def test_calibrate_refuses_before_anything_is_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, truth = made(tmp_path), true_masks(tmp_path / "truth", OTHER)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    # Three masks are to be used; the others are looked at.
    assert command(["calibrate", str(run.path), "--truth", str(truth), "--n", "3"]) == 1
    streams = capsys.readouterr()
    assert "--truth-classes:\n  hole\n  scratch\n  dent\n" in streams.err and "Nothing was changed" in streams.err
    assert "background level" not in streams.out
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    (tmp_path / "names.txt").write_text("\n".join(OTHER))
    assert calibrate_with_truth(run, truth, 3, truth_classes=tmp_path / "names.txt").threshold < 1


def test_calibrate_takes_an_order_that_was_stated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, truth = made(tmp_path), true_masks(tmp_path / "truth", OTHER)
    (tmp_path / "names.txt").write_text("\n".join(CLASSES))
    with pytest.raises(StoreError, match="seem to stand for other classes"):
        calibrate_with_truth(run, truth, 3)
    assert calibrate_with_truth(run, truth, 3, truth_classes=tmp_path / "names.txt").images
    assert "WARNING: " in capsys.readouterr().err
