"""The background level that needs no masks."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from recamlabel.arrays import map_histogram
from recamlabel.errors import StoreError
from recamlabel.masks.calibrate import FALLBACK, between_variance, calibrate, otsu, stored_histograms


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


def test_every_image_counts_alike():
    small, large = histogram([0.1] * 5 + [0.5] * 5), histogram([0.1] * 5000 + [0.9] * 5000)
    assert calibrate([small, small, small, large]).threshold == calibrate([small * 77, small, small, large]).threshold


def test_the_choice_its_interval_and_its_curve():
    rng = np.random.default_rng(1)
    images = [
        histogram(np.concatenate([rng.normal(0.2, 0.08, 300), rng.normal(0.7, 0.1, 200)]).clip(0, 1)) for _ in range(20)
    ]
    found = calibrate(images)
    assert 0.38 < found.threshold < 0.52
    assert found.interval[0] <= found.threshold <= found.interval[1] and found.interval[1] - found.interval[0] < 0.1
    best = max(found.curve, key=lambda point: point[1])
    assert abs(best[0] - found.threshold) <= 0.02 and found.images == 20
    assert calibrate(images) == found and set(found.to_json()) == {
        "threshold",
        "interval",
        "criterion",
        "images",
        "origin",
    }


@pytest.mark.parametrize("images", [[], [np.zeros(100, np.int32)], [histogram([0.0] * 9)], [histogram([1.0])]])
def test_maps_that_say_nothing_give_the_default_and_no_certainty(images):
    found = calibrate(images)
    assert found.threshold == FALLBACK and found.interval == (0.0, 1.0) and "say nothing" in found.origin


def test_a_run_of_an_older_version_is_named(tmp_path):
    with h5py.File(tmp_path / "scores.h5", "w") as file:
        for name, ids in (("a", [1]), ("b", [])):
            file.create_dataset(f"scores/{name}", data=np.zeros((len(ids), 2, 2))).attrs["class_ids"] = ids
        file["scores/a"].attrs["histogram"] = histogram([0.5])
        assert len(stored_histograms(file, ["a", "b"])) == 1
        del file["scores/a"].attrs["histogram"]
        with pytest.raises(StoreError, match="no histogram of image 'a'; run `recamlabel fit` again"):
            stored_histograms(file, ["a", "b"])
