"""The contract of export formats (``recamlabel.exporters``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image

from recamlabel.contracts.base import picture, require
from recamlabel.core.classes import ClassTable
from recamlabel.export.base import IMAGE_MODES, Format, ImageMode, Item, Kind, Mask, Naming, Plan
from recamlabel.export.target import place_image

_SHAPES = ((48, 64), (40, 40))


def check_exporter(format_: Format, folder: Path) -> None:
    """Write drawn masks in a format, read them back, and check what every export format promises.

    Args:
        format_: An instance.
        folder: An empty folder, for images and the export.

    Raises:
        ContractError: A promise is not kept: it says what it is; writes below its folder alone; the mask files and
            places of images that it names are there, one for each image; what it reads back is what the run's masks
            must look like there, and covers every image.

    Example:
        >>> from tempfile import mkdtemp
        >>> from recamlabel.export import get_format
        >>> check_exporter(get_format("hdf5"), Path(mkdtemp()))
    """
    require(isinstance(format_.name, str) and format_.name, "name is a text, as the entry point is called")
    require(isinstance(format_.description, str) and format_.description, "description says what is written")
    require(format_.kind in get_args(Kind), f"kind is one of {get_args(Kind)}, found {format_.kind!r}")
    require(format_.naming in get_args(Naming), f"naming is one of {get_args(Naming)}, found {format_.naming!r}")
    modes = format_.image_modes
    require(modes and set(modes) <= set(IMAGE_MODES), f"image_modes are some of {IMAGE_MODES}, found {modes}")
    require(format_.max_classes >= 1, "max_classes is a number from 1")
    root, out = folder / "data", folder / "export"
    out.mkdir(parents=True)
    plan, masks = _drawn(format_, root)
    format_.check(plan)
    if plan.images != "none":
        for item in plan.items:
            place_image(item.path, out / format_.image_path(item), plan.images)
    notes = format_.write(plan, out, iter(masks))
    require(isinstance(notes, list) and all(isinstance(one, str) for one in notes), "write gives a list of notes")
    require({*folder.iterdir()} == {root, out}, "nothing is written outside of the export's folder")
    _places(format_, plan.items, out)
    _reads_back(format_, plan, masks, out)


def _drawn(format_: Format, root: Path) -> tuple[Plan, list[tuple[Item, Mask]]]:
    """Three images in two splits, one with withheld pixels, one in which nothing is."""
    items, masks = [], []
    for number, (name, split) in enumerate((("a/one", "train"), ("a/two", "train"), ("b three", "val"))):
        height, width = _SHAPES[number % 2]
        path = root / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number, height, width)).save(path)
        flat = name if format_.naming == "nested" else name.replace("/", "__")
        items.append(Item(name, flat, path, (height, width), split, split))
        mask = np.zeros((height, width), np.uint8)
        if number != 1:
            mask[5:20, 4:20], mask[22:30, 10:30], mask[30:34, 30:34] = 1, 2, 255
        masks.append(mask)
    mode: ImageMode = "copy" if "copy" in format_.image_modes else format_.image_modes[0]
    plan = Plan(ClassTable(("cat", "dog")), tuple(items), root, mode)
    return plan, list(zip(items, masks, strict=True))


def _places(format_: Format, items: Sequence[Item], out: Path) -> None:
    named = [name for item in items for name in format_.label_files(item)]
    if set(format_.image_modes) != {"none"}:
        named_images = [format_.image_path(item) for item in items]
        require(len(set(named_images)) == len(items), "each image has a place of its own")
        require(not set(named_images) & set(named), "no mask lies in the place of an image")
    missing = [name for name in named if not (out / name).is_file()]
    require(not missing, f"label_files are there, missing {missing}")


def _reads_back(format_: Format, plan: Plan, masks: Sequence[tuple[Item, Mask]], out: Path) -> None:
    expected, count = {item.id: mask for item, mask in masks}, 0
    for reading in format_.readings(plan, out, plan.items):
        count += 1
        require(reading.part and reading.reader, "a Reading says which files, and what read them")
        seen = set()
        for item, found in reading.masks:
            same = np.array_equal(found, reading.expected(expected[item.id]))
            require(same, f"{reading.part}: the mask of {item.id!r} comes back when read with {reading.reader}")
            seen.add(item.id)
        require(seen == set(expected), f"{reading.part}: every image comes back when read with {reading.reader}")
    require(count, "readings has at least one reading, or nobody knows whether the export is right")
