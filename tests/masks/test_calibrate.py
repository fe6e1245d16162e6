"""The background level that needs no masks."""

from __future__ import annotations

import numpy as np
import pytest

from recamlabel.core.arrays import map_histogram
from recamlabel.errors import StoreError
from recamlabel.masks.calibrate import FALLBACK, LevelEvidence, between_variance, calibrate, otsu, otsu_level


def histogram(values):
    return map_histogram(np.array(values, dtype=np.float32).reshape(1, 1, -1))


def test_between_variance_is_the_variance_of_the_two_means():
    """Otsu's formula against the variance written out, at every threshold."""
    counts = np.random.default_rng(0).integers(0, 50, 20).astype(float)
    values = np.repeat((np.arange(20) + 0.5) / 20, counts.astype(int))
    for index, found in enumerate(between_variance(counts)):
        below, above = values[values < (index + 1) / 20], values[values >= (index + 1) / 20]
        if not len(below) or not len(above):
            assert found == 0
            continue
        expected = len(below) * (below.mean() - values.mean()) ** 2 + len(above) * (above.mean() - values.mean()) ** 2
        assert np.isclose(found, expected / len(values) / values.var())


def test_two_heaps_are_parted_between_them():
    assert 0.2 < otsu(histogram([0.1] * 70 + [0.2] * 10 + [0.8] * 10 + [0.9] * 10)) <= 0.8


def test_otsu_level_counts_every_image_alike():
    small, large = histogram([0.1] * 5 + [0.5] * 5), histogram([0.1] * 5000 + [0.9] * 5000)
    assert otsu_level([small, small, small, large]) == otsu_level([small * 77, small, small, large])


@pytest.mark.parametrize("images", [[], [np.zeros(100, np.int32)], [histogram([0.0] * 9)], [histogram([1.0])]])
def test_otsu_level_of_maps_that_say_nothing(images):
    assert otsu_level(images) == FALLBACK


LEVELS = np.array([0.3, 0.4, 0.5])


def evidence(separation, kept):
    return LevelEvidence(LEVELS, np.array(separation, float).reshape(-1, 3), np.array(kept, float).reshape(-1, 3))


def test_the_choice_is_the_peak_of_the_product_of_the_means():
    found = calibrate(evidence([[0.2, 0.4, 0.5], [0.2, 0.4, 0.5]], [[1.0, 0.9, 0.5]]))
    assert found.threshold == 0.4 and found.curve == ((0.3, 0.2), (0.4, 0.36), (0.5, 0.25))
    assert found.parts == {"separation": (0.2, 0.4, 0.5), "kept": (1.0, 0.9, 0.5)} and found.images == 2
    assert found.interval == (0.4, 0.4) and "without ground truth" in found.origin
    assert set(found.to_json()) == {"threshold", "interval", "criterion", "parts", "images", "origin"}


def test_images_that_disagree_widen_the_interval():
    found = calibrate(evidence([[0.9, 0.1, 0.1], [0.1, 0.1, 0.8]] * 3, []))
    assert found.interval == (0.3, 0.5) and calibrate(evidence([[0.9, 0.1, 0.1], [0.1, 0.1, 0.8]] * 3, [])) == found


@pytest.mark.parametrize("rows", [[], [[0.0, 0.0, 0.0]], [[0.4, 0.4, 0.4]]])
def test_levels_that_are_all_alike_give_the_default_and_no_certainty(rows):
    found = calibrate(evidence(rows, []))
    assert found.threshold == FALLBACK and found.interval == (0.0, 1.0) and "say nothing" in found.origin


def test_the_evidence_survives_the_file(tmp_path):
    known = evidence([[0.1, 0.2, 0.3]], [])
    known.save(tmp_path / "levels.h5", {"stage_key": "k"})
    read = LevelEvidence.load(tmp_path / "levels.h5")
    assert read.separation.tolist() == [[0.1, 0.2, 0.3]] and read.kept.shape == (0, 3)
    with pytest.raises(StoreError, match="no such file"):
        LevelEvidence.load(tmp_path / "other.h5")
