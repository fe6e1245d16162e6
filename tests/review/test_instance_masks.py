"""Masks as regions to paint in, and back."""

from __future__ import annotations

import numpy as np
import pytest
from export_by_hand import scattered_mask

from recamlabel.core.classes import ClassTable
from recamlabel.errors import DatasetError
from recamlabel.review.decisions.regions import Region, covered, digest, merge, paint, regions_of, without_ignored

TABLE = ClassTable(("cat", "dog", "eel"))


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (33, 47), (101, 67), (213, 321)])
@pytest.mark.parametrize("seed", range(4))
def test_an_untouched_mask_comes_back_exactly(shape: tuple[int, int], seed: int) -> None:
    mask = scattered_mask(seed, shape)
    found = regions_of(mask, TABLE)
    np.testing.assert_array_equal(merge(found, mask, TABLE), mask)
    np.testing.assert_array_equal(paint(found, without_ignored(mask, TABLE), TABLE), without_ignored(mask, TABLE))


def as_edited_on_a_screen(region: Region, shape: tuple[int, int], factor: float) -> Region:
    """The same pixels as the App gives them back: at ``factor`` times the size, in a box off the pixels' edges."""
    rows, columns, own = covered(region, shape)
    height, width = shape
    full = np.zeros(shape, dtype=bool)
    full[rows, columns] = own
    fine = np.array([round(height * factor), round(width * factor)])
    at = [((np.arange(n) + 0.5) / n * size).astype(int) for n, size in zip(fine, shape, strict=True)]
    large = full[at[0][:, None], at[1][None, :]]
    there = np.argwhere(large)
    (top, left), (bottom, right) = there.min(axis=0), there.max(axis=0) + 1
    box = (left / fine[1], top / fine[0], (right - left) / fine[1], (bottom - top) / fine[0])
    return Region(region.label, tuple(map(float, box)), large[top:bottom, left:right])  # type: ignore[arg-type]


@pytest.mark.parametrize("factor", [1.37, 2.0, 2.91, 5.5])
def test_a_mask_at_the_resolution_of_the_screen_is_the_same_mask(factor: float) -> None:
    mask = scattered_mask(5, (61, 83))
    edited = [as_edited_on_a_screen(region, (61, 83), factor) for region in regions_of(mask, TABLE)]
    assert digest(edited) != digest(regions_of(mask, TABLE))
    np.testing.assert_array_equal(merge(edited, mask, TABLE), mask)


def test_what_was_painted_wins_and_what_nobody_painted_stays_withheld() -> None:
    mask = np.array([[1, 1, 2, 255], [0, 255, 2, 0]], dtype=np.uint8)
    dog_over_all_of_the_top = Region("dog", (0.0, 0.0, 1.0, 0.5), np.ones((1, 4), dtype=bool))
    cat = regions_of(mask, TABLE)[0]
    for order in ([cat, dog_over_all_of_the_top], [dog_over_all_of_the_top, cat]):
        expected = [[2, 2, 2, 2], [0, 255, 0, 0]]
        assert merge(order, mask, TABLE).tolist() == expected


def test_erasing_leaves_background() -> None:
    mask = np.array([[1, 1, 2, 255]], dtype=np.uint8)
    cat, dog = regions_of(mask, TABLE)
    thinner = Region("cat", cat.box, np.array([[True, False]]))
    assert merge([thinner, dog], mask, TABLE).tolist() == [[1, 0, 2, 255]]
    assert merge([], mask, TABLE).tolist() == [[0, 0, 0, 255]]


def test_regions_beyond_the_image_and_without_size() -> None:
    mask = np.zeros((2, 4), dtype=np.uint8)
    beyond = Region("cat", (0.75, -0.5, 1.0, 1.0), np.ones((2, 2), dtype=bool))
    nothing = Region("dog", (0.1, 0.1, 0.0, 0.2), np.ones((1, 1), dtype=bool))
    empty = Region("dog", (0.0, 0.0, 1.0, 1.0), np.zeros((0, 0), dtype=bool))
    assert merge([beyond, nothing, empty], mask, TABLE).tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]]


def test_a_class_that_the_run_does_not_have() -> None:
    with pytest.raises(DatasetError, match="unknown class 'cow'"):
        merge([Region("cow", (0, 0, 1, 1), np.ones((1, 1), dtype=bool))], np.zeros((1, 1), np.uint8), TABLE)


def test_more_classes_than_8_bits_hold() -> None:
    table = ClassTable(tuple(f"class {number}" for number in range(300)))
    mask = np.array([[300, 65535, 255, 0]], dtype=np.uint16)
    back = merge(regions_of(mask, table), mask, table)
    assert back.dtype == np.uint16 and back.tolist() == mask.tolist()
