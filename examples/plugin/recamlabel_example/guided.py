"""A refiner: the guided filter, which lets maps follow the edges of the image.

    q = mean(a) I + mean(b),   a = cov(I, p) / (var(I) + eps),   b = mean(p) - a mean(I)

in windows of radius r, with the grey image I and the map p. He, Sun, Tang, "Guided Image Filtering", ECCV 2010,
equations 5 to 8.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from recamlabel.refine import Refiner
from recamlabel.refine.config import RefineConfig

RADIUS = 0.03  # of the longer side
EPSILON = 1e-3


def guided(
    image: NDArray[np.uint8], maps: NDArray[np.float32], config: RefineConfig, background: bool
) -> NDArray[np.float32]:
    """Scores of one image.

    Args:
        image: ``(H, W, 3)``.
        maps: ``(C, H, W)`` in [0, 1], one for each of the image's labels.
        config: The section ``refine``; the guided filter needs none of it.
        background: Whether there is a background that the classes compete with.

    Returns:
        ``(C, H, W)`` in [0, 1]: the highest background level at which a pixel is still given to the class.
    """
    width = 2 * max(1, round(RADIUS * max(image.shape[:2]))) + 1
    grey = (image.mean(axis=2) / 255).astype(np.float32)
    mean, square = _mean(grey, width), _mean(grey * grey, width)
    variance = square - mean * mean
    scores = np.zeros_like(maps)
    for number, one in enumerate(maps):
        own = _mean(one, width)
        slope = (_mean(grey * one, width) - mean * own) / (variance + EPSILON)
        scores[number] = _mean(slope, width) * grey + _mean(own - slope * mean, width)
    return scores.clip(0, 1)


def _mean(values: NDArray[np.floating[Any]], width: int) -> NDArray[np.float32]:
    return np.asarray(uniform_filter(values, width, mode="nearest"), dtype=np.float32)


# What the entry point names. `stepped` and `walks` (recamlabel.refine.Refiner) are not: scores at every level, no walk.
GUIDED = Refiner("guided", guided)
