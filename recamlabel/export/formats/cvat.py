"""CVAT "Segmentation mask 1.1": one archive to upload as the annotations of a task."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL import __version__ as pillow_version

from recamlabel.core.classes import BACKGROUND_NAME, MAX_CLASSES_8BIT, ClassTable
from recamlabel.errors import DatasetError
from recamlabel.export.base import ImageMode, Item, Kind, Mask, Naming, Plan, Reading, without_ignore
from recamlabel.export.encode.pngs import PALETTE, colour_png
from recamlabel.export.foreign_readers import installed
from recamlabel.export.safe_names import ignore_label, refuse_names

FILE = "annotations.zip"


class CvatFormat:
    """``annotations.zip``: ``labelmap.txt``, ``SegmentationClass``, ``SegmentationObject``, ``ImageSets``."""

    name = "cvat"
    description = "CVAT 'Segmentation mask 1.1': annotations.zip with labelmap.txt, colour masks, ImageSets"
    kind: Kind = "instances"
    naming: Naming = "nested"
    max_classes = MAX_CLASSES_8BIT
    image_modes: tuple[ImageMode, ...] = ("none",)

    def check(self, plan: Plan) -> None:
        """Refuse names that the label map or the lists do not give back."""
        refuse_names("class name", self.name, plan.classes.names, ":", comment=True)
        refuse_names("image id", self.name, (item.name for item in plan.items), comment=True)
        if BACKGROUND_NAME in plan.classes.names:
            raise DatasetError(
                f"cvat has a label {BACKGROUND_NAME!r} of its own; rename the class, or choose another --format"
            )

    def write(self, plan: Plan, folder: Path, masks: Iterator[tuple[Item, Mask]]) -> list[str]:
        """Write the archive, mask by mask."""
        ignored = 0
        # PNG is compressed already.
        with zipfile.ZipFile(folder / FILE, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("labelmap.txt", _label_map(plan.classes))
            for subset, items in plan.subsets.items():
                names = "".join(f"{item.name}\n" for item in items)
                archive.writestr(f"ImageSets/Segmentation/{subset}.txt", names)
            for item, mask in masks:
                ignored += int((mask == plan.classes.ignore_id).sum())
                archive.writestr(f"SegmentationClass/{item.name}.png", colour_png(mask))
                archive.writestr(f"SegmentationObject/{item.name}.png", colour_png(_objects(mask, plan.classes)))
        notes = ["CVAT: create a task with the images and these labels, then upload the archive as annotations"]
        if ignored:
            notes.append(f"{ignored} withheld pixels have a colour of their own in SegmentationClass and no object")
        return notes

    def image_path(self, item: Item) -> str:
        """Images are in the task already."""
        raise NotImplementedError

    def label_files(self, item: Item) -> Sequence[str]:
        """None beside the archive."""
        return []

    def readings(self, plan: Plan, folder: Path, items: Sequence[Item]) -> Iterator[Reading]:
        """With Datumaro, CVAT's reader, where it is installed, and by the label map and Pillow."""
        with zipfile.ZipFile(folder / FILE) as archive:
            there = set(archive.namelist())
            for item in plan.items:
                for kind in ("SegmentationClass", "SegmentationObject"):
                    if f"{kind}/{item.name}.png" not in there:
                        raise LookupError(f"{FILE}: no {kind}/{item.name}.png in it")
        if reader := installed("datumaro"):
            yield Reading(FILE, reader, _read_datumaro(folder / FILE, items, plan), without_ignore(plan.classes))
        yield Reading(FILE, f"zipfile and Pillow {pillow_version}", _read(folder / FILE, items, plan))


def _label_map(table: ClassTable) -> str:
    rows = [(name, PALETTE[class_id]) for class_id, name in enumerate([BACKGROUND_NAME, *table.names])]
    rows.append((ignore_label(table), PALETTE[table.ignore_id]))
    lines = ["# label:color_rgb:parts:actions", *(f"{name}:{','.join(map(str, colour))}::" for name, colour in rows)]
    return "\n".join(lines) + "\n"


def _objects(mask: Mask, table: ClassTable) -> Mask:
    """Instance ids: one object per class of the image; background and withheld pixels are no object."""
    numbers = np.zeros(table.ignore_id + 1, dtype=np.uint8)
    present = [value for value in np.unique(mask).tolist() if value not in {0, table.ignore_id}]
    numbers[present] = np.arange(1, len(present) + 1)
    return numbers[mask]


def _read(path: Path, items: Sequence[Item], plan: Plan) -> Iterator[tuple[Item, Mask]]:
    """Class masks whose colours the label map names, inside objects, as CVAT reads them."""
    with zipfile.ZipFile(path) as archive:
        lines = archive.read("labelmap.txt").decode().splitlines()
        rows = [line.split(":") for line in lines if line.strip() and not line.startswith("#")]
        ids = {name: class_id for class_id, name in enumerate(plan.class_names)}
        ids[ignore_label(plan.classes)] = plan.classes.ignore_id
        colours = {tuple(map(int, row[1].split(","))): ids[row[0]] for row in rows}
        for item in items:
            pixels, objects = (
                np.array(Image.open(io.BytesIO(archive.read(f"{kind}/{item.name}.png"))))
                for kind in ("SegmentationClass", "SegmentationObject")
            )
            mask = np.full(item.shape, plan.classes.ignore_id - 1, dtype=np.uint8)
            for colour, class_id in colours.items():
                mask[(pixels == colour).all(axis=-1)] = class_id
            covered = (mask > 0) & (mask != plan.classes.ignore_id)
            if not np.array_equal(objects.any(axis=-1), covered):
                raise LookupError(f"{path.name}: objects of {item.name!r} do not cover its classes")
            yield item, mask


def _read_datumaro(path: Path, items: Sequence[Item], plan: Plan) -> Iterator[tuple[Item, Mask]]:
    """The objects that CVAT would make of the checked images."""
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset

    wanted = {item.name: item for item in items}
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        kinds = ("SegmentationClass", "SegmentationObject")
        archive.extractall(folder, ["labelmap.txt", *(f"{kind}/{name}.png" for kind in kinds for name in wanted)])
        lists = Path(folder) / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True)
        (lists / "default.txt").write_text("".join(f"{name}\n" for name in wanted), encoding="utf-8")
        data = Dataset.import_from(folder, "voc_segmentation")
        names = [label.name for label in data.categories()[AnnotationType.label]]
        for row in data:
            mask = np.zeros(wanted[row.id].shape, dtype=np.uint8)
            for annotation in row.annotations:
                mask[np.asarray(annotation.image, dtype=bool)] = plan.classes.id_of(names[annotation.label])
            yield wanted[row.id], mask
