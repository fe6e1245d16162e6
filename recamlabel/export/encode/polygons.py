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

from recamlabel.core.classes import ClassTable
from recamlabel.errors import MissingExtraError
from recamlabel.export.base import Mask

Points = NDArray[np.float64]
QUARTER = 0.25
NEIGHBOURS = 8


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


def fill(shapes: Sequence[Polygon], shape: tuple[int, int], dtype: np.dtype[Any]) -> Mask:
    """Polygons as a mask ``(H, W)``, large ones first, as a reader with whole-pixel points draws them.

    Example:
        >>> square = np.array([[0.5, 0.5], [0.5, 1.5], [1.5, 1.5], [1.5, 0.5]])
        >>> fill([Polygon(3, square)], (2, 3), np.dtype(np.uint8)).tolist()
        [[3, 3, 0], [3, 3, 0]]
    """
    cv2 = opencv()
    layers = []
    for polygon in shapes:
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
    bridges = _Bridges(outline, holes)
    return bridges.points[bridges.walk()].astype(np.float64) + 0.5


class _Bridges:
    """Prim's algorithm over rings: the next hole is the one nearest to the rings that are joined already."""

    def __init__(self, outline: NDArray[np.int32], holes: list[NDArray[np.int32]]) -> None:
        self.points = np.concatenate([outline, *holes])
        ends = np.cumsum([len(outline), *map(len, holes)])
        self.rings = np.split(np.arange(ends[-1]), ends[:-1])
        self.low = np.array([hole.min(axis=0) for hole in holes]).reshape(-1, 2)
        self.high = np.array([hole.max(axis=0) for hole in holes]).reshape(-1, 2)
        self.distance = np.full(len(holes), np.inf)
        self.enter = np.zeros(len(holes), dtype=np.int64)
        self.leave = np.zeros(len(holes), dtype=np.int64)

    def walk(self) -> NDArray[np.int64]:
        """Numbers of the points in the order of the walk."""
        path = self.rings[0]
        waiting = np.ones(len(self.distance), dtype=bool)
        self._reach(path, np.flatnonzero(waiting))
        while waiting.any():
            hole = int(np.where(waiting, self.distance, np.inf).argmin())
            waiting[hole] = False
            ring = self.rings[hole + 1]
            around = np.roll(ring, int(ring[0] - self.enter[hole]))
            place = int((path == self.leave[hole]).argmax())
            path = np.concatenate([path[: place + 1], around, around[:1], path[place:]])
            self._reach(ring, self._neighbours(hole, waiting))
        return path

    def _neighbours(self, hole: int, waiting: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The few waiting holes that may be nearer to ``hole`` than to anything before.

        A few are enough: any bridge is right, and the next of these brings its own neighbours.
        """
        gaps = self._gaps(hole)
        near = np.flatnonzero(waiting & (gaps < self.distance))
        return near if len(near) <= NEIGHBOURS else near[np.argpartition(gaps[near], NEIGHBOURS)[:NEIGHBOURS]]

    def _gaps(self, hole: int) -> Points:
        """At least how far each hole is from one, by their boxes."""
        apart = np.maximum(self.low - self.high[hole], self.low[hole] - self.high).clip(min=0)
        gaps: Points = np.hypot(apart[:, 0], apart[:, 1])
        return gaps

    def _reach(self, ring: NDArray[np.int64], holes: NDArray[np.int64]) -> None:
        """Note where ``holes`` are nearer to ``ring`` than to any ring before."""
        tree = cKDTree(self.points[ring])
        for hole in holes.tolist():
            own = self.rings[hole + 1]
            distances, nearest = tree.query(self.points[own])
            closest = int(distances.argmin())
            if distances[closest] < self.distance[hole]:
                self.distance[hole] = distances[closest]
                self.enter[hole], self.leave[hole] = own[closest], ring[nearest[closest]]


def _with_area(points: Points) -> Points:
    """Points on one line (a region one pixel wide) as a thin band within the same pixels."""
    if len(points) >= 3 and np.linalg.matrix_rank(points - points[0]) == 2:
        return points
    across = np.array([QUARTER, -QUARTER])
    return np.concatenate([points - QUARTER, points[-1:] + across, points[::-1] + QUARTER, points[:1] - across])
