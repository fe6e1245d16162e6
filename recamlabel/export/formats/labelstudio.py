"""Label Studio: tasks with brush predictions, and the labelling interface that shows them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from recamlabel.core.classes import MAX_CLASSES, ClassTable
from recamlabel.export.base import ImageMode, Item, Kind, Mask, Naming, Plan, Reading
from recamlabel.export.encode.brush_rle import decode, encode
from recamlabel.export.encode.pngs import PALETTE
from recamlabel.export.foreign_readers import installed
from recamlabel.export.formats.json_rows import json_rows, read_rows
from recamlabel.export.safe_names import ignore_label, refuse_names
from recamlabel.storage.atomic import write_text

FILE = "tasks.json"
BRUSH, IMAGE = "brush", "image"
Decoder = Callable[[Sequence[int], tuple[int, int]], NDArray[np.bool_]]
READERS = {
    "label-studio-sdk": "label_studio_sdk.converter.brush",
    "label-studio-converter": "label_studio_converter.brush",
}


class LabelStudioFormat:
    """``tasks.json`` to import and ``label_config.xml`` to paste into the project's settings."""

    name = "labelstudio"
    description = "Label Studio: tasks.json with BrushLabels predictions (its own RLE), label_config.xml"
    kind: Kind = "instances"
    naming: Naming = "nested"
    max_classes = MAX_CLASSES
    image_modes: tuple[ImageMode, ...] = ("none",)

    def check(self, plan: Plan) -> None:
        """Label names are attributes in XML, which loses line breaks."""
        refuse_names("class name", self.name, plan.classes.names)

    def write(self, plan: Plan, folder: Path, masks: Iterator[tuple[Item, Mask]]) -> list[str]:
        """Write a task a line, then the interface."""
        ignored = False
        with json_rows(folder / FILE, None) as add:
            for item, mask in masks:
                add(_task(item, mask, plan))
                ignored = ignored or bool((mask == plan.classes.ignore_id).any())
        write_text(folder / "label_config.xml", _interface(plan.classes, ignored))
        return [
            f"Label Studio looks for the images at {plan.options.image_url}<path below {plan.root}>; "
            "--image-url changes what stands before"
        ]

    def image_path(self, item: Item) -> str:
        """Images are where Label Studio's storage has them."""
        raise NotImplementedError

    def label_files(self, item: Item) -> Sequence[str]:
        """None beside the one file."""
        return []

    def readings(self, plan: Plan, folder: Path, items: Sequence[Item]) -> Iterator[Reading]:
        """With Label Studio's own decoder where one is installed, and with an independent one."""
        for reader, decoder in decoders():
            yield Reading(FILE, reader, _read(folder / FILE, items, plan, decoder))


def decoders() -> Iterator[tuple[str, Decoder]]:
    """Decoders of the brush encoding that are installed; recamlabel's own, written apart from the encoder, is last."""
    for package, module in READERS.items():
        reader = installed(package)
        if reader is None:
            continue
        try:
            with redirect_stdout(io.StringIO()):  # it prints what it misses
                decode_rle = import_module(module).decode_rle
        except ImportError:  # a part of it that needs packages which are not there
            continue

        def decoder(data: Sequence[int], shape: tuple[int, int], read: Any = decode_rle) -> NDArray[np.bool_]:
            values: NDArray[np.uint8] = np.asarray(read(list(data))).reshape(*shape, 4)
            return values[..., 3] > 0

        yield reader, decoder
        break
    yield "recamlabel's own decoder", decode


def _label(class_id: int, table: ClassTable) -> str:
    return ignore_label(table) if class_id == table.ignore_id else table.name_of(class_id)


def _task(item: Item, mask: Mask, plan: Plan) -> dict[str, Any]:
    height, width = item.shape
    present = [class_id for class_id in np.flatnonzero(np.bincount(mask.ravel())).tolist() if class_id]
    result = [
        {
            "id": f"region-{class_id}",
            "type": "brushlabels",
            "from_name": BRUSH,
            "to_name": IMAGE,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "format": "rle",
                "rle": encode(mask == class_id),
                "brushlabels": [_label(class_id, plan.classes)],
            },
        }
        for class_id in present
    ]
    try:
        path = item.path.relative_to(plan.root).as_posix()
    except ValueError:
        path = str(item.path)
    return {
        "data": {IMAGE: plan.options.image_url + quote(path), "recamlabel_id": item.id},
        "predictions": [{"model_version": plan.provenance.get("software", "recamlabel"), "result": result}],
    }


def _interface(table: ClassTable, ignored: bool) -> str:
    labels = [(name, PALETTE[class_id % 256]) for class_id, name in enumerate(table.names, start=1)]
    if ignored:
        labels.append((ignore_label(table), PALETTE[255]))
    rows = [
        f"    <Label value={quoteattr(name)} background={quoteattr('#{:02x}{:02x}{:02x}'.format(*colour))}/>"
        for name, colour in labels
    ]
    return "\n".join(
        [
            "<View>",
            f'  <Image name="{IMAGE}" value="${IMAGE}" zoom="true"/>',
            f'  <BrushLabels name="{BRUSH}" toName="{IMAGE}">',
            *rows,
            "  </BrushLabels>",
            "</View>\n",
        ]
    )


def _read(path: Path, items: Sequence[Item], plan: Plan, decoder: Decoder) -> Iterator[tuple[Item, Mask]]:
    wanted = {item.id: item for item in items}
    numbers = [*range(1, len(plan.classes) + 1), plan.classes.ignore_id]
    ids = {_label(class_id, plan.classes): class_id for class_id in numbers}
    for task in read_rows(path, None, lambda task: task["data"]["recamlabel_id"] in wanted):
        item = wanted[task["data"]["recamlabel_id"]]
        mask = np.zeros(item.shape, dtype=plan.classes.mask_dtype)
        for region in task["predictions"][0]["result"]:
            shape = (region["original_height"], region["original_width"])
            mask[decoder(region["value"]["rle"], shape)] = ids[region["value"]["brushlabels"][0]]
        yield item, mask
