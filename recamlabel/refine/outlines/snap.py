"""Regions of refined scores moved to the outlines of a promptable segmenter, where both agree (docs/method.md, 3).

With ``s_k`` the scores of class k, ``m_k`` its map and ``R`` a connected region of ``argmax([LEVEL, s])``, the
segmenter is asked for the object in the box around ``R``, at the map's peak in it. What it gives, without the pixels
that another class holds, is ``S``. It is kept only where

    IoU(S, R) >= OVERLAP   and   c(S) >= CONTRAST * c(R),   c(X) = mean of m_k in X - mean of m_k outside X

and then, for the pixels of ``S`` and those of which ``R`` is the nearest region of its class,

    s'_k = (s_k + S) / 2

so that the mask at the level 1/2 is ``S`` there, and another level still moves it: below 1/2 by pixels outside of ``S``
that the scores are sure of, above by pixels of ``S`` that they are not. Neither sees a true mask.

``LEVEL`` is a generous one: in a box that is too large the segmenter still finds the object, in one that is too small
it does not. The constants were chosen with the true masks of 48 images of MSRC-17 (``docs/figures.md``).

The prompt is Kirillov et al.'s ("Segment Anything", ICCV 2023, section 2); rule and mixture are this project's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from recamlabel.core.arrays import from_uint8, resize_maps
from recamlabel.models.inputs import working_size
from recamlabel.refine.outlines.sam import Box, Sam
from recamlabel.storage.decode import read_image

LEVEL = 0.3
OVERLAP = 0.5
CONTRAST = 0.8
# The largest regions of a class, and what one has to have of the image's pixels.
LARGEST, LEAST = 4, 0.001

Ask = Callable[[Box, tuple[int, int]], NDArray[np.bool_]]
"""``(box, point) -> (H, W)``: the object in a box, with a pixel on it."""


@dataclass(frozen=True)
class Snapped:
    """Scores ``(C, H, W) float32`` in [0, 1], and how many regions were asked for and kept."""

    scores: NDArray[np.float32]
    asked: int
    kept: int


def snap(scores: NDArray[np.floating], maps: NDArray[np.floating], ask: Ask) -> Snapped:
    """Scores with the regions moved to what ``ask`` gives, where it agrees with the maps.

    Args:
        scores: ``(C, H, W)`` in [0, 1].
        maps: ``(C, h, w)`` in [0, 1], the maps that were refined.
        ask: The promptable segmenter, on the scores' pixels.

    Example:
        >>> scores = np.zeros((1, 20, 20), np.float32)
        >>> scores[0, 4:12, 4:12] = 0.8
        >>> object = scores[0] > 0
        >>> object[12] = object[11]  # one more row
        >>> result = snap(scores, scores, lambda box, point: object)
        >>> result.kept, result.scores[0, 11:14, 5].round(2).tolist()
        (1, [0.8999999761581421, 0.5, 0.0])
    """
    result = np.array(scores, dtype=np.float32)
    wide = resize_maps(maps, *result.shape[1:])
    winner = np.where(result.max(axis=0) > LEVEL, result.argmax(axis=0), -1) if len(result) else np.empty(0)
    asked = kept = 0
    for index, (own, seen) in enumerate(zip(result, wide, strict=True)):
        names, chosen = _regions(winner == index)
        taken: dict[int, NDArray[np.bool_]] = {}
        for name in chosen:
            region = names == name
            found = ask(_box(region), _peak(seen, region)) & ((winner == index) | (winner < 0))
            asked += 1
            if agrees(found, region, seen):
                taken[name] = found
        kept += len(taken)
        if taken:
            _mix(own, names, taken)
    return Snapped(result, asked, kept)


def agrees(found: NDArray[np.bool_], region: NDArray[np.bool_], seen: NDArray[np.floating]) -> bool:
    """The rule: both overlap, and the found mask divides the map about as well as the region does.

    Args:
        found: ``(H, W)``, S.
        region: ``(H, W)``, R, not empty.
        seen: ``(H, W)``, the class's map.

    Example:
        >>> seen = np.array([[1.0, 1.0, 0.0, 0.0]])
        >>> agrees(seen > 0, seen > 0, seen), agrees(seen < 1, seen > 0, seen)
        (True, False)
    """
    union = int((found | region).sum())
    overlap = int((found & region).sum())
    if overlap < OVERLAP * union:
        return False
    return contrast(found, seen) >= CONTRAST * contrast(region, seen)


def contrast(mask: NDArray[np.bool_], seen: NDArray[np.floating]) -> float:
    """Mean of a map inside of a mask less its mean outside; the mean of a side without pixels is 0.

    Example:
        >>> contrast(np.array([True, False, False]), np.array([0.75, 0.5, 0.0]))
        0.5
    """
    inside, total = float(seen[mask].sum()), float(seen.sum())
    count = int(mask.sum())
    return inside / max(1, count) - (total - inside) / max(1, mask.size - count)


def _regions(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], list[int]]:
    """Connected regions by number (0: none), and the numbers of the largest."""
    names, count = ndimage.label(mask)
    sizes = np.bincount(names.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")[:LARGEST]
    return names, [int(one) + 1 for one in order if sizes[one] >= max(1, LEAST * mask.size)]


def _box(region: NDArray[np.bool_]) -> Box:
    rows, columns = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _peak(seen: NDArray[np.floating], region: NDArray[np.bool_]) -> tuple[int, int]:
    row, column = np.unravel_index(int(np.where(region, seen, -1).argmax()), region.shape)
    return int(row), int(column)


def _mix(own: NDArray[np.float32], names: NDArray[np.int32], taken: dict[int, NDArray[np.bool_]]) -> None:
    """``s' = (s + S) / 2`` in place, of the kept regions' own pixels."""
    rows, columns = ndimage.distance_transform_edt(names == 0, return_distances=False, return_indices=True)
    found = np.logical_or.reduce([*taken.values()])
    part = found | np.isin(names[rows, columns], [*taken])
    own[part] = (own[part] + found[part]) / 2


@dataclass(frozen=True)
class SamSnaps:
    """:func:`snap` of one image after another.

    Attributes:
        sam: The networks.
        max_side: Scores of fewer pixels than the image has at this long side are enlarged to it before: a random walk's
            are on the maps' grid, on which an outline is lost.
    """

    sam: Sam
    max_side: int

    def __call__(self, path: Path, maps: NDArray[np.floating], stored: NDArray[np.uint8]) -> Snapped:
        """Snap the scores ``(C, H, W) uint8`` of an image, 255 = 1.0."""
        scores = from_uint8(stored)
        if not len(scores):
            return Snapped(scores, 0, 0)
        image = read_image(path)
        size = working_size(image.shape[0], image.shape[1], self.max_side)
        if size[0] * size[1] > scores.shape[1] * scores.shape[2]:
            scores = resize_maps(scores, *size)
        embedding = self.sam.embed(image)
        return snap(scores, maps, lambda box, point: self.sam.mask(embedding, scores.shape[1:], box, point))
