"""CVAT for images 1.1: ``annotations.xml`` with polygons, masks, boxes and ellipses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from recamlabel.errors import StoreError
from recamlabel.review.foreign.found import Drawn, Found, LeftOutError, Reading, check_size, nothing
from recamlabel.review.foreign.match import Labels
from recamlabel.review.foreign.shapes import Region, box, ellipse, polygon, row_runs

KIND = "cvat"


def read_cvat_xml(path: Path, data: bytes, labels: Labels) -> tuple[Reading, Iterator[Found]]:
    """The images of an ``annotations.xml``.

    Raises:
        StoreError: Not XML, or not CVAT's for images.
    """
    try:
        root = fromstring(data, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise StoreError(f"{path}: not readable XML ({error}); export it from CVAT again") from None
    if root.tag != "annotations":
        raise StoreError(f"{path}: XML with the root <{root.tag}>; expected <annotations>, CVAT for images 1.1")
    if root.find("track") is not None:
        raise StoreError(f"{path}: tracks, CVAT for video; export the task from CVAT as 'CVAT for images 1.1'")
    images = root.findall("image")
    reading = Reading(KIND)
    other = Counter(shape.tag for image in images for shape in image if shape.tag not in {*SHAPES, "tag"})
    if other:
        kinds = ", ".join(f"{number} {tag}" for tag, number in sorted(other.items()))
        reading.notes.append(f"shapes without an area were left out: {kinds}")
    return reading, (_found(image, labels) for image in images)


def _found(image: Element, labels: Labels) -> Found:
    def draw(shape: tuple[int, int]) -> Drawn:
        try:
            check_size((int(image.get("height", shape[0])), int(image.get("width", shape[1]))), shape)
            mask = nothing(shape)
            shapes = [one for one in image if one.tag in SHAPES]
            # What lies higher is drawn later; shapes of one height in their order.
            for one in sorted(shapes, key=lambda one: int(one.get("z_order") or 0)):
                class_id = labels.id_of(one.get("label", ""))
                mask[SHAPES[one.tag](one.attrib, shape)] = class_id
        except (ValueError, KeyError, OverflowError) as error:
            raise LeftOutError(f"with a damaged shape ({error})") from None
        return mask

    return Found((image.get("name", ""),), draw)


def _polygon(shape: Any, size: tuple[int, int]) -> Region:
    pairs = [pair.split(",") for pair in shape["points"].split(";") if pair.strip()]
    return polygon(np.array([[float(x), float(y)] for x, y in pairs], dtype=np.float64).reshape(-1, 2), size)


def _box(shape: Any, size: tuple[int, int]) -> Region:
    left, top, right, bottom = (float(shape[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
    centre = ((left + right) / 2, (top + bottom) / 2)
    return polygon(box(left, top, right, bottom, float(shape.get("rotation", 0)), centre), size)


def _ellipse(shape: Any, size: tuple[int, int]) -> Region:
    x, y, radius_x, radius_y = (float(shape[name]) for name in ("cx", "cy", "rx", "ry"))
    return ellipse(x, y, radius_x, radius_y, float(shape.get("rotation", 0)), size)


def _mask(shape: Any, size: tuple[int, int]) -> Region:
    left, top, width, height = (int(float(shape[name])) for name in ("left", "top", "width", "height"))
    counts = [int(count) for count in shape["rle"].split(",") if count.strip()]
    return row_runs(counts, left, top, (height, width), size)


SHAPES: dict[str, Callable[[Any, tuple[int, int]], Region]] = {
    "polygon": _polygon,
    "box": _box,
    "ellipse": _ellipse,
    "mask": _mask,
}
