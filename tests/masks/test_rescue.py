"""A labelled class is in the mask: the region that is kept, what it counts for, and what it teaches."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from recamlabel.adapters.base import Dataset, LabelledImage
from recamlabel.core.arrays import to_uint8
from recamlabel.core.classes import ClassTable
from recamlabel.data.catalog import Catalog
from recamlabel.masks.evidence import gather_evidence
from recamlabel.masks.quality import MaskQuality, review_order
from recamlabel.masks.render import RenderJob, render_one, withhold
from recamlabel.masks.rescue import TaughtMasks, best_region, keep_labelled, usual_sizes

TABLE = ClassTable(("dent", "scratch"))


def planes(*rows: list[float]) -> np.ndarray:
    return np.array([[row] for row in rows], dtype=np.float32)


def test_the_region_is_connected_to_the_peak_and_above_half_of_it():
    assert best_region(planes([0.2, 0.3, 0.1, 0.0, 0.3, 0.0]), 0).tolist() == [[True, True, False, False, False, False]]


def test_the_region_is_no_larger_than_the_class_usually_is():
    wide = planes([0.5, 0.7, 0.8, 1.0, 0.6, 0.5, 0.0, 0.0])
    sizes = [int(best_region(wide, 0, largest).sum()) for largest in (1.0, 0.5, 0.25, 0.125, 0.01)]
    assert sizes == [6, 4, 2, 1, 1], "the level rises to the peak, which stays"
    mask = np.zeros((1, 8), dtype=np.uint8)
    assert keep_labelled(mask, [2], [wide], {2: 0.25}) == (2,)
    assert mask.tolist() == [[0, 0, 2, 2, 0, 0, 0, 0]]
    assert usual_sizes({1: [0.1, 0.3], 2: [0.3, 0.1, 0.2, 0.5]}) == {2: pytest.approx(0.175)}


def test_a_class_that_is_never_strongest_is_kept_at_its_largest_share():
    # 0.2 of 0.3 in all beside 0.3 of 1.2: the second place is the one where little else is.
    region = best_region(planes([0.3, 0.1, 0.2, 0.0], [0.9, 0.9, 0.21, 0.9]), 0)
    assert region.tolist() == [[False, False, True, False]]


def test_a_missing_class_gets_its_region_from_the_first_source_that_knows_it():
    mask = np.array([[1, 1, 0, 0]], dtype=np.uint8)
    scores = planes([0.9, 0.9, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0])
    maps = planes([0.9, 0.9, 0.1, 0.0], [0.1, 0.1, 0.1, 0.6])
    assert keep_labelled(mask, [1, 2], [scores, maps]) == (2,)
    assert mask.tolist() == [[1, 1, 0, 2]]


def test_nothing_known_of_a_class_leaves_it_missing():
    mask = np.array([[1, 0]], dtype=np.uint8)
    assert keep_labelled(mask, [1, 2], [planes([1.0, 0.0], [0.0, 0.0])]) == ()
    assert mask.tolist() == [[1, 0]]


def test_the_last_pixels_of_another_class_are_not_taken():
    mask = np.array([[1, 0, 0]], dtype=np.uint8)
    assert keep_labelled(mask, [1, 2], [planes([0.9, 0.0, 0.0], [0.8, 0.5, 0.0])]) == (2,)
    assert mask.tolist() == [[1, 2, 0]]


def test_a_region_smaller_than_a_pixel_of_the_mask_is_one_pixel():
    mask = np.zeros((2, 2), dtype=np.uint8)
    small = np.zeros((1, 9, 9), dtype=np.float32)
    small[0, 8, 0] = 0.4
    assert keep_labelled(mask, [2], [small]) == (2,)
    assert mask.tolist() == [[0, 0], [2, 0]]


def test_withholding_leaves_the_surest_half_of_a_class():
    mask = np.array([[0, 2, 2, 2, 1]], dtype=np.uint8)
    margins = np.array([[0.1, 0.1, 0.2, 0.3, 0.9]], dtype=np.float32)
    assert withhold(mask, margins, 0.5, 255, [1, 2]) == [2]
    assert mask.tolist() == [[255, 255, 2, 2, 1]]


def render(tmp_path: Path, scores: np.ndarray, maps: np.ndarray, ids: list[int], cams: np.ndarray | None = None):
    """The mask and quality of one image, its label as ``ids`` say."""
    names = frozenset(TABLE.name_of(number) for number in ids)
    image = LabelledImage("a", Path("a.png"), names, frozenset(TABLE.names) - names)
    dataset = Dataset(classes=TABLE, images=(image,), root=tmp_path, adapter="csv")
    catalog = Catalog(dataset, {"a": scores.shape[1:]}, {"a": ""})
    with h5py.File(tmp_path / "s.h5", "w") as file, h5py.File(tmp_path / "m.h5", "w") as stored:
        file["scores/a"] = to_uint8(scores)
        file["scores/a"].attrs["class_ids"] = np.array(ids)
        stored["recam/a"], stored["cam/a"] = maps, maps if cams is None else cams
        job = RenderJob(catalog, file, stored, "recam", 0.5, 0.5)
        return render_one(job, image, job.stored(image), -np.inf)


def test_a_labelled_class_below_the_level_is_in_the_mask_and_doubtful(tmp_path):
    mask, quality = render(tmp_path, planes([0.3, 0.1, 0.0, 0.0]), planes([0.4, 0.1, 0.0, 0.0]), [1])
    assert mask.tolist() == [[1, 0, 0, 0]]
    assert quality.kept == (1,) and quality.missing == ()
    assert quality.classes[1] == 0.0 and quality.score < 0.5


def test_plain_cam_is_asked_where_the_reactivated_map_is_empty(tmp_path):
    nothing = planes([0.0, 0.0, 0.0, 0.0])
    mask, quality = render(tmp_path, nothing, nothing, [1], cams=planes([0.0, 0.0, 0.3, 0.9]))
    assert mask.tolist() == [[0, 0, 0, 1]] and quality.kept == (1,)


def test_a_labelled_class_that_nothing_knows_has_score_0_and_comes_first(tmp_path):
    # Before, its IoU at two levels (both empty) was 1, and the mask stood in the better half of the queue.
    mask, missing = render(tmp_path, planes([0.0, 0.0, 0.0, 0.0]), planes([0.0, 0.0, 0.0, 0.0]), [1])
    assert mask.max() == 0 and missing.missing == (1,)
    assert missing.score == 0.0 and missing.classes[1] == 0.0
    supported = missing.with_support(1.0, {0: 1.0, 1: 1.0})
    assert supported.score == 0.0 and supported.classes[1] == 0.0
    poor = MaskQuality(0.0, {0: 0.0, 1: 0.0}, 0.0, {})
    assert review_order({"poor": poor, "missing": missing}) == ["missing", "poor"]


def test_quality_survives_its_attributes():
    quality = MaskQuality(0.5, {0: 1.0, 1: 0.0, 2: 0.5}, 0.25, {0: 0.0, 1: 0.0, 2: 1.0}, (1,), (2,))
    assert MaskQuality.from_attributes(quality.attributes()) == quality
    assert quality.to_json(TABLE)["missing"] == ["dent"] and quality.to_json(TABLE)["kept"] == ["scratch"]


def test_empty_in_both_is_no_agreement_for_a_labelled_class_but_is_for_the_background():
    none = np.zeros((1, 1, 2))
    evidence = gather_evidence(none.astype(np.uint8), none, none, [2], 0.5, 0.5, background=True)
    assert evidence.parts == {"stability": {0: 1.0, 2: 0.0}, "agreement": {0: 1.0, 2: 0.0}, "probe_support": {}}


def test_a_region_at_a_level_of_its_own_teaches_nothing(tmp_path):
    with h5py.File(tmp_path / "masks.h5", "w") as file:
        file["a"], file["b"] = np.array([[0, 1, 2]], np.uint8), np.array([[0, 1, 2]], np.uint8)
        file["a"].attrs["kept_ids"], file["b"].attrs["kept_ids"] = np.array([2], np.int32), np.array([], np.int32)
    taught = TaughtMasks(tmp_path / "masks.h5", 255)
    assert taught("a").tolist() == [[0, 1, 255]] and taught("b").tolist() == [[0, 1, 2]]
