"""Where in a large image there is anything to refine: windows around what the maps speak of, at the size it deserves.

The dense CRF costs in proportion to pixels. An image that is refined whole at a long side of 640 pixels leaves three of
an object's twenty; but where its maps speak of one small place only, the same work refines that place at full size. So
the maps choose windows, and the windows' share of the image the size: as many pixels in all as the whole image has at
the usual side, and never more than the image has itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Around what the maps speak of, as a share of the image's long side: the CRF needs the surroundings' colours.
MARGIN = 0.02


@dataclass(frozen=True)
class Window:
    """Rows and columns of an image as fractions in [0, 1]."""

    top: float
    left: float
    bottom: float
    right: float

    @property
    def share(self) -> float:
        """Of the image's area."""
        return (self.bottom - self.top) * (self.right - self.left)

    def cut(self, height: int, width: int) -> tuple[slice, slice]:
        """Its pixels in an image of a size, one at least each way.

        Example:
            >>> Window(0.25, 0.0, 0.5, 1.0).cut(8, 4)
            (slice(2, 4, None), slice(0, 4, None))
        """
        return _pixels(self.top, self.bottom, height), _pixels(self.left, self.right, width)


def _pixels(start: float, stop: float, length: int) -> slice:
    first = min(length - 1, math.floor(start * length))
    return slice(first, max(first + 1, math.ceil(stop * length)))


WHOLE = Window(0.0, 0.0, 1.0, 1.0)


def windows(maps: NDArray[np.floating], level: float, margin: float = MARGIN) -> list[Window]:
    """Boxes around the places where any map is above a level, widened; boxes that meet are one.

    Args:
        maps: ``(C, h, w)`` in [0, 1].
        level: The lowest background level: below it nothing is anything.
        margin: As a share of the long side, one position at least.

    Returns:
        Windows that do not overlap; none where no map is above the level.

    Example:
        >>> maps = np.zeros((1, 10, 10)); maps[0, 2, 3] = 1
        >>> windows(maps, 0.1)
        [Window(top=0.1, left=0.2, bottom=0.4, right=0.5)]
    """
    height, width = maps.shape[1:]
    active = maps.max(axis=0, initial=0.0) > level
    wide = max(1, round(margin * max(height, width)))
    boxes = []
    for rows, columns in ndimage.find_objects(ndimage.label(active, np.ones((3, 3)))[0]):
        bottom, right = min(height, rows.stop + wide), min(width, columns.stop + wide)
        boxes.append((max(0, rows.start - wide), max(0, columns.start - wide), bottom, right))
    size = (height, width, height, width)
    return [Window(*(side / length for side, length in zip(box, size, strict=True))) for box in merged(boxes)]


Box = tuple[int, int, int, int]


def merged(boxes: list[Box]) -> list[Box]:
    """Boxes that share a position become the box around both, until none do.

    Example:
        >>> merged([(0, 0, 4, 4), (8, 8, 9, 9), (3, 3, 6, 6)])
        [(8, 8, 9, 9), (0, 0, 6, 6)]
    """
    left = list(boxes)
    done: list[Box] = []
    while left:
        box = left.pop()
        meeting = [other for other in (*left, *done) if _meet(box, other)]
        if not meeting:
            done.append(box)
            continue
        left = [other for other in left if other not in meeting]
        done = [other for other in done if other not in meeting]
        corners = np.array([box, *meeting])
        (top, start), (bottom, stop) = corners[:, :2].min(axis=0).tolist(), corners[:, 2:].max(axis=0).tolist()
        left.append((top, start, bottom, stop))
    return sorted(done, reverse=True)


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def refined_side(longest: int, usual: int, found: list[Window]) -> int:
    """Long side at which windows have as many pixels as the whole image has at the usual one.

    Args:
        longest: The image's own, in pixels.
        usual: ``refine.max_side``.
        found: The windows.

    Example:
        >>> quarter = [Window(0.0, 0.0, 0.5, 0.5)]
        >>> refined_side(4000, 640, quarter), refined_side(4000, 640, [WHOLE]), refined_side(500, 640, quarter)
        (1280, 640, 500)
    """
    share = sum(one.share for one in found)
    return min(longest, usual) if share <= 0 else min(longest, round(usual / math.sqrt(min(1.0, share))))
