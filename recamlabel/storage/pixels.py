"""Pillow's image modes to RGB: what 'read right' means for each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

_WITH_ALPHA = {"RGBA", "RGBa", "LA", "La", "PA"}
_STRIP_PIXELS = 8_000_000
_EXPECTED = "expected 0 to 255 or 0 to 65535, or floats from 0 to 1: save it with 8 or 16 bits"


class UnknownRangeError(ValueError):
    """Integer or float pixels outside every range that is used for grey values."""


def to_rgb(image: Image.Image) -> np.ndarray:
    """Pixels of an opened image, not turned.

    Args:
        image: Any mode: 1, L, P, RGB, CMYK, with or without transparency, 16-bit, integer, float.

    Returns:
        ``(H, W, 3) uint8``, C-contiguous, writable. Transparent parts are white.

    Raises:
        UnknownRangeError: Integer or float pixels that are no grey values.
        Exception: Whatever Pillow raises for a damaged file.

    Example:
        >>> to_rgb(Image.new("CMYK", (1, 1), (0, 255, 255, 0))).tolist()
        [[[255, 0, 0]]]
    """
    image.load()
    if image.mode.startswith("I;16"):
        return _stack(_from_16_bit(np.array(image), image.info.get("transparency")))
    if image.mode == "I":
        return _stack(_from_integers(np.array(image), image.format))
    if image.mode == "F":
        return _stack(_from_floats(np.array(image)))
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        return _in_strips(image, _on_white)
    return _in_strips(image, lambda part: np.array(part.convert("RGB")))


def _in_strips(image: Image.Image, convert: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    """``convert`` of the whole image, of large ones strip by strip: its copies then take no memory to speak of."""
    rows = max(1, _STRIP_PIXELS // image.width)
    if image.height <= rows:
        return convert(image)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = convert(image.crop((0, top, image.width, bottom)))
    return pixels


def _on_white(image: Image.Image) -> np.ndarray:
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        # The transparent colour of a 16-bit PNG, whose pixels Pillow cuts to their upper bytes.
        image.info["transparency"] = tuple(value >> 8 for value in key)
    pixels = image.convert("RGBA")
    white = Image.new("RGBA", pixels.size, (255, 255, 255, 255))
    return np.array(Image.alpha_composite(white, pixels).convert("RGB"))


def _from_16_bit(values: np.ndarray, transparent: object = None) -> np.ndarray:
    """0..65535 to 0..255, rounded: 257 is 65535 / 255."""
    grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return grey


def _from_integers(values: np.ndarray, file_format: str | None) -> np.ndarray:
    """32-bit integers. PNG and PPM keep 16-bit values in them; of a TIFF the range decides."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise UnknownRangeError(f"integer pixels from {low} to {high}; {_EXPECTED}")
    if file_format == "TIFF" and high <= 255:
        return values.astype(np.uint8)
    return _from_16_bit(values)


def _from_floats(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 65535):  # also false for NaN
        raise UnknownRangeError(f"float pixels from {low:g} to {high:g}; {_EXPECTED}")
    factor = 255.0 if high <= 1 else 1.0 if high <= 255 else 1 / 257
    return np.rint(values * factor).astype(np.uint8)


def _stack(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[:, :, None], 3, axis=2)
