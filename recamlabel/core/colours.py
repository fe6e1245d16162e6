"""The colour of every class, the same on the pages, in FiftyOne and in the palette of the mask PNGs."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

from recamlabel.core.classes import ClassTable

IGNORE_COLOUR = (0.93, 0.92, 0.88)
GOLDEN_ANGLE = 0.381966


def class_colours(table: ClassTable) -> NDArray[np.uint8]:
    """Colours on the page ``(K + 2, 3)``: background, the classes in id order, "ignore" last.

    Not the VOC palette, whose dark colours cannot be told apart over a photograph: hues a
    golden angle apart, so that neighbours differ however many classes there are.
    """
    hues = (0.58 + GOLDEN_ANGLE * np.arange(len(table))) % 1
    values = np.where(np.arange(len(table)) % 2, 0.78, 0.98)
    classes = [colorsys.hsv_to_rgb(hue, 0.78, value) for hue, value in zip(hues, values, strict=True)]
    colours = np.asarray([(1.0, 1.0, 1.0), *classes, IGNORE_COLOUR]) * 255
    return np.asarray(colours.round(), dtype=np.uint8)


def mask_palette(table: ClassTable) -> NDArray[np.uint8]:
    """Palette ``(256, 3)`` of an index mask: black background, the classes' colours, cream for withheld pixels.

    Example:
        >>> mask_palette(ClassTable(("cat",)))[[0, 255]].tolist()
        [[0, 0, 0], [237, 235, 224]]
    """
    palette = np.zeros((256, 3), dtype=np.uint8)
    colours = class_colours(table)
    count = min(len(table), 254)
    palette[1 : count + 1], palette[255] = colours[1 : count + 1], colours[-1]
    return palette
