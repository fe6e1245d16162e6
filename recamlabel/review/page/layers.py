"""Transparent layers that the report lays over a photograph: class maps and masks as small palette PNGs.

A layer carries no photograph, so that the page sends each one once, and the reader sets how
strongly the layers cover it. Palette PNGs: a map of 54 x 80 takes about 2 kB, a mask of 320 x 213 about 3 kB.
"""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from recamlabel.core.arrays import nearest, resize_maps
from recamlabel.core.classes import BACKGROUND_ID, ClassTable
from recamlabel.core.colours import class_colours
from recamlabel.review.page.thumbnails import HATCH_COLOUR, OUTLINE, hatched, outline

MAP_SIDE, LEVELS = 96, 64
# Where a map is low the photograph shows through, without leaving the colour scale.
LOW_ALPHA = 0.45
CLEAR = (0, 0, 0, 0)
MAX_ENTRIES = 256
Palette = NDArray[np.uint8]


def map_layer(one_map: NDArray[np.floating]) -> str:
    """A class map ``(h, w)`` in 0..1 as a data URI, at its own size, which the browser enlarges smoothly.

    Example:
        >>> map_layer(np.zeros((2, 2)))[:22]
        'data:image/png;base64,'
    """
    height, width = one_map.shape
    scale = min(1.0, MAP_SIDE / max(height, width))
    small = resize_maps(one_map[None], max(1, round(height * scale)), max(1, round(width * scale)))[0]
    return palette_uri(np.clip(small * (LEVELS - 1) + 0.5, 0, LEVELS - 1).astype(np.uint8), _heat_palette())


def mask_layer(mask: NDArray[np.integer], height: int, width: int, table: ClassTable) -> str:
    """A mask of any size as a data URI of ``height`` x ``width`` pixels: class colours outlined in white.

    Background is clear, withheld pixels are hatched. The PNG's text chunk ``ids`` has the class id of every colour of
    its palette, by which the page hides a class.
    """
    small = nearest(mask, height, width)
    colours = class_colours(table)
    ids, places = np.unique(small, return_inverse=True)
    chosen = colours[np.where(ids == table.ignore_id, len(colours) - 1, ids)]
    fill = np.concatenate([chosen, np.full((len(ids), 1), 255)], axis=1)
    fill[ids == BACKGROUND_ID] = CLEAR
    edge = np.tile([*OUTLINE, 255], (len(ids), 1))
    # Every id has a colour for its inside, one for its outline and one for its hatching.
    palette = np.concatenate([fill, edge, np.tile([*HATCH_COLOUR, 255], (len(ids), 1))]).astype(np.uint8)
    indices = places.reshape(small.shape)
    indices[hatched(small, table.ignore_id)] += 2 * len(ids)
    edges = outline(small)
    indices[edges] = indices[edges] % len(ids) + len(ids)
    if len(palette) <= MAX_ENTRIES:
        return palette_uri(indices.astype(np.uint8), palette, ids=" ".join(map(str, [*ids.tolist()] * 3)))
    return _png_uri(Image.fromarray(palette[indices], "RGBA"))


def palette_uri(indices: NDArray[np.uint8], palette: Palette, **texts: str) -> str:
    """Palette numbers ``(H, W)`` with a palette ``(n, 4)`` of RGBA as a PNG data URI; ``texts`` become text chunks."""
    picture = Image.fromarray(indices, "P")
    picture.putpalette(palette[:, :3].tobytes())
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    return _png_uri(picture, transparency=palette[:, 3].tobytes(), pnginfo=info)


def _png_uri(picture: Image.Image, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", **options)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@lru_cache(maxsize=1)
def _heat_palette() -> Palette:
    from matplotlib import colormaps

    values = np.linspace(0, 1, LEVELS)
    palette = colormaps["inferno"](values)
    palette[:, 3] = LOW_ALPHA + (1 - LOW_ALPHA) * values
    return np.asarray(palette * 255 + 0.5).astype(np.uint8)
