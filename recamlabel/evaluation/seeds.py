"""Seeds (class maps under a background threshold) scored at all thresholds in one pass.

The seed at threshold t is ``argmax([t, maps])``: background unless some map is above t.
A pixel needs only two facts to be scored at every threshold: its winning class and how many
thresholds lie below its winning value. So one histogram a class over these counts gives the
whole curve: memory is O(classes x thresholds), and no image is read twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recamlabel.evaluation.confusion import ClassCounts, Counts

THRESHOLDS = np.linspace(0, 1, 101).astype(np.float32)


def seed_mask(maps: NDArray[np.float32], class_ids: Sequence[int], threshold: float) -> NDArray[np.int64]:
    """The seed ``(H, W)`` of maps ``(C, H, W)``: background 0 where no map is above ``threshold``.

    Example:
        >>> seed_mask(np.array([[[0.2, 0.6]]], dtype=np.float32), [4], 0.5).tolist()
        [[0, 4]]
    """
    ids = np.array([0, *class_ids])
    level = np.full((1, *maps.shape[1:]), threshold, dtype=np.float32)
    chosen: NDArray[np.int64] = ids[np.concatenate([level, maps]).argmax(axis=0)]
    return chosen


@dataclass(frozen=True)
class BestThreshold:
    """The threshold with the highest mIoU, the counts there, and the curve over all thresholds.

    Args:
        threshold: The best background threshold; the smallest one, where several are best.
        counts: Pixel counts a class at that threshold.
        curve: ``(threshold, mIoU as a fraction)`` for every threshold.
    """

    threshold: float
    counts: ClassCounts
    curve: tuple[tuple[float, float], ...]


class SeedSweep:
    """Collects images, then scores their seeds at every threshold of 0.00, 0.01, …, 1.00.

    Args:
        n_classes: Number of classes with the background.
        ignore_id: Value of true pixels without a label; they take no part.

    Example:
        >>> sweep = SeedSweep(n_classes=2, ignore_id=255)
        >>> sweep.update(np.array([[0, 1, 1]]), np.array([[[0.1, 0.5, 0.9]]], dtype=np.float32), [1])
        >>> best = sweep.best()
        >>> best.threshold, best.counts.scores().miou
        (0.1, 1.0)
    """

    def __init__(self, n_classes: int, ignore_id: int) -> None:
        self.n_classes, self.ignore_id = n_classes, ignore_id
        bins = len(THRESHOLDS) + 1
        # [c, b]: pixels whose winning class is c and whose value is above exactly b thresholds.
        self._winner: Counts = np.zeros((n_classes, bins), dtype=np.int64)
        self._hits: Counts = np.zeros((n_classes, bins), dtype=np.int64)
        self._true_background: Counts = np.zeros(bins, dtype=np.int64)
        self._truth: Counts = np.zeros(n_classes, dtype=np.int64)

    def update(self, truth: NDArray[np.integer], maps: NDArray[np.float32], class_ids: Sequence[int]) -> None:
        """Add one image.

        Args:
            truth: ``(H, W)`` class ids 0..K or ``ignore_id``.
            maps: ``(C, H, W)`` class maps in [0, 1] of the classes of the image's label; C may be 0.
            class_ids: The C class ids (1..K) of the maps.

        Raises:
            ValueError: Shapes or the number of class ids do not go together.
        """
        if maps.ndim != 3 or maps.shape[1:] != truth.shape or len(class_ids) != len(maps):
            raise ValueError(
                f"expected maps (C, {', '.join(map(str, truth.shape))}) with C class ids, "
                f"got {maps.shape} with {len(class_ids)}"
            )
        valid = truth != self.ignore_id
        labels = truth[valid].astype(np.int64)
        winner = np.zeros(labels.shape, dtype=np.int64)
        level = np.zeros(labels.shape, dtype=np.int64)
        if len(class_ids):
            values = maps[:, valid]
            winner = np.asarray(class_ids, dtype=np.int64)[values.argmax(axis=0)]
            level = np.searchsorted(THRESHOLDS, values.max(axis=0), side="left")
        self._winner += self._histogram(winner, level)
        self._hits += self._histogram(winner[winner == labels], level[winner == labels])
        self._true_background += np.bincount(level[labels == 0], minlength=len(self._true_background))
        self._truth += np.bincount(labels, minlength=self.n_classes)

    def _histogram(self, winner: Counts, level: Counts) -> Counts:
        shape = self._winner.shape
        return np.bincount(winner * shape[1] + level, minlength=shape[0] * shape[1]).reshape(shape)

    def counts(self) -> list[ClassCounts]:
        """The pixel counts a class at every threshold."""
        # A pixel above b thresholds is foreground at the first b of them.
        predicted = self._above(self._winner)
        hits = self._above(self._hits)
        predicted[0] = self._winner.sum() - predicted[1:].sum(axis=0)
        hits[0] = np.cumsum(self._true_background)[: len(THRESHOLDS)]
        none = np.zeros(self.n_classes, dtype=np.int64)
        return [
            ClassCounts(hits=hits[:, index], predicted=predicted[:, index], truth=self._truth, unanswered=none)
            for index in range(len(THRESHOLDS))
        ]

    @staticmethod
    def _above(histogram: Counts) -> Counts:
        """``[c, i]``: pixels of class c that are foreground at threshold i."""
        return np.asarray(histogram[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:])

    def best(self) -> BestThreshold:
        """The best threshold. It is chosen with the true masks: say so wherever it is shown."""
        counts = self.counts()
        miou = np.array([item.scores().miou for item in counts])
        index = 0 if np.isnan(miou).all() else int(np.nanargmax(miou))
        thresholds = [round(float(value), 2) for value in THRESHOLDS]
        curve = tuple(zip(thresholds, miou.tolist(), strict=True))
        return BestThreshold(thresholds[index], counts[index], curve)
