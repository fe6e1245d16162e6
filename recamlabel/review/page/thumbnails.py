"""Small pictures for the pages: photographs, masks over them, what differs, as data URIs."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recamlabel.core.arrays import nearest
from recamlabel.core.classes import BACKGROUND_ID, ClassTable
from recamlabel.core.colours import class_colours

Picture = NDArray[np.uint8]
WEBP_QUALITY = 82
FILL = 0.55
OUTLINE = (255, 255, 255)
# Hues that stay apart for colour-blind readers (Okabe and Ito).
DIFFERENCE = {
    "object in A only": (230, 159, 0),
    "object in B only": (0, 114, 178),
    "another class": (204, 121, 167),
    "background against withheld": (120, 120, 120),
}
DIFFERENCE_FILL = 0.8
# Withheld pixels are hatched, so that no class looks like them.
HATCH_COLOUR, HATCH_PERIOD, HATCH_WIDTH = (60, 60, 60), 6, 2


def thumbnail(image: Picture, side: int) -> Picture:
    """The image ``(H, W, 3)``, scaled down so that its longer side is at most ``side`` pixels."""
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))


def mask_overlay(image: Picture, mask: NDArray[np.integer], table: ClassTable) -> Picture:
    """A mask of any size over an image in grey: class colours with outlines, withheld pixels hatched.

    The image is grey, so that every colour in the picture means a class.
    """
    height, width = image.shape[:2]
    small = nearest(mask, height, width)
    fill = (small != BACKGROUND_ID)[..., None] * FILL
    colours = class_colours(table)
    colours = colours[np.where(small == table.ignore_id, len(colours) - 1, small)]
    colours[hatched(small, table.ignore_id)] = HATCH_COLOUR
    picture = _grey(image) * (1 - fill) + colours * fill
    picture[outline(small)] = OUTLINE
    result: Picture = picture.astype(np.uint8)
    return result


def difference_overlay(
    image: Picture, first: NDArray[np.integer], second: NDArray[np.integer], ignore_id: int
) -> Picture:
    """Where two masks of one size differ, over an image in grey, in the colours of :data:`DIFFERENCE`.

    A withheld pixel counts as no object here, like background.
    """
    one, two = (nearest(mask, *image.shape[:2]) for mask in (first, second))
    there = [(small != BACKGROUND_ID) & (small != ignore_id) for small in (one, two)]
    kinds = (there[0] & ~there[1], ~there[0] & there[1], there[0] & there[1], ~there[0] & ~there[1])
    picture = np.repeat(_grey(image), 3, axis=2)
    for colour, kind in zip(DIFFERENCE.values(), kinds, strict=True):
        chosen = kind & (one != two)
        picture[chosen] = picture[chosen] * (1 - DIFFERENCE_FILL) + np.array(colour) * DIFFERENCE_FILL
    result: Picture = picture.astype(np.uint8)
    return result


def data_uri(picture: Picture) -> str:
    """A picture as a WebP data URI.

    Example:
        >>> data_uri(np.zeros((2, 2, 3), dtype=np.uint8))[:23]
        'data:image/webp;base64,'
    """
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="WEBP", quality=WEBP_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def hatched(mask: NDArray[np.integer], ignore_id: int) -> NDArray[np.bool_]:
    """The withheld pixels of a mask ``(H, W)`` that a hatching drawn over it covers: oblique lines.

    Example:
        >>> hatched(np.array([[255, 255, 255, 1]]), 255).tolist()
        [[True, True, False, False]]
    """
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    return np.asarray(((rows + columns) % HATCH_PERIOD < HATCH_WIDTH) & (mask == ignore_id))


def outline(mask: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Foreground pixels with a neighbour below or to the right, above or to the left, of another id."""
    edge = np.zeros(mask.shape, dtype=bool)
    down, right = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return np.asarray(edge & (mask != BACKGROUND_ID))


def _grey(image: Picture) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(image).convert("L"), dtype=np.float32)[..., None]
