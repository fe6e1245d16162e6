"""Intervals over images drawn anew: against drawing them one by one, paired, and in bounded memory."""

from __future__ import annotations

import time

import numpy as np
import pytest

from recamlabel.evaluation.confusion import ClassCounts, ConfusionMatrix
from recamlabel.evaluation.resampling import Resampling

CLASSES = 4


def pairs(images: int, seed: int, wrong: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random truth and prediction of 60 pixels, a share of them wrong and a few withheld."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(images):
        truth = rng.choice(rng.permutation(CLASSES)[:2], 60)
        other = np.where(rng.random(60) < wrong * rng.random(), rng.integers(0, CLASSES, 60), truth)
        found.append((truth, np.where(rng.random(60) < 0.1, 255, other)))
    return found


def counted(chosen: list[tuple[np.ndarray, np.ndarray]]) -> ConfusionMatrix:
    confusion = ConfusionMatrix(CLASSES, 255)
    for truth, prediction in chosen:
        confusion.update(truth, prediction)
    return confusion


def test_as_drawing_the_images_one_by_one() -> None:
    images = pairs(25, 0, 0.8)
    resampling = Resampling(len(images), CLASSES)
    for pair in images:
        resampling.update(counted([pair]).counts())
    rng = np.random.default_rng(1)
    drawn = [counted([images[at] for at in rng.integers(0, 25, 25)]).scores() for _ in range(2000)]
    for name in ("miou", "miou_covered", "coverage"):
        known = np.array([getattr(scores, name) for scores in drawn])
        values = getattr(resampling.of(0), name)
        low, high = resampling.interval(values) or (0, 0)
        width = np.quantile(known, 0.975) - np.quantile(known, 0.025)
        assert [low, high] == pytest.approx(np.quantile(known, [0.025, 0.975]), abs=0.15 * width)
        assert values.std() == pytest.approx(known.std(), rel=0.1)


def test_differences_are_paired() -> None:
    """Equal runs differ by nothing in every drawing, however far the drawings are apart."""
    images = pairs(8, 2, 1.0)
    resampling = Resampling(len(images), CLASSES, series=2)
    for pair in images:
        counts = counted([pair]).counts()
        resampling.update(counts, counts)
    one, two = resampling.of(0), resampling.of(1)
    assert one.miou.std() > 0.005 and resampling.interval(two.miou - one.miou) == (0, 0)


def test_every_drawing_has_as_many_images() -> None:
    resampling = Resampling(7, 1)
    for _ in range(7):
        resampling.update(ClassCounts(*np.array([[1], [1], [1], [0]])))
    assert (resampling._counts[0][:, 2, 0] == 7).all()


def test_one_image_has_no_interval() -> None:
    resampling = Resampling(1, 1)
    resampling.update(ClassCounts(*np.array([[1], [1], [2], [0]])))
    assert resampling.interval(resampling.of(0).miou) is None


def test_nothing_is_kept_of_an_image_and_it_is_quick() -> None:
    resampling = Resampling(2000, 201, series=4)
    size, table = resampling._counts.nbytes, np.zeros((4, 201), dtype=np.int64)
    table[:, [0, 17]] = 10
    began = time.perf_counter()
    for _ in range(2000):
        resampling.update(*[ClassCounts(*table)] * 4)
    # 26 MB for any number of images; kept a row each they would be 6 MB for every thousand of each series.
    assert resampling._counts.nbytes == size == 4 * 1000 * 4 * 201 * 8
    assert time.perf_counter() - began < 20
