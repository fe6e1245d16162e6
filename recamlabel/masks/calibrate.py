"""The background level without ground truth: Otsu's threshold of the class maps.

Per pixel the strongest map value of the image's classes is kept; over the data set these values fall
into two heaps, objects and background, and Otsu's threshold is the level that parts them best (largest
variance between the heaps). It sees neither masks nor the CRF's result.

Source: Otsu, "A Threshold Selection Method from Gray-Level Histograms", IEEE Trans. SMC 1979,
equations 13 to 18. What else was tried, and how far each is from the best threshold:
``benchmarks/thresholds.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.arrays import BINS
from recamlabel.errors import StoreError
from recamlabel.storage.hdf5 import class_ids

RESAMPLES = 200
FALLBACK = 0.45


@dataclass(frozen=True)
class Calibration:
    """A chosen background level and how sure it is.

    Attributes:
        threshold: In (0, 1), a multiple of 0.01.
        interval: Its 5th and 95th percentile when the images are drawn anew with replacement.
        curve: ``(threshold, criterion)``; the criterion is the share of the variance that lies
            between the two heaps, 0..1.
        images: Images with at least one label, whose maps were used.
        origin: How it was chosen, in words.
    """

    threshold: float
    interval: tuple[float, float]
    curve: tuple[tuple[float, float], ...]
    images: int
    origin: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "threshold": self.threshold,
            "interval": list(self.interval),
            "criterion": [list(point) for point in self.curve],
            "images": self.images,
            "origin": self.origin,
        }


def between_variance(histogram: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of the variance between the parts below and above each inner bin edge (Otsu, equation 18).

    Args:
        histogram: ``(n,)`` weights, >= 0.

    Returns:
        ``(n - 1,)`` in [0, 1]: entry i is for the threshold ``(i + 1) / n``. Zeros where all values are equal.

    Example:
        >>> between_variance(np.array([1.0, 0.0, 1.0])).tolist()
        [1.0, 1.0]
    """
    total = histogram.sum()
    if total <= 0:
        return np.zeros(len(histogram) - 1)
    share = histogram / total
    value = (np.arange(len(histogram)) + 0.5) / len(histogram)
    below, moment = share.cumsum()[:-1], (share * value).cumsum()[:-1]
    mean = float((share * value).sum())
    variance = float((share * (value - mean) ** 2).sum())
    split = below * (1 - below)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = np.where(split > 1e-12, (mean * below - moment) ** 2 / split, 0.0)
    return between / variance if variance > 1e-12 else np.zeros(len(histogram) - 1)


def otsu(histogram: NDArray[np.floating]) -> float:
    """The threshold with the largest variance between the heaps; the middle one, where several are best.

    Example:
        >>> otsu(np.array([5.0, 1.0, 0.0, 0.0, 1.0, 3.0]))
        0.5
    """
    between = between_variance(histogram)
    best = np.flatnonzero(between >= between.max() - 1e-9)
    return float((best[len(best) // 2] + 1) / len(histogram))


def calibrate(histograms: Sequence[NDArray[np.integer]], seed: int = 0) -> Calibration:
    """Choose the background level from the histograms of a data set's images.

    Every image counts alike, whatever its size. Where no image has a label, or the maps are all
    equal, the level is 0.45 and the interval says that nothing is known.

    Args:
        histograms: As :func:`recamlabel.arrays.map_histogram` gives them, one an image.
        seed: Of the resampling.
    """
    rows = [histogram / histogram.sum() for histogram in histograms if histogram.sum() > 0]
    total = np.sum(rows, axis=0) if rows else np.zeros(BINS)
    between = between_variance(total)
    points = tuple((round((index + 1) / BINS, 2), round(float(value), 5)) for index, value in enumerate(between))
    if not between.any():
        return Calibration(FALLBACK, (0.0, 1.0), points, len(rows), "default, because the maps say nothing")
    rng = np.random.default_rng(seed)
    stack = np.stack(rows)
    drawn = [otsu(stack[rng.integers(0, len(rows), len(rows))].sum(axis=0)) for _ in range(RESAMPLES)]
    low, high = (round(float(value), 2) for value in np.quantile(drawn, [0.05, 0.95]))
    origin = "chosen without ground truth (Otsu's threshold of the class maps)"
    return Calibration(round(otsu(total), 2), (low, high), points, len(rows), origin)


def stored_histograms(scores: h5py.File, image_ids: Iterable[str]) -> list[NDArray[np.integer]]:
    """The histograms that the refine stage left beside the scores.

    Raises:
        StoreError: An image without one.
    """
    found = []
    for image_id in image_ids:
        item = scores[f"scores/{image_id}"]
        if "histogram" in item.attrs:
            found.append(np.asarray(item.attrs["histogram"]))
        elif class_ids(item):
            raise StoreError(f"{scores.filename}: no histogram of image {image_id!r}; run `recamlabel fit` again")
    return found
