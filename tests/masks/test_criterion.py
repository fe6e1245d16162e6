"""What the classifier is asked about a level, and what its answers are worth, against values written out by hand."""

from __future__ import annotations

import numpy as np

from recamlabel.masks.criterion import (
    blurred_all_over,
    candidate_levels,
    correlation,
    kept_and_erased,
    regions_at,
)

SQUARE = np.zeros((12, 12), dtype=bool)
SQUARE[3:9, 3:9] = True


def graded(inner: float = 0.9, around: float = 0.4) -> np.ndarray:
    """A map that is high in the square, lower in a rim of one pixel around it."""
    soft = np.full((1, 12, 12), 0.1, dtype=np.float32)
    soft[0, 2:10, 2:10] = around
    soft[0, SQUARE] = inner
    return soft


def picture() -> np.ndarray:
    image = np.full((12, 12, 3), 60, dtype=np.uint8)
    image[SQUARE] = (200, 30, 60)
    return image


def test_regions_are_strongest_class_above_the_level():
    scores = np.array([[[0.2, 0.6, 0.6]], [[0.3, 0.5, 0.6]]], dtype=np.float32)
    assert [mask.tolist() for mask in regions_at(scores, [0.25, 0.55])] == [[[2, 1, 1]], [[0, 1, 1]]]


def test_one_picture_keeps_the_region_and_the_other_blurs_it():
    blurred = blurred_all_over(picture())
    (asked,) = kept_and_erased(picture(), blurred, graded(), [0.5, 0.95])
    for square, kept, erased in (
        (SQUARE, asked.kept[0], asked.erased[0]),
        (SQUARE & False, asked.kept[1], asked.erased[1]),
    ):
        assert (kept[square] == picture()[square]).all() and (kept[~square] == blurred[~square]).all()
        assert (erased[square] == blurred[square]).all() and (erased[~square] == picture()[~square]).all()
    assert asked.area.tolist() == [0.25, 0.0]
    # A corner of the square, where the blur mixes most.
    assert abs(blurred[3, 3].astype(int) - picture()[3, 3]).max() > 20
    both = np.concatenate([graded(), graded(0.2, 0.2)])
    assert [len(one.kept) for one in kept_and_erased(picture(), blurred, both, [0.5])] == [1, 1]


def test_correlation_is_that_of_two_yes_no_answers():
    rng = np.random.default_rng(0)
    mask, evidence = rng.random(5000) < 0.2, rng.random(5000) < 0.5
    evidence &= mask | (rng.random(5000) < 0.3)
    share, area = (mask & evidence).sum() / evidence.sum(), mask.mean()
    phi = np.corrcoef(mask, evidence)[0, 1]
    # Up to a factor that no level changes: how rare the evidence is.
    scale = np.sqrt(evidence.mean() / (1 - evidence.mean()))
    assert np.isclose(correlation(np.array([share]), np.array([area]))[0] * scale, phi)
    assert correlation(np.array([0.0, 1.0, 0.3]), np.array([0.0, 1.0, 0.3])).tolist() == [0, 0, 0]


def test_candidates_are_the_levels_the_scores_have():
    assert candidate_levels([0.2, 0.7], stepped=True) == (0.2, 0.7)
    grid = candidate_levels([0.2, 0.7], stepped=False)
    assert grid[0] == 0.1 and grid[-1] == 0.9 and len(set(grid)) == 17
