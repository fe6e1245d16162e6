"""Masks as PNG files of an export, and the readers that check them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL import __version__ as pillow_version

from recamlabel.core.classes import voc_palette
from recamlabel.errors import StoreError
from recamlabel.export.base import Item, Mask, Reading

PALETTE = voc_palette()


def save_palette_mask(path: Path, mask: Mask) -> None:
    """An index mask in mode P with the VOC palette, as the VOC devkit has them.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "m.png"
        >>> save_palette_mask(path, np.array([[0, 1]], np.uint8))
        >>> with Image.open(path) as image:
        ...     image.mode, image.convert("RGB").getpixel((1, 0))
        ('P', (128, 0, 0))
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(mask, dtype=np.uint8))
    image.putpalette(PALETTE.tobytes())
    image.save(path, format="PNG")


def colour_png(mask: Mask) -> bytes:
    """An index mask as an RGB PNG in the colours of the VOC palette."""
    memory = io.BytesIO()
    Image.fromarray(PALETTE[np.asarray(mask, dtype=np.uint8)]).save(memory, format="PNG")
    return memory.getvalue()


def pillow_reading(part: str, folder: Path, items: Sequence[Item], path_of: Callable[[Item], str]) -> Reading:
    """Index masks read with Pillow, as torchvision, datasets and most loaders do."""

    def masks() -> Iterator[tuple[Item, Mask]]:
        for item in items:
            with Image.open(folder / path_of(item)) as image:
                yield item, np.array(image)

    return Reading(part, f"Pillow {pillow_version}", masks())


def opencv_readings(
    part: str, folder: Path, items: Sequence[Item], path_of: Callable[[Item], str], *, colours: bool = False
) -> Iterator[Reading]:
    """Masks read with OpenCV, unchanged; nothing where OpenCV is not installed.

    Args:
        part, folder, items, path_of: As :func:`pillow_reading`.
        colours: OpenCV makes colours of palette masks: turn them back into ids.
    """
    if find_spec("cv2") is None:
        return
    import cv2

    def masks() -> Iterator[tuple[Item, Mask]]:
        for item in items:
            # Through bytes: OpenCV's own file access fails on some names.
            data = np.frombuffer((folder / path_of(item)).read_bytes(), dtype=np.uint8)
            pixels = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB if colours else cv2.IMREAD_UNCHANGED)
            found: NDArray[Any] = np.zeros((0, 0, 3), np.uint8) if pixels is None else np.asarray(pixels)
            yield item, ids_of_colours(found) if colours else found

    yield Reading(part, f"OpenCV {cv2.__version__}", masks())


def ids_of_colours(pixels: NDArray[Any]) -> Mask:
    """``(H, W, 3)`` RGB in the colours of the VOC palette to ids ``(H, W) uint8``.

    Raises:
        StoreError: A colour that is not in the palette.

    Example:
        >>> ids_of_colours(np.array([[[0, 0, 0], [128, 0, 0]]])).tolist()
        [[0, 1]]
    """
    weights = np.array([1 << 16, 1 << 8, 1])
    keys = PALETTE.astype(np.int64) @ weights
    order = np.argsort(keys)
    values = pixels.astype(np.int64) @ weights
    places = order[np.searchsorted(keys, values, sorter=order).clip(max=len(keys) - 1)]
    if not np.array_equal(keys[places], values):
        raise StoreError("a colour mask holds a colour that is not in the VOC palette; export again")
    ids: Mask = places.astype(np.uint8)
    return ids


def check_size(path: Path, item: Item) -> None:
    """Whether a mask file is there and has its image's size, from its header.

    Raises:
        StoreError: Missing, not an image, another size.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
    except OSError as error:
        raise StoreError(f"{path}: cannot be read back ({error}); export again") from None
    if (height, width) != item.shape:
        raise StoreError(f"{path}: read back as {width}x{height} pixels, expected {item.shape[1]}x{item.shape[0]}")
