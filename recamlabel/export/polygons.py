"""Mask regions as single polygons, holes included, and polygons as pixels again.

A YOLO-seg row is one polygon without holes. A hole is therefore joined to the outline by a
bridge that is walked there and back; filled by the even-odd rule it stays open, and only pixels
under a bridge that crosses the hole are lost. Points are centres of the region's boundary pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from recamlabel.classes import ClassTable
from recamlabel.errors import MissingExtraError
from recamlabel.export.base import Mask

Points = NDArray[np.float64]
QUARTER = 0.25


@dataclass(frozen=True, slots=True)
class Polygon:
    """One row of a YOLO-seg file.

    Args:
        class_id: 1..K.
        points: ``(N, 2) float64``, x and y in pixels, at least 3.
    """

    class_id: int
    points: Points


def opencv() -> Any:
    """The module ``cv2``. Raises MissingExtraError where it is not installed."""
    try:
        import cv2
    except ImportError:
        raise MissingExtraError("--format yolo needs OpenCV: pip install 'recamlabel[export]'") from None
    return cv2


def polygons(mask: Mask, table: ClassTable) -> Iterator[Polygon]:
    """One polygon per connected component (8 neighbours) of every class of a mask ``(H, W)``.

    Example:
        >>> mask = np.zeros((4, 4), np.uint8)
        >>> mask[1:3, 1:3] = 1
        >>> [polygon.points.tolist() for polygon in polygons(mask, ClassTable(("dent",)))]
        [[[1.5, 1.5], [1.5, 2.5], [2.5, 2.5], [2.5, 1.5]]]
    """
    cv2 = opencv()
    for class_id in np.flatnonzero(np.bincount(mask.ravel())).tolist():
        if class_id in {0, table.ignore_id}:
            continue
        chosen = (mask == class_id).astype(np.uint8)
        contours, tree = cv2.findContours(chosen, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        for number, contour in enumerate(contours):
            if tree[0][number][3] >= 0:  # a hole; its parent takes care of it
                continue
            holes = [contours[hole].reshape(-1, 2) for hole in _siblings(tree[0], tree[0][number][2])]
            yield Polygon(class_id, _with_area(_bridged(contour.reshape(-1, 2), holes)))


def fill(found: Sequence[Polygon], shape: tuple[int, int], dtype: np.dtype[Any]) -> Mask:
    """Polygons as a mask ``(H, W)``, large ones first, as a reader with whole-pixel points draws them.

    Example:
        >>> square = np.array([[0.5, 0.5], [0.5, 1.5], [1.5, 1.5], [1.5, 0.5]])
        >>> fill([Polygon(3, square)], (2, 3), np.dtype(np.uint8)).tolist()
        [[3, 3, 0], [3, 3, 0]]
    """
    cv2 = opencv()
    layers = []
    for polygon in found:
        points = np.floor(polygon.points).astype(np.int32)
        left, top = points.min(axis=0)
        width, height = points.max(axis=0) - (left, top) + 1
        layer = np.zeros((height, width), dtype=np.uint8)
        cv2.fillPoly(layer, [points - (left, top)], color=1)
        layers.append((int(layer.sum()), polygon.class_id, top, left, layer.astype(bool)))
    mask = np.zeros(shape, dtype=dtype)
    for _, class_id, top, left, layer in sorted(layers, key=lambda entry: -entry[0]):
        mask[top : top + layer.shape[0], left : left + layer.shape[1]][layer] = class_id
    return mask


def _siblings(tree: NDArray[np.int32], first: int) -> Iterator[int]:
    while first >= 0:
        yield first
        first = int(tree[first][0])


def _bridged(outline: NDArray[np.int32], holes: list[NDArray[np.int32]]) -> Points:
    """Outline and holes as one closed walk; every hole is entered where it is nearest to what is walked already."""
    path = outline
    waiting = list(holes)
    while waiting:
        reach = cKDTree(path)
        distances = [reach.query(hole) for hole in waiting]
        nearest = min(range(len(waiting)), key=lambda number: float(distances[number][0].min()))
        hole = waiting.pop(nearest)
        enter = int(distances[nearest][0].argmin())
        leave = int(distances[nearest][1][enter])
        around = np.concatenate([hole[enter:], hole[: enter + 1]])
        path = np.concatenate([path[: leave + 1], around, path[leave:]])
    return path.astype(np.float64) + 0.5


def _with_area(points: Points) -> Points:
    """Points on one line (a region one pixel wide) as a thin band within the same pixels."""
    if len(points) >= 3 and np.linalg.matrix_rank(points - points[0]) == 2:
        return points
    across = np.array([QUARTER, -QUARTER])
    return np.concatenate([points - QUARTER, points[-1:] + across, points[::-1] + QUARTER, points[:1] - across])
