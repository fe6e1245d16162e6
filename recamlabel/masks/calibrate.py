"""The background level without ground truth, and how sure it is.

The level of the masks is where the regions correlate best with what the classifier goes by
(:mod:`recamlabel.masks.criterion`), the mean of the best levels of data sets drawn anew from the images; the level of
plain CAM, which serves for comparison only, is Otsu's threshold of its maps.

Sources: Otsu, "A Threshold Selection Method from Gray-Level Histograms", IEEE Trans. SMC 1979, equations 13 to 18;
averaging over drawings is the bagging of Breiman, "Bagging Predictors", Machine Learning 1996.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.core.arrays import BINS
from recamlabel.masks.criterion import blurred_all_over, correlation, kept_and_erased
from recamlabel.storage.atomic import replacing
from recamlabel.storage.hdf5 import open_store

RESAMPLES = 200
# Where nothing is known: half of the peak, where the edge of an object lies in a blurred map.
FALLBACK = 0.5
# Labels whose evidence is at least so large say where it lies, and such a share of all labels speaks for a data set.
TELLING, ENOUGH = 0.3, 0.5
# The interval that stands for "nothing is known".
ANYWHERE = (0.0, 1.0)
ORIGIN = "chosen without ground truth, by what the classifier goes by"
NOTHING = "the default, half of the peak, as the classifier's answers say nothing about regions"


Ask = Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.floating[Any]]]
"""``B images (h, w, 3) uint8 -> (B, C)`` confidence in each of an image's C classes, in [0, 1]."""


class Answers(NamedTuple):
    """The classifier's confidence in one label of one image: a row of :class:`LevelEvidence`."""

    kept: NDArray[np.floating[Any]]
    erased: NDArray[np.floating[Any]]
    area: NDArray[np.float64]
    whole: float
    blurred: float


def answers(
    image: NDArray[np.uint8], scores: NDArray[np.float32], levels: Sequence[float], ask: Ask
) -> Iterator[Answers]:
    """What the classifier says to the regions of each of an image's classes, class by class.

    Args:
        image: ``(h, w, 3) uint8``, at the scores' size.
        scores: ``(C, h, w)`` in [0, 1].
        levels: L background levels.
        ask: The classifier.
    """
    hazy = blurred_all_over(image)
    whole, blurred = ask([image, hazy])
    for slot, questions in enumerate(kept_and_erased(image, hazy, scores, levels)):
        kept, erased = (ask(pictures)[:, slot] for pictures in (questions.kept, questions.erased))
        yield Answers(kept, erased, questions.area, float(whole[slot]), float(blurred[slot]))


@dataclass(frozen=True)
class LevelEvidence:
    """What is known about the candidate levels; stored as ``levels.h5`` in the run.

    One row for each label of each image that the classifier was asked about, N in all.

    Attributes:
        levels: ``(L,)`` candidate background levels, ascending.
        kept: ``(N, L)`` in [0, 1], confidence in the label where all but its region is blurred.
        erased: ``(N, L)`` in [0, 1], where its region is blurred.
        area: ``(N, L)`` in [0, 1], share of the pixels.
        whole: ``(N,)`` in [0, 1], confidence in the whole image.
        blurred: ``(N,)`` in [0, 1], in the image that is blurred all over.
    """

    levels: NDArray[np.float64]
    kept: NDArray[np.float64]
    erased: NDArray[np.float64]
    area: NDArray[np.float64]
    whole: NDArray[np.float64]
    blurred: NDArray[np.float64]

    @classmethod
    def of(cls, levels: Sequence[float], rows: Sequence[Answers]) -> LevelEvidence:
        """The answers of all labels that were asked about.

        Example:
            >>> LevelEvidence.of([0.3, 0.5], []).kept.shape
            (0, 2)
        """
        shapes = {name: (-1, len(levels)) if name in ("kept", "erased", "area") else (-1,) for name in Answers._fields}
        parts = {name: np.reshape([getattr(row, name) for row in rows], shape) for name, shape in shapes.items()}
        return cls(np.array(levels), **parts)

    def save(self, path: Path, attributes: dict[str, Any]) -> None:
        """Write the arrays to an HDF5 file, atomically."""
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            file.attrs.update(attributes)
            for part in fields(self):
                file[part.name] = getattr(self, part.name)

    @classmethod
    def load(cls, path: Path) -> LevelEvidence:
        """Read what :meth:`save` wrote. Raises StoreError where the file is missing or damaged."""
        with open_store(path) as file:
            return cls(*(file[part.name][()] for part in fields(cls)))

    @property
    def telling(self) -> NDArray[np.bool_]:
        """``(N,)``: rows whose label the classifier does not see in the blurred image."""
        return self.whole - self.blurred >= TELLING

    @property
    def speaks(self) -> bool:
        """Whether enough labels tell something."""
        return bool(len(self.whole)) and float(self.telling.mean()) >= ENOUGH

    def share(self) -> NDArray[np.float64]:
        """``(L,)`` in [0, 1]: how much of the classifier's evidence the regions hold; zeros if nothing is known."""
        rows = self.telling
        whole, blurred = self.whole[rows, None], self.blurred[rows, None]
        known = 2 * float((whole - blurred).sum())
        held = ((self.kept[rows] - blurred) + (whole - self.erased[rows])).sum(axis=0)
        return np.clip(held / known, 0, 1) if known > 0 else np.zeros(len(self.levels))

    def covered(self) -> NDArray[np.float64]:
        """``(L,)`` in [0, 1]: mean share of the pixels that a label's region covers."""
        return self.area.mean(axis=0) if len(self.area) else np.zeros(len(self.levels))

    def criterion(self) -> NDArray[np.float64]:
        """``(L,)`` correlation of the masks with the evidence; zeros if nothing is known."""
        return correlation(self.share(), self.covered())

    def drawn(self, rng: np.random.Generator) -> LevelEvidence:
        """The same with rows drawn anew, with replacement."""
        rows = rng.integers(0, len(self.whole), len(self.whole))
        parts = (getattr(self, part.name)[rows] for part in fields(self) if part.name != "levels")
        return LevelEvidence(self.levels, *parts)


