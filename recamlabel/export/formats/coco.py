"""COCO: run-length encoded annotations, semantic PNG, panoptic PNG and JSON."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from recamlabel.core.classes import BACKGROUND_NAME, MAX_CLASSES
from recamlabel.core.registry import check_choice
from recamlabel.export.base import INSTANCES, ImageMode, Item, Kind, Mask, Naming, Plan, Reading, without_ignore
from recamlabel.export.encode.pngs import opencv_readings, pillow_reading
from recamlabel.export.encode.rle import Segment, coco_mask_tools, coco_rle, segments
from recamlabel.export.formats.json_rows import WHOLE_BYTES, AddRow, json_rows, read_rows
from recamlabel.storage.png import save_mask


class CocoFormat:
    """``annotations/instances_*.json`` (RLE), ``annotations/panoptic_*.json`` with PNG, ``semantic_*`` PNG."""

    name = "coco"
    description = "COCO: instances JSON (RLE), panoptic JSON and PNG, semantic PNG (mode L; 16 bit above 254 classes)"
    kind: Kind = "instances"
    naming: Naming = "nested"
    max_classes = MAX_CLASSES
    image_modes: tuple[ImageMode, ...] = ("link", "copy", "none")

    def check(self, plan: Plan) -> None:
        """Everything fits; pycocotools must be there."""
        check_choice("--coco-instances", plan.options.coco_instances, INSTANCES)
        coco_mask_tools()

    def write(self, plan: Plan, folder: Path, masks: Iterator[tuple[Item, Mask]]) -> list[str]:
        """Write all files at once, mask by mask; a split's JSON files stay open until the end."""
        image_ids = _image_ids(plan)
        annotation_id = 0
        with ExitStack() as stack:
            files = {subset: _open(stack, plan, folder, subset, image_ids) for subset in plan.subsets}
            for item, mask in masks:
                add_instance, add_panoptic = files[item.subset]
                save_mask(folder / self._semantic_path(item), mask)
                parts = list(segments(mask, plan.classes, plan.options.coco_instances, background=True))
                for segment in parts:
                    if segment.class_id:
                        annotation_id += 1
                        add_instance(_annotation(segment, item, annotation_id, image_ids[item.id]))
                _save_panoptic(folder / self._panoptic_path(item), parts, item.shape)
                add_panoptic(_panoptic_row(parts, item, image_ids[item.id], plan))
        return []

    def image_path(self, item: Item) -> str:
        """Below ``images/<split>``; ``file_name`` in the JSON files is relative to that."""
        return f"images/{item.subset}/{item.image_name}"

    def label_files(self, item: Item) -> Sequence[str]:
        """The semantic and the panoptic PNG."""
        return [self._semantic_path(item), self._panoptic_path(item)]

    def readings(self, plan: Plan, folder: Path, items: Sequence[Item]) -> Iterator[Reading]:
        """Instances with pycocotools, panoptic segments by JSON and Pillow, semantic masks with Pillow and OpenCV."""
        yield Reading(
            "annotations/instances_*.json",
            f"pycocotools {version('pycocotools')}",
            _read_instances(plan, folder, items),
            without_ignore(plan.classes),
        )
        yield Reading("panoptic", "JSON and Pillow", self._read_panoptic(plan, folder, items))
        yield pillow_reading("semantic", folder, items, self._semantic_path)
        yield from opencv_readings("semantic", folder, items, self._semantic_path)

    def _read_panoptic(self, plan: Plan, folder: Path, items: Sequence[Item]) -> Iterator[tuple[Item, Mask]]:
        for subset, wanted in _by_subset(plan, items).items():
            path = folder / "annotations" / f"panoptic_{subset}.json"
            for row in read_rows(path, "annotations", _annotates(wanted)):
                item = wanted[row["image_id"]]
                with Image.open(folder / f"panoptic_{subset}" / row["file_name"]) as image:
                    ids = np.array(image, dtype=np.int64) @ np.array([1, 256, 65536])
                mask = np.full(item.shape, plan.classes.ignore_id, dtype=plan.classes.mask_dtype)
                for segment in row["segments_info"]:
                    mask[ids == segment["id"]] = segment["category_id"] % (len(plan.classes) + 1)
                yield item, mask

    def _semantic_path(self, item: Item) -> str:
        return f"semantic_{item.subset}/{item.name}.png"

    def _panoptic_path(self, item: Item) -> str:
        return f"panoptic_{item.subset}/{item.name}.png"


