"""What tells a good background level without ground truth: unlike regions that keep what the class needs.

Two quantities are computed from the refined masks at every candidate level:

- *separation*: the share of the variance of colour and texture that lies between the mask's regions. It
  grows while the mask sheds background, and falls once it cuts into objects that look alike throughout.
- *kept*: the classifier's confidence in a label when it sees only that label's region, all else blurred.
  It stays while the region holds the object, and falls as parts of it are lost.

Separation alone prefers the most striking part of an object, kept alone prefers everything; their
product has its peak between. Neither sees a true mask. That form was picked among some
others by the true masks of MSRC-17 and of drawn scenes: ``benchmarks/thresholds.md`` has the figures.

Sources: the variance between groups is that of Otsu, "A Threshold Selection Method from Gray-Level
Histograms", IEEE Trans. SMC 1979, on the mask's regions instead of grey levels; asking the classifier
about the region alone follows Fong and Vedaldi, "Interpretable Explanations of Black Boxes by
Meaningful Perturbation", ICCV 2017 ("preservation", blurred complement).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude

# The blur's radius as a share of the longer side: nothing of the class is to be recognised in it.
BLUR_SHARE = 1 / 12
# Pixels: grain and JPEG noise are no texture of an object.
COLOUR_SIGMA, TEXTURE_SIGMA = 2.0, 3.0
GRID = tuple(round(0.05 * step, 2) for step in range(2, 19))


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


def appearance(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a pixel and its neighbourhood look like: three smoothed colours and the strength of texture.

    Args:
        image: ``(h, w, 3) uint8``.

    Returns:
        ``(4, h, w) float32``, grey levels; texture is the smoothed length of the grey value's gradient.
    """
    planes = np.moveaxis(image, 2, 0).astype(np.float32)
    edges = gaussian_gradient_magnitude(planes.mean(axis=0), 1)
    colours = [gaussian_filter(plane, COLOUR_SIGMA) for plane in planes]
    return np.stack([*colours, gaussian_filter(edges, TEXTURE_SIGMA)])


def separation(
    features: NDArray[np.float32], scores: NDArray[np.float32], levels: Sequence[float]
) -> NDArray[np.float64]:
    """``eta^2(t) = sum_r n_r |mu_r - mu|^2 / sum_n |v[n] - mu|^2``: the features' variance between the mask's regions.

    Per feature, then the mean over those that vary (docs/method.md, 6).

    Args:
        features: ``(D, h, w)``, such as :func:`appearance` gives them.
        scores: ``(C, h, w) float32`` in [0, 1], C >= 1.
        levels: L background levels.

    Returns:
        ``(L,)`` in [0, 1]: the mean over the features that vary; 0 where none does or all is one region.

    Example:
        >>> features = np.array([[[0.0, 9.0]]], dtype=np.float32)
        >>> separation(features, np.array([[[0.2, 1.0]]], dtype=np.float32), [0.1, 0.5]).tolist()
        [0.0, 1.0]
    """
    values = features.reshape(len(features), -1).astype(np.float64)
    values = values - values.mean(axis=1, keepdims=True)
    variance = (values**2).sum(axis=1)
    varying = np.flatnonzero(variance > 1e-9 * values.shape[1])
    result = np.zeros(len(levels))
    if not len(varying):
        return result
    for index, regions in enumerate(regions_at(scores, levels)):
        flat = regions.ravel()
        count = np.bincount(flat)
        filled = count > 0
        between = [(np.bincount(flat, values[row])[filled] ** 2 / count[filled]).sum() for row in varying]
        result[index] = np.mean(between / variance[varying])
    return result


def kept_alone(
    image: NDArray[np.uint8], scores: NDArray[np.float32], levels: Sequence[float]
) -> Iterator[list[NDArray[np.uint8]]]:
    """The image with all but one class's region blurred, class by class.

    Args:
        image: ``(h, w, 3) uint8``, at the scores' size.
        scores: ``(C, h, w) float32`` in [0, 1].
        levels: L background levels.

    Yields:
        For each of the C classes L images ``(h, w, 3) uint8``.
    """
    blur = ImageFilter.GaussianBlur(max(image.shape[:2]) * BLUR_SHARE)
    blurred = np.asarray(Image.fromarray(image).filter(blur))
    masks = list(regions_at(scores, levels))
    for slot in range(1, len(scores) + 1):
        yield [np.where((mask == slot)[..., None], image, blurred) for mask in masks]
