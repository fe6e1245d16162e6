"""Ultralytics YOLO: polygons for ``segment`` models and masks for ``semantic`` ones, over the same images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recamlabel.core.classes import MAX_CLASSES_8BIT
from recamlabel.export.base import ImageMode, Item, Kind, Mask, Naming, Plan, Reading
from recamlabel.export.encode.pngs import opencv_readings, pillow_reading
from recamlabel.export.encode.polygons import Polygon, fill, opencv, polygons
from recamlabel.export.foreign_readers import installed
from recamlabel.export.formats.ultralytics_worker import read_labels
from recamlabel.storage.atomic import write_text
from recamlabel.storage.png import save_mask

MASKS = "semantic_masks"
"""Not ``masks``: Ultralytics takes a folder of that name for semantic masks, even of a polygon data set."""


class YoloFormat:
    """``images``, ``labels`` (polygons) with ``data.yaml``; ``semantic_masks`` with ``semantic.yaml``."""

    name = "yolo"
    description = "Ultralytics YOLO: polygon labels with data.yaml, and semantic_masks PNG with semantic.yaml"
    kind: Kind = "instances"
    # Ultralytics finds labels by replacing the last folder called 'images': ids must not bring one along.
    naming: Naming = "flat"
    max_classes = MAX_CLASSES_8BIT
    image_modes: tuple[ImageMode, ...] = ("link", "copy", "none")

    def check(self, plan: Plan) -> None:
        """Everything fits; OpenCV must be there."""
        opencv()

    def write(self, plan: Plan, folder: Path, masks: Iterator[tuple[Item, Mask]]) -> list[str]:
        """Write both kinds of labels and say what the polygons lose."""
        counts = np.zeros((2, len(plan.classes) + 1), dtype=np.int64)
        for item, mask in masks:
            shapes = list(polygons(mask, plan.classes))
            lines = "".join(_line(polygon, item.shape) for polygon in shapes)
            path = folder / self._text_path(item)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(lines, encoding="utf-8")
            save_mask(folder / self._mask_path(item), mask)
            counts += _overlap(mask, fill(shapes, item.shape, mask.dtype), plan)
        write_text(folder / "data.yaml", _yaml(plan, list(plan.classes.names), {}))
        write_text(folder / "semantic.yaml", _yaml(plan, plan.class_names, {"masks_dir": MASKS}))
        return [*_loss(counts), *_advice(plan)]

    def image_path(self, item: Item) -> str:
        """Below ``images/<split>``."""
        return f"images/{item.subset}/{item.image_name}"

    def label_files(self, item: Item) -> Sequence[str]:
        """The semantic mask."""
        return [self._mask_path(item)]

    def readings(self, plan: Plan, folder: Path, items: Sequence[Item]) -> Iterator[Reading]:
        """With the label loader of Ultralytics where it is installed, else by an own parser and OpenCV."""
        for item in plan.items:
            _parse(folder / self._text_path(item), item, len(plan.classes))

        def as_polygons(mask: Mask) -> Mask:
            return fill(list(polygons(mask, plan.classes)), (mask.shape[0], mask.shape[1]), mask.dtype)

        paths = [(item, folder / self._text_path(item)) for item in items]
        if reader := installed("ultralytics"):
            yield Reading("labels", reader, _with_ultralytics(paths, plan), as_polygons)
        else:
            reader = f"an own parser and OpenCV {opencv().__version__}"
            yield Reading("labels", reader, _with_opencv(paths, plan), as_polygons)
        yield pillow_reading(MASKS, folder, items, self._mask_path)
        yield from opencv_readings(MASKS, folder, items, self._mask_path)

    def _text_path(self, item: Item) -> str:
        return f"labels/{item.subset}/{item.name}.txt"

    def _mask_path(self, item: Item) -> str:
        return f"{MASKS}/{item.subset}/{item.name}.png"


def _line(polygon: Polygon, shape: tuple[int, int]) -> str:
    height, width = shape
    numbers = (polygon.points / (width, height)).ravel()
    return f"{polygon.class_id - 1} " + " ".join(f"{number:.6f}" for number in numbers) + "\n"


def _yaml(plan: Plan, names: list[str], more: dict[str, str]) -> str:
    """A data set description; without ``path`` Ultralytics takes the folder that the file lies in."""
    train = plan.training_subset()
    val = plan.validation_subset() or train
    splits = {"train": f"images/{train}", "val": f"images/{val}"}
    if "test" in plan.subsets:
        splits["test"] = "images/test"
    rows = [f"{key}: {_yaml_text(value)}" for key, value in {**splits, **more}.items()]
    rows += ["names:", *(f"  {number}: {_yaml_text(name)}" for number, name in enumerate(names))]
    return "\n".join(rows) + "\n"


def _yaml_text(text: str) -> str:
    """A JSON string is a YAML string, once what YAML does not print is escaped as well."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)


def _overlap(mask: Mask, drawn: Mask, plan: Plan) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Intersection and union by class id, ``(2, K + 1)``; withheld pixels take no part."""
    valid = mask != plan.classes.ignore_id
    count = len(plan.classes) + 1
    there, again = mask[valid], drawn[valid]
    both = np.bincount(there[there == again], minlength=count)
    union = np.bincount(there, minlength=count) + np.bincount(again, minlength=count) - both
    return np.stack([both, union])


def _loss(counts: np.ndarray[Any, np.dtype[np.int64]]) -> list[str]:
    both, union = counts[:, 1:]
    used = union > 0
    if not used.any():
        return ["polygons: no foreground in any mask"]
    iou = 100 * both[used] / union[used]
    return [
        f"polygons, at the images' own size: IoU with the masks {iou.mean():.3f} % (mean over {used.sum()} classes), "
        f"so {100 - iou.mean():.3f} points are lost by polygonising, {100 - iou.min():.3f} for the worst class; "
        f"{MASKS} loses nothing"
    ]


def _advice(plan: Plan) -> list[str]:
    lines = []
    if plan.validation_subset() is None:
        lines.append("no validation split: both .yaml files validate on the training images; --val 0.2 sets some aside")
    if plan.images == "link":
        lines.append("Ultralytics rewrites JPEG files that it finds damaged: --images copy keeps it away from yours")
    return lines


def _parse(path: Path, item: Item, classes: int) -> list[Polygon]:
    """Polygons of a label file, checked. Raises LookupError for a row that is none."""
    height, width = item.shape
    shapes = []
    for row, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        points = np.array([float(word) for word in words[1:]])
        if len(points) < 6 or len(points) % 2 or points.min() < 0 or points.max() > 1 or int(words[0]) >= classes:
            raise LookupError(f"{path}, row {row}: not a polygon in [0, 1] with a class below {classes}")
        shapes.append(Polygon(int(words[0]) + 1, points.reshape(-1, 2) * (width, height)))
    return shapes


def _with_opencv(paths: Sequence[tuple[Item, Path]], plan: Plan) -> Iterator[tuple[Item, Mask]]:
    for item, path in paths:
        yield item, fill(_parse(path, item, len(plan.classes)), item.shape, plan.classes.mask_dtype)


def _with_ultralytics(paths: Sequence[tuple[Item, Path]], plan: Plan) -> Iterator[tuple[Item, Mask]]:
    files = [(path, item.shape) for item, path in paths]
    masks = read_labels(files, len(plan.classes))
    return zip((item for item, _ in paths), masks, strict=True)
