"""The background level that needs no masks."""

from __future__ import annotations

from dataclasses import fields, replace

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


def evidence(held, area, whole=0.9, blurred=0.1):
    """Rows whose regions hold shares of the evidence, by both questions alike."""
    held, area = np.array(held, float).reshape(-1, 3), np.array(area, float).reshape(-1, 3)
    count = len(held)
    kept, erased = blurred + held * (whole - blurred), whole - held * (whole - blurred)
    return LevelEvidence(LEVELS, kept, erased, area, np.full(count, whole), np.full(count, blurred))


def test_the_choice_is_where_masks_and_evidence_correlate_most():
    found = calibrate(evidence([[1.0, 0.9, 0.5]] * 2, [[0.5, 0.1, 0.1]] * 2))
    # (1 - 0.5) / 0.5, (0.9 - 0.1) / 0.3, (0.5 - 0.1) / 0.3
    assert found.threshold == 0.4 and found.curve == ((0.3, 1.0), (0.4, 2.66667), (0.5, 1.33333))
    assert found.parts == {"evidence held": (1.0, 0.9, 0.5), "pixels covered": (0.5, 0.1, 0.1)} and found.labels == 2
    assert found.interval == (0.4, 0.4) and "without ground truth" in found.origin
    assert set(found.to_json()) == {"threshold", "interval", "criterion", "parts", "labels", "origin"}


def test_kept_and_erased_count_alike():
    one = evidence([[0.4, 0.4, 0.4]], [[0.2, 0.2, 0.2]])
    other = replace(one, kept=np.full((1, 3), 0.1 + 0.8 * 0.8), erased=np.full((1, 3), 0.9))
    assert np.allclose(one.share(), 0.4) and np.allclose(other.share(), 0.4)


def test_labels_that_are_seen_in_the_blurred_image_too_are_not_asked():
    good = evidence([[0.2, 0.9, 0.1]], [[0.3, 0.2, 0.1]])
    blind = evidence([[0.9, 0.1, 0.1]], [[0.3, 0.2, 0.1]], whole=0.9, blurred=0.8)
    parts = {
        part.name: np.concatenate([getattr(good, part.name), getattr(blind, part.name)])
        for part in fields(good)
        if part.name != "levels"
    }
    known = LevelEvidence(LEVELS, **parts)
    assert np.allclose(known.share(), [0.2, 0.9, 0.1]) and known.speaks and calibrate(known).interval[1] == 0.4
    # One in three is too few to speak for a data set: half of the peak, and no certainty.
    silent = LevelEvidence(LEVELS, **{name: np.concatenate([rows, rows[-1:]]) for name, rows in parts.items()})
    found = calibrate(silent)
    assert (found.threshold, found.interval, found.parts) == (FALLBACK, (0.0, 1.0), {})
    assert "say nothing" in found.origin


def test_labels_that_disagree_widen_the_interval_and_meet_between():
    rows = [[0.9, 0.1, 0.1], [0.1, 0.1, 0.9]] * 3
    found = calibrate(evidence(rows, [[0.2, 0.2, 0.2]] * 6))
    assert found.interval == (0.3, 0.5) and 0.33 < found.threshold < 0.47
    assert calibrate(evidence(rows, [[0.2, 0.2, 0.2]] * 6)) == found


@pytest.mark.parametrize("rows", [[], [[0.0, 0.0, 0.0]], [[0.4, 0.4, 0.4]]])
def test_levels_that_are_all_alike_give_the_default_and_no_certainty(rows):
    found = calibrate(evidence(rows, [[0.2, 0.2, 0.2]] * len(rows)))
    assert found.threshold == FALLBACK and found.interval == (0.0, 1.0) and "say nothing" in found.origin


def test_the_evidence_survives_the_file(tmp_path):
    known = evidence([[0.1, 0.2, 0.3]], [[0.3, 0.2, 0.1]])
    known.save(tmp_path / "work/levels.h5", {"stage_key": "k"})
    read = LevelEvidence.load(tmp_path / "work/levels.h5")
    assert all(np.array_equal(getattr(read, part.name), getattr(known, part.name)) for part in fields(known))
    with pytest.raises(StoreError, match="no such file"):
        LevelEvidence.load(tmp_path / "other.h5")
