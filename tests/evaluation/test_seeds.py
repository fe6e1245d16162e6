"""All thresholds in one pass must equal the plain computation at each of them."""

from __future__ import annotations

import numpy as np
import pytest

from recamlabel.core.arrays import resize_maps
from recamlabel.evaluation.confusion import ConfusionMatrix
from recamlabel.evaluation.seeds import THRESHOLDS, SeedSweep, seed_mask


def random_images(seed: int, classes: int = 4) -> list[tuple[np.ndarray, np.ndarray, list[int]]]:
    """Truth, maps and class ids: values that lie on thresholds, ties, images without a label."""
    rng = np.random.default_rng(seed)
    images = []
    for count in (0, 1, 2, 3):
        ids = sorted(rng.choice(np.arange(1, classes + 1), size=count, replace=False).tolist())
        truth = rng.choice([0, 255, *range(1, classes + 1)], size=(13, 11)).astype(np.uint16)
        maps = rng.random((count, 13, 11)).astype(np.float16).astype(np.float32)
        maps[:, :4] = rng.choice(THRESHOLDS, size=maps[:, :4].shape)
        maps[:, 4] = 0
        maps[:, 5] = 1
        images.append((truth, maps, ids))
    return images


@pytest.mark.parametrize("seed", range(5))
def test_every_threshold_equals_the_direct_computation(seed: int) -> None:
    sweep = SeedSweep(5, 255)
    images = random_images(seed)
    for image in images:
        sweep.update(*image)
    best = sweep.best()
    direct = []
    for index, threshold in enumerate(THRESHOLDS):
        confusion = ConfusionMatrix(5, 255)
        for truth, maps, ids in images:
            confusion.update(truth, seed_mask(maps, ids, float(threshold)))
        expected, found = confusion.counts(), sweep.counts()[index]
        for name in ("hits", "predicted", "truth", "unanswered"):
            assert getattr(found, name).tolist() == getattr(expected, name).tolist(), (name, threshold)
        direct.append(confusion.scores().miou)
        assert best.curve[index] == (pytest.approx(index / 100), pytest.approx(direct[-1]))
    assert best.threshold == pytest.approx(int(np.argmax(direct)) / 100)
    assert best.counts.scores().miou == pytest.approx(max(direct))


def test_seed_by_hand() -> None:
    maps = np.array([[[0.3, 0.5, 0.9]], [[0.2, 0.5, 0.1]]], dtype=np.float32)
    assert seed_mask(maps, [2, 7], 0.3).tolist() == [[0, 2, 2]]
    assert seed_mask(maps, [2, 7], 0.29).tolist() == [[2, 2, 2]]
    assert seed_mask(maps, [2, 7], 1.0).tolist() == [[0, 0, 0]]
    assert seed_mask(np.zeros((0, 1, 2), np.float32), [], 0.0).tolist() == [[0, 0]]


def test_best_threshold_by_hand() -> None:
    sweep = SeedSweep(2, 255)
    sweep.update(np.array([[0, 0, 1, 255]]), np.array([[[0.2, 0.4, 0.6, 0.9]]], dtype=np.float32), [1])
    best = sweep.best()
    assert best.threshold == 0.4
    assert best.counts.scores().miou == 1.0
    curve = dict(best.curve)
    assert len(curve) == 101
    assert curve[0.0] == pytest.approx((0 + 1 / 3) / 2)
    assert curve[0.39] == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert curve[0.4] == curve[0.59] == 1.0
    assert curve[0.6] == pytest.approx((2 / 3 + 0) / 2)


def test_memory_does_not_grow_with_the_images() -> None:
    sweep = SeedSweep(5, 255)
    sizes = []
    for seed in range(3):
        for image in random_images(seed):
            sweep.update(*image)
        sizes.append({name: value.nbytes for name, value in vars(sweep).items() if isinstance(value, np.ndarray)})
    assert sizes[0] == sizes[1] == sizes[2]


def test_nothing_added_gives_no_score() -> None:
    best = SeedSweep(3, 255).best()
    assert best.threshold == 0
    assert np.isnan([miou for _, miou in best.curve]).all()


def test_maps_are_enlarged_without_aligned_corners() -> None:
    assert resize_maps(np.array([[[0.0, 1.0]]], np.float16), 1, 4).tolist() == [[[0.0, 0.25, 0.75, 1.0]]]


@pytest.mark.parametrize(
    ("maps", "ids"),
    [
        (np.zeros((1, 2, 3), np.float32), [1]),
        (np.zeros((2, 2, 2), np.float32), [1]),
        (np.zeros((2, 2), np.float32), [1]),
    ],
)
def test_refuses_what_does_not_go_together(maps: np.ndarray, ids: list[int]) -> None:
    with pytest.raises(ValueError, match=r"expected maps \(C, 2, 2\) with C class ids, got"):
        SeedSweep(3, 255).update(np.zeros((2, 2), int), maps, ids)