@dataclass(frozen=True)
class Calibration:
    """A chosen background level and how sure it is.

    Attributes:
        threshold: In (0, 1).
        interval: 5th and 95th percentile of the best levels when the labels are drawn anew with replacement;
            :data:`ANYWHERE` where nothing is known.
        curve: ``(level, criterion)``.
        labels: Labels of images that the classifier was asked about.
        origin: How it was chosen, in words.
        parts: By name the curves that the criterion is made of, on the same levels.
    """

    threshold: float
    interval: tuple[float, float]
    curve: tuple[tuple[float, float], ...]
    labels: int
    origin: str
    parts: dict[str, tuple[float, ...]]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "threshold": self.threshold,
            "interval": list(self.interval),
            "criterion": [list(point) for point in self.curve],
            "parts": {name: list(values) for name, values in self.parts.items()},
            "labels": self.labels,
            "origin": self.origin,
        }


def calibrate(evidence: LevelEvidence, seed: int = 0) -> Calibration:
    """Choose the background level: the mean of the best ones of :data:`RESAMPLES` drawings of the labels.

    Where no image has a label, most labels tell nothing, or all levels are equally good, the level is 0.5 and the
    interval says that nothing is known.

    Args:
        evidence: Of the run.
        seed: Of the drawings.

    Example:
        >>> rows = [np.array([row]) for row in ([0.9, 0.9], [0.1, 0.1], [0.5, 0.2])]
        >>> found = calibrate(LevelEvidence(np.array([0.3, 0.5]), *rows, np.array([0.9]), np.array([0.1])))
        >>> found.threshold, found.curve
        (0.5, ((0.3, 1.0), (0.5, 2.0)))
    """
    criterion = evidence.criterion()
    curve = tuple(
        (float(level), round(float(value), 5)) for level, value in zip(evidence.levels, criterion, strict=True)
    )
    named = {"evidence held": evidence.share(), "pixels covered": evidence.covered()}
    parts = {name: tuple(np.round(values, 5).tolist()) for name, values in named.items() if evidence.speaks}
    count = len(evidence.whole)
    if not evidence.speaks or np.ptp(criterion) <= 1e-12:
        return Calibration(FALLBACK, ANYWHERE, curve, count, NOTHING, parts)
    rng = np.random.default_rng(seed)
    drawings = [evidence.drawn(rng) for _ in range(RESAMPLES)]
    drawn = [best_level(evidence.levels, one.criterion()) for one in drawings if one.telling.any()]
    low, high = (round(float(value), 2) for value in np.quantile(drawn, [0.05, 0.95]))
    return Calibration(round(float(np.mean(drawn)), 2), (low, high), curve, count, ORIGIN, parts)


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


def otsu_level(histograms: Iterable[NDArray[np.integer]]) -> float:
    """Otsu's threshold of many images' maps, each image weighted alike; 0.5 where they are all equal.

    Args:
        histograms: As :func:`recamlabel.core.arrays.map_histogram` gives them, one an image.
    """
    total = np.zeros(BINS)
    for histogram in histograms:
        total += histogram / max(histogram.sum(), 1)
    return round(otsu(total), 2) if between_variance(total).any() else FALLBACK
