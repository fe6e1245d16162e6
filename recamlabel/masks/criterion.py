"""What tells a good background level without ground truth: regions that hold what the classifier goes by, and no more.

The classifier is asked about every label at every candidate level, twice: about the label's region alone, all else
blurred (*kept*), and about the image with the region blurred (*erased*); and once each about the whole image and
about one that is blurred all over. The share of its evidence that a region holds is

    e(t) = sum_n (kept - blurred) + (whole - erased)  /  2 sum_n (whole - blurred)

between 0 and 1: what the region is enough for, and what is lost without it. A region that covers more holds more, so
it is set against what as large a region would hold by chance, in units of what chance varies by. With the share A(t)
of the pixels that is covered:

    rho(t) = (e(t) - A(t)) / sqrt(A(t) (1 - A(t)))

the correlation of the mask with where the evidence lies (the phi coefficient). It sees no true mask. Labels that the
classifier sees in the blurred image too (whole - blurred below 0.3) say nothing about regions and do not count.

Sources: both questions are those of Fong and Vedaldi, "Interpretable Explanations of Black Boxes by Meaningful
Perturbation", ICCV 2017 ("preservation" and "deletion", blurred); setting the answer against the area follows Dabkowski
and Gal, "Real Time Image Saliency for Black Box Classifiers", NIPS 2017, section 3, and the form the correlation of
Yule, "On the Methods of Measuring Association Between Two Attributes", 1912.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

# The blur's radius as a share of the longer side: nothing of the class is to be recognised in it.
BLUR_SHARE = 1 / 12
# Below, a region is a pixel or two, or all but those: what it holds is rounding.
SMALLEST_SPREAD = 0.01
GRID = tuple(round(0.05 * step, 2) for step in range(2, 19))


@dataclass(frozen=True)
class Questions:
    """What the classifier is asked about one class of one image.

    Attributes:
        kept, erased: L images ``(h, w, 3) uint8`` each, one a level.
        area: ``(L,) float64``, the region's share of the pixels.
    """

    kept: list[NDArray[np.uint8]]
    erased: list[NDArray[np.uint8]]
    area: NDArray[np.float64]


def candidate_levels(levels: Sequence[float], stepped: bool) -> tuple[float, ...]:
    """Background levels worth comparing: the CRF's own, where scores have no other; else 0.10, 0.15, … 0.90.

    Example:
        >>> candidate_levels([0.3, 0.5], stepped=True), len(candidate_levels([0.3], stepped=False))
        ((0.3, 0.5), 17)
    """
    return tuple(levels) if stepped else GRID


def regions_at(scores: NDArray[np.float32], levels: Sequence[float]) -> Iterator[NDArray[np.int64]]:
    """The mask at every level, as slots ``(h, w)``: 0 background, 1..C the first axis of the scores."""
    winner, value = scores.argmax(axis=0) + 1, scores.max(axis=0)
    for level in levels:
        yield np.where(value > level, winner, 0)


def kept_and_erased(
    image: NDArray[np.uint8], blurred: NDArray[np.uint8], scores: NDArray[np.float32], levels: Sequence[float]
) -> Iterator[Questions]:
    """The image with all but one class's region blurred, and with that region blurred, class by class.

    Args:
        image: ``(h, w, 3) uint8``, at the scores' size.
        blurred: The same after :func:`blurred_all_over`.
        scores: ``(C, h, w) float32`` in [0, 1].
        levels: L background levels.

    Yields:
        For each of the C classes its :class:`Questions`.
    """
    masks = list(regions_at(scores, levels))
    for slot in range(1, len(scores) + 1):
        regions = [(mask == slot)[..., None] for mask in masks]
        yield Questions(
            [np.where(region, image, blurred) for region in regions],
            [np.where(region, blurred, image) for region in regions],
            np.array([region.mean() for region in regions]),
        )


def blurred_all_over(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image ``(h, w, 3) uint8`` in which nothing small is to be recognised."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(max(image.shape[:2]) * BLUR_SHARE)))


def correlation(share: NDArray[np.float64], area: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(e - A) / sqrt(A (1 - A))``: how much more evidence a region holds than as large a one would by chance.

    Args:
        share: ``(L,)`` in [0, 1] of the evidence.
        area: ``(L,)`` in [0, 1] of the pixels.

    Returns:
        ``(L,)``; 0 where the region is empty or everything.

    Example:
        >>> correlation(np.array([0.5, 0.9]), np.array([0.5, 0.1])).round(2).tolist()
        [0.0, 2.67]
    """
    spread = np.sqrt(area * (1 - area))
    return np.where(spread > SMALLEST_SPREAD, (share - area) / np.maximum(spread, SMALLEST_SPREAD), 0.0)