def _image_ids(plan: Plan) -> dict[str, int]:
    return {item.id: number for number, item in enumerate(plan.items, start=1)}


def _by_subset(plan: Plan, items: Sequence[Item]) -> dict[str, dict[int, Item]]:
    """Checked items by split and COCO image id."""
    image_ids = _image_ids(plan)
    chosen: dict[str, dict[int, Item]] = {}
    for item in items:
        chosen.setdefault(item.subset, {})[image_ids[item.id]] = item
    return chosen


def _annotates(images: Mapping[int, Item]) -> Callable[[Any], bool]:
    """Whether a row of annotations belongs to one of the images."""
    return lambda row: row["image_id"] in images


def _open(
    stack: ExitStack, plan: Plan, folder: Path, subset: str, image_ids: Mapping[str, int]
) -> tuple[AddRow, AddRow]:
    """The instances and the panoptic file of a split, with everything but the annotations."""
    things = [{"id": class_id, "name": name} for class_id, name in enumerate(plan.classes.names, start=1)]
    isthing = int(plan.options.coco_instances == "component")
    # Segment id 0 is 'void' in panoptic PNG, which is our ignore: background needs a category of its own.
    background = {"id": len(plan.classes) + 1, "name": BACKGROUND_NAME, "isthing": 0}
    rows = [
        json_rows(
            folder / "annotations" / f"{kind}_{subset}.json",
            {
                "info": {"description": "made by recamlabel", **plan.provenance},
                "licenses": [],
                "categories": categories,
                "images": (_image_row(item, image_ids[item.id]) for item in plan.subsets[subset]),
            },
            "annotations",
        )
        for kind, categories in (
            ("instances", [{**thing, "supercategory": "object"} for thing in things]),
            ("panoptic", [*({**thing, "isthing": isthing} for thing in things), background]),
        )
    ]
    return stack.enter_context(rows[0]), stack.enter_context(rows[1])


def _image_row(item: Item, image_id: int) -> dict[str, Any]:
    height, width = item.shape
    return {"id": image_id, "file_name": item.image_name, "height": height, "width": width}


def _annotation(segment: Segment, item: Item, annotation_id: int, image_id: int) -> dict[str, Any]:
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": segment.class_id,
        "segmentation": coco_rle(segment, item.shape),
        "area": segment.area,
        "bbox": segment.box,
        # Trainers drop 'crowd' annotations, so that none is called one.
        "iscrowd": 0,
    }


def _panoptic_row(parts: Sequence[Segment], item: Item, image_id: int, plan: Plan) -> dict[str, Any]:
    infos = [
        {
            "id": number,
            "category_id": segment.class_id or len(plan.classes) + 1,
            "area": segment.area,
            "bbox": segment.box,
            "iscrowd": 0,
        }
        for number, segment in enumerate(parts, start=1)
    ]
    return {"image_id": image_id, "file_name": f"{item.name}.png", "segments_info": infos}


def _save_panoptic(path: Path, parts: Sequence[Segment], shape: tuple[int, int]) -> None:
    """Segment ids as R + 256 G + 65536 B; 0 where nothing is."""
    ids = np.zeros(shape, dtype=np.uint32)
    for number, segment in enumerate(parts, start=1):
        height, width = segment.pixels.shape
        ids[segment.top : segment.top + height, segment.left : segment.left + width][segment.pixels] = number
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = np.stack([(ids >> shift) & 255 for shift in (0, 8, 16)], axis=-1)
    Image.fromarray(channels.astype(np.uint8)).save(path, format="PNG")


def _read_instances(plan: Plan, folder: Path, items: Sequence[Item]) -> Iterator[tuple[Item, Mask]]:
    from pycocotools.coco import COCO

    for subset, wanted in _by_subset(plan, items).items():
        path = folder / "annotations" / f"instances_{subset}.json"
        with redirect_stdout(io.StringIO()):  # pycocotools prints how long it takes
            coco = COCO(str(path)) if path.stat().st_size <= WHOLE_BYTES else COCO()
            if not coco.dataset:
                images = [_image_row(item, number) for number, item in wanted.items()]
                rows = read_rows(path, "annotations", _annotates(wanted))
                coco.dataset = {"images": images, "categories": [], "annotations": rows}
                coco.createIndex()
        for image_id, item in wanted.items():
            mask = np.zeros(item.shape, dtype=plan.classes.mask_dtype)
            for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[image_id])):
                mask[coco.annToMask(annotation) > 0] = annotation["category_id"]
            yield item, mask
