"""Shapes of labelling tools as pixels. One rule for all: a pixel belongs to a shape if its centre lies in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recamlabel.review.foreign.found import LeftOutError

Region = NDArray[np.bool_]
Points = NDArray[np.float64]


def polygon(points: Points, shape: tuple[int, int]) -> Region:
    """The inside of a polygon by the even-odd rule.

    Args:
        points: ``(N, 2)``, x and y in pixels; the centre of the first pixel is (0.5, 0.5).
        shape: Height and width of the image; what lies beyond is cut off.

    Returns:
        ``(H, W) bool``.

    Example:
        >>> polygon(np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 1.4], [0.0, 3.0]]), (3, 3)).astype(int).tolist()
        [[1, 1, 1], [1, 1, 1], [1, 0, 0]]
    """
    height, width = shape
    region = np.zeros(shape, dtype=bool)
    if len(points) < 3 or not np.isfinite(points).all():
        return region
    ends = np.roll(points, -1, axis=0)
    for row in range(max(0, int(points[:, 1].min())), min(height, int(points[:, 1].max()) + 1)):
        y = row + 0.5
        crossing = (points[:, 1] <= y) != (ends[:, 1] <= y)
        (x0, y0), (x1, y1) = points[crossing].T, ends[crossing].T
        places = np.sort(x0 + (y - y0) / (y1 - y0) * (x1 - x0))
        # Columns whose centre lies at or behind a crossing change sides there.
        first = np.clip(np.ceil(places - 0.5), 0, width).astype(int)
        for left, right in zip(first[::2], first[1::2], strict=True):
            region[row, left:right] = True
    return region


def box(left: float, top: float, right: float, bottom: float, rotation: float, around: Sequence[float]) -> Points:
    """Corners of a box ``(4, 2)``, turned clockwise by degrees around a point."""
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float64)
    return _turned(corners, rotation, around)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, rotation: float, shape: tuple[int, int]) -> Region:
    """The inside of an ellipse around (x, y), turned clockwise by degrees."""
    if radius_x <= 0 or radius_y <= 0:
        return np.zeros(shape, dtype=bool)
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    angle = np.deg2rad(rotation)
    along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    return np.asarray((along / radius_x) ** 2 + (across / radius_y) ** 2 <= 1)


def row_runs(counts: Sequence[int], left: int, top: int, size: tuple[int, int], shape: tuple[int, int]) -> Region:
    """CVAT's runs: lengths by turns outside and inside, row by row of a box ``size`` (height, width) at (left, top).

    Raises:
        LeftOutError: The lengths do not fill the box.

    Example:
        >>> row_runs([1, 2, 1], 1, 0, (2, 2), (2, 3)).astype(int).tolist()
        [[0, 0, 1], [0, 1, 0]]
    """
    lengths = np.asarray(counts, dtype=np.int64)
    if size[0] <= 0 or size[1] <= 0 or (lengths < 0).any() or int(lengths.sum()) != size[0] * size[1]:
        raise LeftOutError("with a damaged mask (its runs do not fill its box)")
    if left < 0 or top < 0 or top + size[0] > shape[0] or left + size[1] > shape[1]:
        raise LeftOutError("with a mask that reaches beyond the image")
    region = np.zeros(shape, dtype=bool)
    inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    region[top : top + size[0], left : left + size[1]] = inside.reshape(size)
    return region


def _turned(points: Points, degrees: float, around: Sequence[float]) -> Points:
    angle, centre = np.deg2rad(degrees), np.asarray(around, dtype=np.float64)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turned: Points = (points - centre) @ matrix + centre
    return turned
