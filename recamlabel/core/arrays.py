"""Small array helpers that need neither torch nor a file."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BINS = 100


def resize_maps(maps: NDArray[np.floating], height: int, width: int) -> NDArray[np.float32]:
    """Resize maps bilinearly; enlarging equals ``align_corners=False``, shrinking antialiases.

    Args:
        maps: ``(C, h, w)`` floating point; C may be 0.
        height, width: Wanted size in pixels, at least 1.

    Returns:
        ``(C, height, width) float32``.

    Example:
        >>> resize_maps(np.array([[[0.0, 1.0]]]), 1, 4)[0, 0].tolist()
        [0.0, 0.25, 0.75, 1.0]
    """
    if maps.shape[1:] == (height, width) or maps.shape[0] == 0:
        return np.array(
            np.broadcast_to(maps, (maps.shape[0], height, width)) if maps.shape[0] else np.zeros((0, height, width)),
            dtype=np.float32,
        )
    size = (width, height)
    resized = [Image.fromarray(one.astype(np.float32)).resize(size, Image.Resampling.BILINEAR) for one in maps]
    return np.stack([np.asarray(one, dtype=np.float32) for one in resized])


def nearest(mask: NDArray[np.integer], height: int, width: int) -> NDArray[np.int64]:
    """A mask at another size, by the pixel at each centre.

    Args:
        mask: ``(H, W)`` class ids.
        height, width: Wanted size in pixels, at least 1.

    Returns:
        ``(height, width) int64``.

    Example:
        >>> nearest(np.array([[1, 2, 3, 4]]), 1, 2).tolist()
        [[2, 4]]
    """
    rows = np.minimum((np.arange(height) + 0.5) * mask.shape[0] / height, mask.shape[0] - 1).astype(int)
    columns = np.minimum((np.arange(width) + 0.5) * mask.shape[1] / width, mask.shape[1] - 1).astype(int)
    return np.asarray(mask[rows[:, None], columns[None, :]], dtype=np.int64)


def to_uint8(scores: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Scores in [0, 1] to 0..255, rounded; an error of at most 1/510.

    Example:
        >>> to_uint8(np.array([0.0, 0.5, 1.0])).tolist()
        [0, 128, 255]
    """
    return np.asarray(np.clip(scores, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def from_uint8(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Inverse of :func:`to_uint8`."""
    return stored.astype(np.float32) / np.float32(255.0)


def map_histogram(maps: NDArray[np.floating]) -> NDArray[np.int32]:
    """Histogram of the strongest map value of every pixel.

    Args:
        maps: ``(C, h, w)`` in [0, 1]; C may be 0.

    Returns:
        ``(100,) int32`` counts; bin i holds values in [i / 100, (i + 1) / 100), the last one 1 as well.

    Example:
        >>> counts = map_histogram(np.array([[[0.0, 0.5]], [[0.25, 1.0]]]))
        >>> counts.nonzero()[0].tolist()
        [25, 99]
    """
    if maps.shape[0] == 0:
        return np.zeros(BINS, dtype=np.int32)
    bins = (maps.max(axis=0).astype(np.float32).ravel() * BINS).astype(np.int64).clip(0, BINS - 1)
    return np.bincount(bins, minlength=BINS).astype(np.int32)


def paint_strongest(
    mask: NDArray[np.generic], level: float, planes: Iterable[tuple[int, NDArray[np.floating]]]
) -> NDArray[np.generic]:
    """Paint the number of the strongest plane into every pixel where one is above ``level``, in place.

    Planes are enlarged one at a time: a photograph of 12 megapixels takes 50 MB a plane.

    Args:
        mask: ``(H, W)``; keeps its value where no plane is above ``level``.
        level: What a plane has to exceed.
        planes: Numbers and planes ``(h, w)`` of any size; the first of equals wins.

    Returns:
        ``mask``.

    Example:
        >>> planes = [(1, np.array([[0.2, 0.6]])), (2, np.array([[0.5, 0.6]]))]
        >>> paint_strongest(np.zeros((1, 2), np.uint8), 0.4, planes).tolist()
        [[2, 1]]
    """
    best = np.full(mask.shape, level, dtype=np.float32)
    for class_id, plane in planes:
        score = resize_maps(plane[None], mask.shape[0], mask.shape[1])[0]
        above = score > best
        mask[above] = class_id
        best[above] = score[above]
    return mask


def fuse(maps: NDArray[np.float16], probabilities: NDArray[np.float32], weight: float) -> NDArray[np.float16]:
    """Weighted mean of class maps and of a network's probabilities, at the maps' size.

    Args:
        maps: ``(C, h, w)`` in [0, 1].
        probabilities: ``(C, h', w')`` in [0, 1].
        weight: Of the probabilities, in [0, 1].

    Returns:
        ``(C, h, w) float16`` in [0, 1].

    Example:
        >>> fuse(np.array([[[1.0, 0.5]]], np.float16), np.array([[[1.0, 0.0]]], np.float32), 0.5).tolist()
        [[[1.0, 0.25]]]
    """
    resized = resize_maps(probabilities, maps.shape[1], maps.shape[2])
    fused: NDArray[np.float16] = ((1 - weight) * maps.astype(np.float32) + weight * resized).astype(np.float16)
    return fused
