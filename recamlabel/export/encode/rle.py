"""Parts of a mask as COCO run-length encodings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from recamlabel.core.classes import ClassTable
from recamlabel.errors import MissingExtraError
from recamlabel.export.base import Instances, Mask

EIGHT = np.ones((3, 3), dtype=int)


@dataclass(frozen=True, slots=True)
class Segment:
    """One class or one connected component of a mask.

    Args:
        class_id: 0..K.
        top, left: Where ``pixels`` begins in the mask.
        pixels: ``(h, w) bool``, cut to its bounding box.
    """

    class_id: int
    top: int
    left: int
    pixels: NDArray[np.bool_]

    @property
    def area(self) -> int:
        """Pixels in it."""
        return int(self.pixels.sum())

    @property
    def box(self) -> list[int]:
        """``[x, y, width, height]`` in pixels."""
        height, width = self.pixels.shape
        return [self.left, self.top, width, height]


def segments(mask: Mask, table: ClassTable, instances: Instances, *, background: bool = False) -> Iterator[Segment]:
    """The segments of a mask in class order; withheld pixels are in none.

    Args:
        mask: ``(H, W)`` class ids.
        table: Class table.
        instances: ``"class"``: one a class; ``"component"``: one a connected component (8 neighbours).
        background: Whether the background is a segment, too (always a single one).

    Example:
        >>> table = ClassTable(("dent",))
        >>> mask = np.array([[1, 0, 1], [0, 0, 1]], np.uint8)
        >>> [segment.box for segment in segments(mask, table, "component")]
        [[0, 0, 1, 1], [2, 0, 1, 2]]
    """
    for class_id in np.flatnonzero(np.bincount(mask.ravel())).tolist():
        if class_id == table.ignore_id or (class_id == 0 and not background):
            continue
        chosen = mask == class_id
        labels = ndimage.label(chosen, EIGHT)[0] if instances == "component" and class_id else chosen.astype(np.int8)
        for number, place in enumerate(ndimage.find_objects(labels), start=1):
            rows, columns = place
            yield Segment(class_id, rows.start, columns.start, labels[place] == number)


def coco_rle(segment: Segment, shape: tuple[int, int]) -> dict[str, Any]:
    """A segment as COCO's compressed run-length encoding, ``{"size": [H, W], "counts": text}``.

    Raises:
        MissingExtraError: pycocotools is not installed.
    """
    tools = coco_mask_tools()
    height, width = shape
    columns, rows = np.nonzero(segment.pixels.T)
    # COCO counts column by column.
    places = (columns.astype(np.int64) + segment.left) * height + rows + segment.top
    cuts = np.flatnonzero(np.diff(places) != 1)
    starts = np.concatenate([places[:1], places[cuts + 1]])
    ends = np.concatenate([places[cuts], places[-1:]]) + 1
    edges = np.stack([starts, ends], axis=1).ravel()
    end = [] if edges[-1] == height * width else [height * width]
    counts = np.diff(np.concatenate([[0], edges, end])).astype(int).tolist()
    packed = tools.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": packed["counts"].decode("ascii")}


def coco_mask_tools() -> Any:
    """``pycocotools.mask``. Raises MissingExtraError where it is not installed."""
    try:
        from pycocotools import mask
    except ImportError:
        raise MissingExtraError("--format coco needs pycocotools: pip install 'recamlabel[export]'") from None
    return mask
