"""Scoring a whole run folder, made by hand, against true masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_by_hand import TinyImage, make_run

from recamlabel.errors import ConfigError, StoreError
from recamlabel.evaluation.evaluate import evaluate_run, record
from recamlabel.masks.reviewed import Decision, ReviewFolder
from recamlabel.storage.png import write_mask
from recamlabel.storage.run_folder import RunFolder

CLASSES = ("cat", "dog")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Three images of 2x4 pixels; CAM is right above 0.3, ReCAM above 0.6; the last has no label."""
    left, right = [1, 1, 0, 0], [0, 0, 1, 1]
    images = [
        TinyImage(
            "images/a",
            ("cat",),
            cam=[np.multiply([left, left], 0.7) + 0.3],
            recam=[np.multiply([left, left], 0.4) + 0.6],
            mask=[[1, 1, 0, 0], [1, 0, 0, 0]],
            split="train",
        ),
        TinyImage(
            "images/b",
            ("cat", "dog"),
            cam=[np.multiply([left, left], 0.9), np.multiply([right, right], 0.9)],
            recam=[np.multiply([left, left], 0.9), np.multiply([right, right], 0.9)],
            mask=[[1, 1, 2, 2], [1, 1, 2, 255]],
            split="val",
        ),
        TinyImage("images/c", (), cam=np.zeros((0, 1, 2)), recam=np.zeros((0, 1, 2)), mask=[[0] * 4] * 2, split="val"),
    ]
    return make_run(tmp_path, CLASSES, images)


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    folder = tmp_path / "truth"
    for name, mask in {
        "a": [[1, 1, 0, 0], [1, 1, 0, 0]],
        "b": [[1, 1, 2, 2], [1, 1, 2, 2]],
        "c": [[0, 0, 0, 255]] * 2,
    }.items():
        write_mask(folder / f"{name}.png", np.array(mask, np.uint8))
    return folder


def test_masks_full_result(run: RunFolder, truth: Path) -> None:
    result = evaluate_run(run, truth, "masks").to_json()
    assert result.pop("curve") == []
    assert {name: low < result[name] < high for name, (low, high) in result.pop("intervals").items()} == {
        "miou": True, "miou_covered": True, "coverage": True,
    }  # fmt: skip
    assert result == {
        "what": "masks",
        "split": None,
        "ids": None,
        "unit": "percent",
        "miou": round((100 * 10 / 11 + 100 * 7 / 8 + 75) / 3, 4),
        "pixel_accuracy": round(100 * 20 / 22, 4),
        "coverage": round(100 * 21 / 22, 4),
        "miou_covered": round((100 * 10 / 11 + 100 * 7 / 8 + 100) / 3, 4),
        "pixel_accuracy_covered": round(100 * 20 / 21, 4),
        "threshold": 0.5,
        "threshold_origin": "as the masks were made, without ground truth",
        "images": 3,
        "images_without_truth": 0,
        "pixels": 22,
        "per_class": {
            "background": {
                "iou": round(100 * 10 / 11, 4),
                "precision": round(100 * 10 / 11, 4),
                "recall": 100.0,
                "truth_pixels": 10,
                "predicted_pixels": 11,
            },
            "cat": {"iou": 87.5, "precision": 100.0, "recall": 87.5, "truth_pixels": 8, "predicted_pixels": 7},
            "dog": {"iou": 75.0, "precision": 100.0, "recall": 75.0, "truth_pixels": 4, "predicted_pixels": 3},
        },
        "stage_key": "masks-key",
        "truth": str(truth),
        "notes": [],
        "warning": "",
    }


@pytest.mark.parametrize(("what", "threshold"), [("cam-seeds", 0.31), ("recam-seeds", 0.61)])
def test_seeds_use_their_own_maps_and_best_threshold(run: RunFolder, truth: Path, what: Any, threshold: float) -> None:
    result = evaluate_run(run, truth, what)
    # 0.3 and 0.6 are a little above themselves in float16 or below: the best threshold is the next one at most.
    assert result.threshold == pytest.approx(threshold, abs=0.011)
    assert result.threshold_origin == "chosen with ground truth"
    assert result.miou == 100
    assert result.stage_key == "maps-key"
    curve = dict(result.to_json()["curve"])
    assert len(curve) == 101
    assert curve[1.0] == pytest.approx(100 * (10 / 22) / 3, abs=1e-3)


def test_stored_maps_are_enlarged_to_the_image(tmp_path: Path) -> None:
    run = make_run(
        tmp_path, CLASSES, [TinyImage("a", ("dog",), cam=[[[0.0, 1.0]]], recam=[[[0.0, 1.0]]], mask=[[0, 0, 2, 2]])]
    )
    write_mask(tmp_path / "truth" / "a.png", np.array([[0, 2, 2, 2]], np.uint8))
    result = evaluate_run(run, tmp_path / "truth", "cam-seeds")
    assert (result.threshold, result.miou) == (0.0, 100)
    assert dict(result.curve)[0.25] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_split(run: RunFolder, truth: Path) -> None:
    result = evaluate_run(run, truth, "masks", split="val")
    assert (result.images, result.key, result.counts.truth.tolist()) == (2, "masks/val", [6, 4, 4])


