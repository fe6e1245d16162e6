"""How well the evidence supports a mask: margins of pixels, stability and agreement of classes.

A pixel's margin is the distance of its score from the decision: how far the background level could move
before the pixel changes its class.

Everything is computed at the scores' own size from what the run holds, never from a true mask:
the refined scores, the class maps they were made from, and the plain CAM and the probe beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recamlabel.core.arrays import from_uint8, resize_maps
from recamlabel.core.classes import BACKGROUND_ID

# A mask that changes little when the level moves this far is stable.
LEVEL_STEP = 0.1
# Orders pixels whose scores are equally far from the decision by what the maps say; less than half a step
# of the refiner's levels, so that it never overrules the scores.
TIE = 0.02
MARGIN_BINS = 4000


@dataclass(frozen=True)
class Compared:
    """What is at hand of one image when its mask is judged, all of one size.

    Attributes:
        scores: ``(C, h, w) float32`` refined scores.
        maps: ``(C, h, w) float32`` the maps they were made from.
        cams: ``(C, h, w) float32`` the plain CAM.
        class_ids: The C class ids, 1..K; C >= 1.
        threshold: Background level of the mask.
        cam_threshold: Background level of the plain CAM's mask.
        background: False where every pixel belongs to a labelled class.
        probe: ``(C, h', w')`` probabilities of the classes; None where there is no probe.
    """

    scores: NDArray[np.float32]
    maps: NDArray[np.float32]
    cams: NDArray[np.float32]
    class_ids: Sequence[int]
    threshold: float
    cam_threshold: float
    background: bool
    probe: NDArray[np.floating] | None = None

    @property
    def level(self) -> float:
        """The threshold; without a background a level that every score is above."""
        return self.threshold if self.background else -1.0

    @cached_property
    def mask(self) -> NDArray[np.int64]:
        """Slots ``(h, w)`` of the mask: 0 background, 1..C the classes."""
        return winners(self.scores, self.level)

    @property
    def ids(self) -> dict[int, int]:
        """Slot by class id, the background's included where there is one."""
        slots = dict(zip(self.class_ids, range(1, len(self.class_ids) + 1), strict=True))
        return {BACKGROUND_ID: 0, **slots} if self.background else slots


def stability(compared: Compared) -> dict[int, float]:
    """By class id the IoU of the masks at a lower and a higher level."""
    low, high = (winners(compared.scores, compared.level + step) for step in (-LEVEL_STEP, LEVEL_STEP))
    return {class_id: _overlap(low, high, slot) for class_id, slot in compared.ids.items()}


def agreement(compared: Compared) -> dict[int, float]:
    """By class id the IoU of the mask and that of the plain CAM."""
    plain = winners(compared.cams, compared.cam_threshold if compared.background else -1.0)
    return {class_id: _overlap(compared.mask, plain, slot) for class_id, slot in compared.ids.items()}


def probe_support(compared: Compared) -> dict[int, float]:
    """By class id the mean probability that the probe gives to the class over its pixels; empty without a probe."""
    if compared.probe is None:
        return {}
    probabilities = with_background(compared.probe, compared.background)
    values = support(probabilities, compared.scores, compared.level, compared.background)[1]
    return dict(zip(compared.ids, values, strict=True))


# What speaks for a class of a mask, 0..1 by class id; empty where it has nothing to say. The class's score is the mean
# of those that do. One more is a function and its line here.
EVIDENCE: tuple[Callable[[Compared], dict[int, float]], ...] = (stability, agreement, probe_support)


