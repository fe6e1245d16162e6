"""How well the evidence supports a mask: margins of pixels, stability and agreement of classes.

A pixel's margin is the distance of its score from the decision: how far the background level could move
before the pixel changes its class.

Everything is computed at the scores' own size from what the run holds, never from a true mask:
the refined scores, the class maps they were made from, and the plain CAM beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recamlabel.arrays import from_uint8, resize_maps

# A mask that changes little when the level moves this far is stable.
LEVEL_STEP = 0.1
# Orders pixels whose scores are equally far from the decision by what the maps say; less than half a step
# of the refiner's levels, so that it never overrules the scores.
TIE = 0.02
MARGIN_BINS = 4000


@dataclass(frozen=True)
class Evidence:
    """What speaks for one image's mask.

    Attributes:
        margins: ``(h, w) float32`` in [-1, 1]: the score of the mask's class less the best other one
            (the background's is the threshold), ties ordered by the same difference of the maps. Without a
            background the refiner has no levels, and it is the maps' difference: below 0 they contradict the mask.
        foreground: ``(h, w)`` pixels of the mask that are not background.
        stability: By class id (background 0 included) the IoU of the masks at a lower and a higher level.
        agreement: By class id the IoU of the mask and that of the plain CAM.
    """

    margins: NDArray[np.float32]
    foreground: NDArray[np.bool_]
    stability: dict[int, float]
    agreement: dict[int, float]

    def class_scores(self) -> dict[int, float]:
        """Quality 0..1 by class id: mean of stability and agreement."""
        return {number: (self.stability[number] + self.agreement[number]) / 2 for number in self.stability}


def gather_evidence(
    scores: NDArray[np.uint8],
    maps: NDArray[np.floating],
    cams: NDArray[np.floating],
    class_ids: Sequence[int],
    threshold: float,
    cam_threshold: float,
    background: bool = True,
) -> Evidence:
    """Compare the mask at a threshold with its neighbours and with the maps.

    Args:
        scores: ``(C, h, w) uint8`` refined scores, 255 = 1.0.
        maps: ``(C, h', w')`` the maps they were made from, in [0, 1].
        cams: ``(C, h', w')`` the plain CAM.
        class_ids: The C class ids, 1..K; C may be 0.
        threshold: Background level of the mask.
        cam_threshold: Background level of the plain CAM's mask.
        background: False where every pixel belongs to a labelled class.

    Example:
        >>> maps = np.array([[[0.9, 0.2]]])
        >>> found = gather_evidence(np.array([[[255, 255]]], np.uint8), maps, maps, [3], 0.5, 0.5)
        >>> found.agreement, found.margins.round(3).tolist()
        ({0: 0.0, 3: 0.5}, [[0.5080000162124634, 0.49399998784065247]])
    """
    height, width = scores.shape[1:]
    if not len(class_ids):
        nothing = np.zeros((height, width), dtype=bool)
        return Evidence(np.ones((height, width), dtype=np.float32), nothing, {0: 1.0}, {0: 1.0})
    soft, own, plain = from_uint8(scores), resize_maps(maps, height, width), resize_maps(cams, height, width)
    level = threshold if background else -1.0
    chosen = winners(soft, level)
    low, high = (winners(soft, level + step) for step in (-LEVEL_STEP, LEVEL_STEP))
    from_cam = winners(plain, cam_threshold if background else -1.0)
    ids = [0, *class_ids] if background else list(class_ids)
    slots = range(len(class_ids) + 1) if background else range(1, len(class_ids) + 1)
    stability = {number: iou(low == slot, high == slot) for number, slot in zip(ids, slots, strict=True)}
    agreement = {number: iou(chosen == slot, from_cam == slot) for number, slot in zip(ids, slots, strict=True)}
    sure = margins(own, chosen, level)
    if background:
        sure = margins(soft, chosen, level) + TIE * sure
    return Evidence(np.clip(sure, -1, 1), chosen > 0, stability, agreement)


def winners(maps: NDArray[np.float32], level: float) -> NDArray[np.int64]:
    """Slot of the strongest map ``(h, w)``: 0 where none is above ``level``, else 1..C."""
    floor = np.full((1, *maps.shape[1:]), level, dtype=np.float32)
    return np.asarray(np.concatenate([floor, maps]).argmax(axis=0))


def margins(maps: NDArray[np.float32], chosen: NDArray[np.int64], level: float) -> NDArray[np.float32]:
    """Value of the chosen slot less the best other one, ``(h, w)`` in [-1, 1]."""
    values = np.concatenate([np.full((1, *maps.shape[1:]), level, dtype=np.float32), maps])
    own = np.take_along_axis(values, chosen[None], axis=0)[0]
    np.put_along_axis(values, chosen[None], -np.inf, axis=0)
    result: NDArray[np.float32] = np.clip(own - values.max(axis=0), -1, 1).astype(np.float32)
    return result


def iou(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    union = int((one | two).sum())
    return int((one & two).sum()) / union if union else 1.0


def margin_histogram(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Counts ``(4000,)`` of margins over [-1, 1]."""
    bins = ((values.ravel() + 1) * (MARGIN_BINS / 2)).astype(np.int64).clip(0, MARGIN_BINS - 1)
    return np.bincount(bins, minlength=MARGIN_BINS)


def margin_limit(histogram: NDArray[np.int64], share: float) -> float:
    """The margin below which at most ``share`` of the pixels lie, a bin edge in [-1, 1].

    Example:
        >>> counts = np.zeros(4000, dtype=np.int64)
        >>> counts[[1000, 3000]] = 1, 9
        >>> margin_limit(counts, 0.1), margin_limit(counts, 0.05)
        (0.5, -0.5)
    """
    below = histogram.cumsum()
    allowed = share * below[-1] + 1e-9
    edge = int(np.searchsorted(below, allowed, side="right"))
    return edge / (MARGIN_BINS / 2) - 1