def test_unknown_split_lists_the_splits(run: RunFolder, truth: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--split: unknown 'tset'\. The splits are: train, val$"):
        evaluate_run(run, truth, "masks", split="tset")


def test_split_of_a_data_set_without_splits(tmp_path: Path, truth: Path) -> None:
    run = make_run(tmp_path, CLASSES, [TinyImage("a", (), np.zeros((0, 1, 1)), np.zeros((0, 1, 1)), [[0] * 4] * 2)])
    with pytest.raises(ConfigError, match=r"^--split val: the data set has no splits$"):
        evaluate_run(run, truth, "masks", split="val")


def test_unknown_what(run: RunFolder, truth: Path) -> None:
    expected = r"--what: unknown 'seeds', did you mean '(re)?cam-seeds'\? The choices are: cam-seeds, recam-seeds, "
    with pytest.raises(ConfigError, match=expected):
        evaluate_run(run, truth, "seeds")  # type: ignore[arg-type]


def test_truth_for_a_part_is_counted(run: RunFolder, truth: Path) -> None:
    (truth / "c.png").unlink()
    result = evaluate_run(run, truth, "masks")
    assert (result.images, result.images_without_truth) == (2, 1)


def test_truth_of_another_size_is_refused(run: RunFolder, truth: Path) -> None:
    write_mask(truth / "b.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(
        StoreError, match=r"b\.png: 4x4 pixels, its image has 4x2; expected a mask of the image's own size"
    ):
        evaluate_run(run, truth, "cam-seeds")


def test_class_that_occurs_nowhere_is_null_and_not_in_the_mean(tmp_path: Path) -> None:
    run = make_run(tmp_path, CLASSES, [TinyImage("a", ("cat",), [[[1.0]]], [[[1.0]]], [[1, 0]])])
    write_mask(tmp_path / "truth" / "a.png", np.array([[1, 0]], np.uint8))
    result = evaluate_run(run, tmp_path / "truth", "masks").to_json()
    assert result["per_class"]["dog"] == {
        "iou": None,
        "precision": None,
        "recall": None,
        "truth_pixels": 0,
        "predicted_pixels": 0,
    }
    assert result["miou"] == 100
    assert json.loads(json.dumps(result, allow_nan=False)) == result


@pytest.mark.parametrize(("what", "stage"), [("masks", "masks"), ("cam-seeds", "maps")])
def test_stage_that_is_not_finished(run: RunFolder, truth: Path, what: Any, stage: str) -> None:
    run.begin(stage)
    with pytest.raises(StoreError, match=f"stage '{stage}' is not finished; run `recamlabel fit` again"):
        evaluate_run(run, truth, what)


def test_missing_file_and_missing_image(run: RunFolder, truth: Path, tmp_path: Path) -> None:
    other = make_run(
        tmp_path, CLASSES, [TinyImage("z", (), np.zeros((0, 1, 1)), np.zeros((0, 1, 1)), [[0]])], name="other"
    )
    for name, group in (("masks.h5", ""), ("work/maps.h5", "cam/")):
        (other.path / name).replace(run.path / name)
        with pytest.raises(
            StoreError, match=f"{name}: nothing stored as '{group}images/a'; run `recamlabel fit` again"
        ):
            evaluate_run(run, truth, "masks" if name == "masks.h5" else "cam-seeds")
        (run.path / name).unlink()
        with pytest.raises(StoreError, match=f"{name}: no such file; run `recamlabel fit` first"):
            evaluate_run(run, truth, "masks" if name == "masks.h5" else "cam-seeds")


def test_record_keeps_other_entries(run: RunFolder, truth: Path) -> None:
    run.update_metrics("timing", {"fit": 3})
    for what, split in (("masks", None), ("masks", "val"), ("cam-seeds", None), ("masks", None)):
        record(run, evaluate_run(run, truth, what, split))  # type: ignore[arg-type]
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert metrics["timing"] == {"fit": 3}
    assert set(metrics["evaluation"]) == {"masks", "masks/val", "cam-seeds"}
    assert metrics["evaluation"]["masks"]["images"] == 3
    assert metrics["evaluation"]["masks/val"]["split"] == "val"


def test_nothing_in_the_run_or_truth_is_changed(run: RunFolder, truth: Path) -> None:
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for root in (run.path, truth) for path in root.rglob("*") if path.is_file()}

    before = content()
    evaluate_run(run, truth, "masks")
    evaluate_run(run, truth, "recam-seeds")
    assert content() == before


def test_reviewed_masks_win_where_there_are_some(run: RunFolder, truth: Path) -> None:
    with pytest.raises(StoreError, match=r"review/masks\.h5: not there yet; review the masks with `recamlabel review`"):
        evaluate_run(run, truth, "reviewed")
    pseudo = evaluate_run(run, truth, "masks")
    corrected = {"images/b": np.array([[1, 1, 2, 2], [1, 1, 2, 2]], np.uint8)}
    ReviewFolder(run.path).add([Decision("images/b", "fix", painted=True)], corrected, 255)
    result = evaluate_run(run, truth, "reviewed")
    assert (result.threshold, result.threshold_origin, result.images) == (None, "as reviewed", 3)
    assert result.scores.iou[2] == 1 and pseudo.scores.iou[2] == 0.75
    assert result.miou > pseudo.miou