@dataclass(frozen=True)
class Evidence:
    """What speaks for one image's mask.

    Attributes:
        margins: ``(h, w) float32`` in [-1, 1]: the score of the mask's class less the best other one
            (the background's is the threshold), ties ordered by the same difference of the maps. Without a
            background the refiner has no levels, and it is the maps' difference: below 0 they contradict the mask.
        foreground: ``(h, w)`` pixels of the mask that are not background.
        parts: By name of the evidence its values in [0, 1] by class id, background 0 included.
    """

    margins: NDArray[np.float32]
    foreground: NDArray[np.bool_]
    parts: Mapping[str, Mapping[int, float]]

    def class_scores(self) -> dict[int, float]:
        """What speaks for each class, 0..1 by class id: the mean of the evidence that has something to say."""
        parts = [part for part in self.parts.values() if part]
        return {class_id: sum(part[class_id] for part in parts) / len(parts) for class_id in parts[0]}


def gather_evidence(
    scores: NDArray[np.uint8],
    maps: NDArray[np.floating],
    cams: NDArray[np.floating],
    class_ids: Sequence[int],
    threshold: float,
    cam_threshold: float,
    background: bool,
    probe: NDArray[np.floating] | None = None,
) -> Evidence:
    """Compare the mask at a threshold with its neighbours, with the maps and with the probe (docs/method.md, 7).

    ``margin = (s_y - max_{j!=y} s_j) + 0.02 (m_y - max_{j!=y} m_j)``, *y* the mask's class, ``s_0 = m_0 = threshold``.

    Args:
        scores: ``(C, h, w) uint8`` refined scores, 255 = 1.0.
        maps: ``(C, h', w')`` the maps they were made from, in [0, 1].
        cams: ``(C, h', w')`` the plain CAM.
        class_ids: The C class ids, 1..K; C may be 0.
        threshold: Background level of the mask.
        cam_threshold: Background level of the plain CAM's mask.
        background: False where every pixel belongs to a labelled class.
        probe: ``(C, h', w')`` probabilities of the classes; None where there is no probe.

    Example:
        >>> maps = np.array([[[0.9, 0.2]]])
        >>> evidence = gather_evidence(np.array([[[255, 255]]], np.uint8), maps, maps, [3], 0.5, 0.5, True)
        >>> evidence.parts["agreement"], evidence.margins.round(3).tolist()
        ({0: 0.0, 3: 0.5}, [[0.5080000162124634, 0.49399998784065247]])
    """
    height, width = scores.shape[1:]
    if not len(class_ids):
        nothing = np.zeros((height, width), dtype=bool)
        return Evidence(np.ones((height, width), dtype=np.float32), nothing, {"stability": {BACKGROUND_ID: 1.0}})
    resized, plain = (resize_maps(planes, height, width) for planes in (maps, cams))  # (C, h, w) float32 each
    compared = Compared(from_uint8(scores), resized, plain, class_ids, threshold, cam_threshold, background, probe)
    margin = margins(compared.maps, compared.mask, compared.level)
    if background:
        margin = margins(compared.scores, compared.mask, compared.level) + TIE * margin
    parts = {one.__name__: one(compared) for one in EVIDENCE}
    return Evidence(np.clip(margin, -1, 1), compared.mask > 0, parts)


def with_background(probe: NDArray[np.floating], background: bool) -> NDArray[np.float32]:
    """The probe's probabilities with the background's, which is the rest, before them.

    Args:
        probe: ``(C, h, w)``.
        background: False: there is none, and the probabilities stay as they are.

    Example:
        >>> with_background(np.array([[[0.75, 0.25]]]), True).tolist()
        [[[0.25, 0.75]], [[0.75, 0.25]]]
    """
    probabilities: NDArray[np.float32] = np.asarray(probe, dtype=np.float32)
    if not background:
        return probabilities
    return np.concatenate([np.clip(1 - probabilities.sum(axis=0, keepdims=True), 0, 1), probabilities])


