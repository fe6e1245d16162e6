"""Mask pictures of other tools as arrays, checked before a pixel is decoded."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recamlabel.review.foreign.found import LeftOutError, check_size


def picture(data: bytes, shape: tuple[int, int]) -> Image.Image:
    """A mask picture of the image's size, loaded.

    Raises:
        LeftOutError: Another size, or not a readable PNG.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG",))
        check_size((image.height, image.width), shape)
        image.load()
    except LeftOutError:
        raise
    except Exception:  # Pillow raises a dozen kinds for damaged files
        raise LeftOutError("with a damaged PNG") from None
    return image


def packed_colours(image: Image.Image) -> NDArray[np.int64]:
    """The colours ``(H, W)`` of a picture as red << 16 | green << 8 | blue."""
    rgb = np.asarray(image.convert("RGB"), dtype=np.int64)
    packed: NDArray[np.int64] = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
    return packed
