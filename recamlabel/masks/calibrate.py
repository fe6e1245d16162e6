"""The background level without ground truth, and how sure it is.

The level of the masks maximises separation times kept confidence (:mod:`recamlabel.masks.criterion`);
the level of plain CAM, which serves for comparison only, is Otsu's threshold of its maps.

Source of the latter: Otsu, "A Threshold Selection Method from Gray-Level Histograms", IEEE Trans. SMC
1979, equations 13 to 18.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.core.arrays import BINS
from recamlabel.storage.atomic import replacing
from recamlabel.storage.hdf5 import open_store

RESAMPLES = 200
FALLBACK = 0.45
ORIGIN = "chosen without ground truth, by separation and kept confidence"
NOTHING = "default, because the maps say nothing"


@dataclass(frozen=True)
class LevelEvidence:
    """What is known about the candidate levels; stored as ``levels.h5`` in the run.

    Attributes:
        levels: ``(L,)`` candidate background levels, ascending.
        separation: ``(N, L)`` in [0, 1], one row an image with a label.
        kept: ``(M, L)`` in [0, 1], one row a sampled image, the mean over its labels.
    """

    levels: NDArray[np.float64]
    separation: NDArray[np.float64]
    kept: NDArray[np.float64]

    def save(self, path: Path, attributes: dict[str, Any]) -> None:
        """Write the three arrays to an HDF5 file, atomically."""
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            file.attrs.update(attributes)
            for name in ("levels", "separation", "kept"):
                file[name] = getattr(self, name)

    @classmethod
    def load(cls, path: Path) -> LevelEvidence:
        """Read what :meth:`save` wrote. Raises StoreError where the file is missing or damaged."""
        with open_store(path) as file:
            return cls(*(file[name][()] for name in ("levels", "separation", "kept")))

    def criterion(self) -> NDArray[np.float64]:
        """``(L,)`` separation times kept confidence, means over the images; zeros if nothing is known."""
        if not len(self.separation):
            return np.zeros(len(self.levels))
        kept = self.kept.mean(axis=0) if len(self.kept) else np.ones(len(self.levels))
        product: NDArray[np.float64] = self.separation.mean(axis=0) * kept
        return product

    def drawn(self, rng: np.random.Generator) -> LevelEvidence:
        """The same with images drawn anew, with replacement."""

        def again(rows: NDArray[np.float64]) -> NDArray[np.float64]:
            return rows[rng.integers(0, len(rows), len(rows))] if len(rows) else rows

        return LevelEvidence(self.levels, again(self.separation), again(self.kept))


@dataclass(frozen=True)
class Calibration:
    """A chosen background level and how sure it is.

    Attributes:
        threshold: In (0, 1).
        interval: Its 5th and 95th percentile when the images are drawn anew with replacement.
        curve: ``(level, criterion)``.
        images: Images with at least one label, whose masks were used.
        origin: How it was chosen, in words.
        parts: By name the curves that the criterion is made of, on the same levels.
    """

    threshold: float
    interval: tuple[float, float]
    curve: tuple[tuple[float, float], ...]
    images: int
    origin: str
    parts: dict[str, tuple[float, ...]]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "threshold": self.threshold,
            "interval": list(self.interval),
            "criterion": [list(point) for point in self.curve],
            "parts": {name: list(values) for name, values in self.parts.items()},
            "images": self.images,
            "origin": self.origin,
        }


def calibrate(evidence: LevelEvidence, seed: int = 0) -> Calibration:
    """Choose the background level. Every image counts alike, whatever its size.

    Where no image has a label, or all levels are equally good, the level is 0.45 and the interval
    says that nothing is known.

    Args:
        evidence: Of the run.
        seed: Of the resampling.

    Example:
        >>> found = calibrate(LevelEvidence(np.array([0.3, 0.5]), np.array([[0.1, 0.2]]), np.array([[0.9, 0.8]])))
        >>> found.threshold, found.curve
        (0.5, ((0.3, 0.09), (0.5, 0.16)))
    """
    criterion = evidence.criterion()
    curve = tuple(
        (float(level), round(float(value), 5)) for level, value in zip(evidence.levels, criterion, strict=True)
    )
    parts = {
        name: tuple(np.round(rows.mean(axis=0), 5).tolist())
        for name, rows in (("separation", evidence.separation), ("kept", evidence.kept))
        if len(rows)
    }
    if not len(criterion) or np.ptp(criterion) <= 1e-12:
        return Calibration(FALLBACK, (0.0, 1.0), curve, len(evidence.separation), NOTHING, parts)
    rng = np.random.default_rng(seed)
    drawn = [best_level(evidence.levels, evidence.drawn(rng).criterion()) for _ in range(RESAMPLES)]
    low, high = (round(float(value), 2) for value in np.quantile(drawn, [0.05, 0.95]))
    threshold = best_level(evidence.levels, criterion)
    return Calibration(threshold, (low, high), curve, len(evidence.separation), ORIGIN, parts)


def best_level(levels: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """The level with the largest value; the middle one, where several are best.

    Example:
        >>> best_level(np.array([0.2, 0.3, 0.4]), np.array([1.0, 1.0, 0.5]))
        0.3
    """
    best = np.flatnonzero(values >= values.max() - 1e-12)
    return float(levels[best[len(best) // 2]])


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


def otsu_level(histograms: Sequence[NDArray[np.integer]]) -> float:
    """Otsu's threshold of many images' maps, each image weighted alike; 0.45 where they are all equal.

    Args:
        histograms: As :func:`recamlabel.core.arrays.map_histogram` gives them, one an image.
    """
    rows = [histogram / histogram.sum() for histogram in histograms if histogram.sum() > 0]
    total = np.sum(rows, axis=0) if rows else np.zeros(BINS)
    return round(otsu(total), 2) if between_variance(total).any() else FALLBACK
