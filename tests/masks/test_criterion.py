"""Separation and kept regions, against values written out by hand."""

from __future__ import annotations

import numpy as np

from recamlabel.masks.criterion import appearance, candidate_levels, kept_alone, regions_at, separation

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


def planes(image: np.ndarray) -> np.ndarray:
    return np.moveaxis(image, 2, 0).astype(np.float32)


def test_separation_is_largest_where_the_mask_ends_at_the_object():
    low, right, nothing = separation(planes(picture()), graded(), [0.05, 0.5, 0.95])
    assert np.isclose([low, right, nothing], [0, 1, 0]).all()
    assert 0 < separation(planes(picture()), graded(), [0.3])[0] < right
    soft = appearance(picture())
    everything, square = separation(soft, graded(), [0.05, 0.5])
    assert np.isclose(everything, 0) and square > 0.3


def test_texture_tells_regions_of_one_colour_apart():
    image = np.full((64, 64, 3), 128, dtype=np.uint8)
    image[:, 32:] = np.random.default_rng(0).integers(64, 193, (64, 32, 1))
    features = appearance(image)
    scores = np.zeros((1, 64, 64), dtype=np.float32)
    scores[0, :, 32:] = 1
    assert separation(features[3:], scores, [0.5])[0] > 0.8 and features.shape == (4, 64, 64)


def test_separation_is_the_variance_of_the_region_means():
    rng = np.random.default_rng(0)
    features = rng.random((3, 9, 7)).astype(np.float32)
    scores = rng.random((2, 9, 7)).astype(np.float32)
    mask = next(regions_at(scores, [0.6]))
    shares = []
    for values in features:
        means = np.select([mask == slot for slot in range(3)], [values[mask == slot].mean() for slot in range(3)])
        shares.append(means.var() / values.var())
    assert np.allclose(separation(features, scores, [0.6]), np.mean(shares))


def test_a_flat_image_separates_nothing():
    assert separation(np.full((4, 12, 12), 7, np.float32), graded(), [0.5]).tolist() == [0.0]


def test_what_is_kept_is_the_image_and_all_else_is_blurred():
    (pictures,) = kept_alone(picture(), graded(), [0.5, 0.95])
    assert (pictures[0][SQUARE] == picture()[SQUARE]).all()
    gone = pictures[1][3, 3].astype(int)  # a corner of the square, where the blur mixes most
    assert abs(gone - picture()[3, 3]).max() > 20 and pictures[0].shape == (12, 12, 3)
    assert [len(row) for row in kept_alone(picture(), np.concatenate([graded(), graded(0.2, 0.2)]), [0.5])] == [1, 1]


def test_candidates_are_the_levels_the_scores_have():
    assert candidate_levels([0.2, 0.7], stepped=True) == (0.2, 0.7)
    grid = candidate_levels([0.2, 0.7], stepped=False)
    assert grid[0] == 0.1 and grid[-1] == 0.9 and len(set(grid)) == 17