def expected_iou(probabilities: NDArray[np.float32], slots: NDArray[np.integer]) -> list[float]:
    """``sum_{n in k} p_k / (|k| + sum_n p_k - sum_{n in k} p_k)``: the IoU that a model, told the labels, expects.

    Expected intersection over expected union, pixels taken as independent: what the score of the mask would be
    if the truth were drawn from the model's probabilities.

    Args:
        probabilities: ``(S, h, w)``, summing to 1.
        slots: ``(h, w)`` rows of ``probabilities`` that the mask says; anything else is withheld, and its class
            misses it.

    Returns:
        For every row 0..1; 1 for one that neither the mask nor the model sees.

    Example:
        >>> probabilities = np.array([[[0.0, 0.5]], [[1.0, 0.5]]], dtype=np.float32)
        >>> expected_iou(probabilities, np.array([[1, 0]]))
        [0.5, 0.6666666666666666]
    """
    values = []
    for slot, row in enumerate(probabilities):
        at = slots == slot
        shared = float(row[at].sum())
        union = int(at.sum()) + float(row.sum()) - shared
        values.append(shared / union if union else 1.0)
    return values


def support(
    probabilities: NDArray[np.float32], scores: NDArray[np.float32], level: float, background: bool
) -> tuple[float, list[float]]:
    """Mean probability that a model, told the image's labels, gives to what the complete mask says.

    Softer than the overlap of two masks: an unsure model is no support, and a small class whose border is
    drawn a little wider is no contradiction.

    Args:
        probabilities: ``(S, h, w)``, summing to 1: of the background, if there may be any, and the image's C classes.
        scores: ``(C, h', w')`` of those classes, in [0, 1].
        level: Background level of the mask.
        background: Whether the first row is the background.

    Returns:
        Mean over all pixels, and for every row over the pixels that the mask gives to it. A class that has none is
        not supported at all (0); the background is, as far as the model sees none either.

    Example:
        >>> probabilities = np.array([[[0.2, 0.7]], [[0.8, 0.3]]], dtype=np.float32)
        >>> whole, rows = support(probabilities, np.array([[[0.9, 0.1]]], np.float32), 0.5, True)
        >>> round(whole, 2), [round(value, 2) for value in rows]
        (0.75, [0.7, 0.8])
    """
    if not len(probabilities):
        return 1.0, []
    chosen = np.zeros(probabilities.shape[1:], dtype=np.int64)
    if len(scores):
        chosen = winners(resize_maps(scores, *probabilities.shape[1:]), level if background else -1.0)
        chosen -= 0 if background else 1
    given = np.take_along_axis(probabilities, chosen[None], axis=0)[0]
    values = []
    for slot, row in enumerate(probabilities):
        at = chosen == slot
        absent = 1 - float(row.mean()) if background and slot == 0 else 0.0
        values.append(float(given[at].mean()) if at.any() else absent)
    return float(given.mean()), values


def winners(maps: NDArray[np.float32], level: float) -> NDArray[np.int64]:
    """Slot of the strongest map ``(h, w)``: 0 where none is above ``level``, else 1..C."""
    floor = np.full((1, *maps.shape[1:]), level, dtype=np.float32)
    return np.asarray(np.concatenate([floor, maps]).argmax(axis=0))


def margins(maps: NDArray[np.float32], chosen: NDArray[np.int64], level: float) -> NDArray[np.float32]:
    """Value of the chosen slot less the best other one, ``(h, w)`` in [-1, 1]."""
    values = np.concatenate([np.full((1, *maps.shape[1:]), level, dtype=np.float32), maps])
    chosen_value = np.take_along_axis(values, chosen[None], axis=0)[0]
    np.put_along_axis(values, chosen[None], -np.inf, axis=0)
    result: NDArray[np.float32] = np.clip(chosen_value - values.max(axis=0), -1, 1).astype(np.float32)
    return result


def _overlap(one: NDArray[np.int64], two: NDArray[np.int64], slot: int) -> float:
    """IoU of a slot in two masks. A labelled class that neither has is no agreement; the background is."""
    if slot and not (one == slot).any() and not (two == slot).any():
        return 0.0
    return iou(one == slot, two == slot)


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
