"""Index masks as painted regions and back: what a person edits is a region per class, not an index mask."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recamlabel.core.classes import BACKGROUND_ID, ClassTable

Mask = NDArray[np.generic]


@dataclass(frozen=True)
class Region:
    """Pixels of one class.

    Attributes:
        label: Class name.
        box: Left, top, width and height as fractions of the image's.
        mask: ``(h, w) bool`` of any size, stretched over the box.
    """

    label: str
    box: tuple[float, float, float, float]
    mask: NDArray[np.bool_]


def regions_of(mask: Mask, table: ClassTable) -> list[Region]:
    """One region per class in a mask ``(H, W)``, in id order; background and withheld pixels have none.

    Example:
        >>> found = regions_of(np.array([[0, 2], [255, 2]], dtype=np.uint8), ClassTable(("cat", "dog")))
        >>> [(region.label, region.box, region.mask.tolist()) for region in found]
        [('dog', (0.5, 0.0, 0.5, 1.0), [[True], [True]])]
    """
    height, width = mask.shape
    regions = []
    for class_id in np.unique(mask).tolist():
        if class_id in (BACKGROUND_ID, table.ignore_id):
            continue
        of_class = mask == class_id
        rows, columns = np.flatnonzero(of_class.any(axis=1)), np.flatnonzero(of_class.any(axis=0))
        top, bottom, left, right = (int(value) for value in (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
        box = (left / width, top / height, (right - left) / width, (bottom - top) / height)
        regions.append(Region(table.name_of(class_id), box, of_class[top:bottom, left:right]))
    return regions


def covered(region: Region, shape: tuple[int, int]) -> tuple[slice, slice, NDArray[np.bool_]]:
    """The pixels of an image ``shape`` that a region covers: rows, columns, and which of them.

    A pixel belongs to a region if its centre does. An editor returns masks at the resolution of the
    screen in boxes that begin inside of a pixel; this rule gives an unchanged mask back exactly.

    Example:
        >>> rows, columns, own = covered(Region("a", (0.25, 0.0, 0.5, 1.0), np.ones((3, 9), dtype=bool)), (1, 4))
        >>> rows, columns, own.tolist()
        (slice(0, 1, None), slice(1, 3, None), [[True, True]])
    """
    left, top, width, height = region.box
    (rows, row_cells), (columns, column_cells) = (
        _cells(start, length, pixels, cells)
        for start, length, pixels, cells in zip((top, left), (height, width), shape, region.mask.shape, strict=True)
    )
    return rows, columns, region.mask[row_cells[:, None], column_cells[None, :]]


def _cells(start: float, length: float, pixels: int, cells: int) -> tuple[slice, NDArray[np.int64]]:
    """Along one axis: pixels with their centre in the box, and the mask's cell at each centre."""
    if length <= 0 or not cells:
        return slice(0, 0), np.zeros(0, dtype=np.int64)
    places = ((np.arange(pixels) + 0.5) / pixels - start) / length * cells
    inside = np.flatnonzero((places >= 0) & (places < cells))
    if not inside.size:
        return slice(0, 0), np.zeros(0, dtype=np.int64)
    chosen = slice(int(inside[0]), int(inside[-1]) + 1)
    return chosen, places[chosen].astype(np.int64)


def paint(regions: Sequence[Region], before: Mask, table: ClassTable) -> Mask:
    """Regions as a mask ``(H, W)``, background where there is none.

    Where regions overlap, the one that was not there ``before`` wins: it is what somebody painted.
    Of several such, the last.

    Args:
        regions: Any number.
        before: The mask ``(H, W)`` that was given out to be edited.
        table: Every label of ``regions`` is in it.

    Raises:
        DatasetError: A label that is no class.
    """
    height, width = before.shape
    result = np.full((height, width), BACKGROUND_ID, dtype=table.mask_dtype)
    places = [(table.id_of(region.label), covered(region, (height, width))) for region in regions]
    for class_id, (rows, columns, own) in places:
        result[rows, columns][own] = class_id
    for class_id, (rows, columns, own) in places:
        result[rows, columns][own & (before[rows, columns] != class_id)] = class_id
    return result


def without_ignored(mask: Mask, table: ClassTable) -> Mask:
    """A mask as regions can tell it: background where it is withheld."""
    known: Mask = np.where(mask == table.ignore_id, table.mask_dtype.type(BACKGROUND_ID), mask)
    return known


def merge(regions: Sequence[Region], base: Mask, table: ClassTable) -> Mask:
    """``base`` with what was painted or erased since; withheld pixels that nobody painted stay withheld.

    Args:
        regions: As they are after editing.
        base: The mask ``(H, W)`` they were made from.
        table: The classes.

    Example:
        >>> base, table = np.array([[1, 255, 0]], dtype=np.uint8), ClassTable(("cat", "dog"))
        >>> merge([*regions_of(base, table), Region("dog", (2 / 3, 0, 1 / 3, 1), np.ones((1, 1), bool))], base, table)
        array([[  1, 255,   2]], dtype=uint8)
    """
    known = without_ignored(base, table)
    painted = paint(regions, known, table)
    result: Mask = np.where(painted != known, painted, base).astype(table.mask_dtype)
    return result


def digest(regions: Sequence[Region]) -> str:
    """Hash (16 hex digits) of labels, boxes and masks: tells regions that nobody has touched."""
    total = hashlib.sha256()
    for region in regions:
        head: tuple[Any, ...] = (region.label, tuple(map(float, region.box)), region.mask.shape)
        total.update(repr(head).encode())
        total.update(np.packbits(region.mask).tobytes())
    return total.hexdigest()[:16]
