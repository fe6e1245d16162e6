"""Intervals of scores over images drawn anew with replacement (the bootstrap), in one pass and bounded memory.

Scores here are ratios of pixel counts over all images, so a resample is a weighted sum of the images' counts.
The weights of all resamples are drawn when an image comes by (each is its share of a multinomial, drawn binomial
by binomial), and nothing of the image is kept: memory does not grow with the number of images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recamlabel.evaluation.confusion import ClassCounts

RESAMPLES = 1000
LOW, HIGH = 0.025, 0.975
Interval = tuple[float, float]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Resampled:
    """Scores of every resample as fractions, each ``(R,)``; as in :class:`~recamlabel.evaluation.confusion.Scores`."""

    miou: Values
    miou_covered: Values
    coverage: Values


class Resampling:
    """Counts of ``images`` images drawn with replacement, many times at once.

    Several series (two runs, say) are given the same draws: their differences are paired. Memory is
    ``32 * series * resamples * n_classes`` bytes.

    Args:
        images: How many images will come.
        n_classes: With the background.
        series: How many counts come with each image.
        resamples: R.
        seed: Of the drawing.

    Example:
        >>> resampling = Resampling(images=2, n_classes=1)
        >>> for hits in (2, 4):
        ...     resampling.update(ClassCounts(*np.array([[hits], [4], [4], [0]])))
        >>> resampling.interval(resampling.of(0).miou)
        (0.33..., 1.0)
    """

    def __init__(self, images: int, n_classes: int, series: int = 1, resamples: int = RESAMPLES, seed: int = 0) -> None:
        self.images = self._to_come = images
        self._undrawn = np.full(resamples, images, dtype=np.int64)
        self._rng = np.random.default_rng(seed)
        self._counts = np.zeros((series, resamples, 4, n_classes), dtype=np.int64)

    def update(self, *series: ClassCounts) -> None:
        """Add one image: its own counts, one a series."""
        weights = self._rng.binomial(self._undrawn, 1 / max(self._to_come, 1))
        self._undrawn -= weights
        self._to_come -= 1
        for number, counts in enumerate(series):
            table = np.stack([counts.hits, counts.predicted, counts.truth, counts.unanswered])
            # An image holds few of the classes.
            there = np.flatnonzero(table.any(axis=0))
            self._counts[number][:, :, there] += weights[:, None, None] * table[None, :, there]

    def of(self, series: int) -> Resampled:
        """The scores of one series in every resample; NaN where a resample has nothing to measure."""
        hits, predicted, truth, unanswered = np.moveaxis(self._counts[series], 1, 0).astype(np.float64)
        answered, total = truth - unanswered, truth.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            coverage = answered.sum(axis=1) / total
        covered = _mean_iou(hits, answered + predicted - hits)
        return Resampled(_mean_iou(hits, truth + predicted - hits), covered, coverage)

    def interval(self, values: Values) -> Interval | None:
        """The middle 95 % of the resamples' values; None for fewer than two images, of which none can be drawn."""
        known = values[~np.isnan(values)]
        if self.images < 2 or not known.size:
            return None
        low, high = np.quantile(known, [LOW, HIGH])
        return float(low), float(high)


def _mean_iou(hits: Values, union: Values) -> Values:
    """``(R,)``: mean over the classes with a pixel of ``(R, K+1)`` hits and unions."""
    there = union > 0
    iou = np.divide(hits, union, out=np.zeros_like(hits), where=there)
    count = there.sum(axis=1)
    result: Values = np.where(count > 0, iou.sum(axis=1) / np.maximum(count, 1), np.nan)
    return result
