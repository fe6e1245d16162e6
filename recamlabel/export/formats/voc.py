"""PASCAL VOC: palette masks, images, and lists of names by split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from recamlabel.core.classes import MAX_CLASSES_8BIT
from recamlabel.export.base import ImageMode, Item, Kind, Mask, Naming, Plan, Reading
from recamlabel.export.encode.pngs import opencv_readings, pillow_reading, save_palette_mask
from recamlabel.export.safe_names import refuse_names
from recamlabel.storage.atomic import write_text

LISTS = "ImageSets/Segmentation"


class VocFormat:
    """``SegmentationClass/*.png`` (mode P), ``JPEGImages``, ``ImageSets/Segmentation/*.txt``, ``labels.txt``."""

    name = "voc"
    description = "PASCAL VOC: SegmentationClass (mode P, VOC palette), JPEGImages, ImageSets/Segmentation, labels.txt"
    kind: Kind = "index"
    naming: Naming = "nested"
    max_classes = MAX_CLASSES_8BIT
    image_modes: tuple[ImageMode, ...] = ("link", "copy", "none")

    def check(self, plan: Plan) -> None:
        """Refuse names that a list with one name a line does not give back."""
        refuse_names("image id", self.name, (item.name for item in plan.items))
        refuse_names("class name", self.name, plan.classes.names)

    def write(self, plan: Plan, folder: Path, masks: Iterator[tuple[Item, Mask]]) -> list[str]:
        """Write masks, then the lists."""
        for item, mask in masks:
            save_palette_mask(folder / self._mask_path(item), mask)
        lists = dict(plan.subsets)
        if {"train", "val"} <= set(lists) and "trainval" not in lists:
            lists["trainval"] = lists["train"] + lists["val"]
        for subset, items in lists.items():
            write_text(folder / LISTS / f"{subset}.txt", "".join(f"{item.name}\n" for item in items))
        write_text(folder / "labels.txt", "".join(f"{name}\n" for name in plan.class_names))
        other = sum(item.path.suffix != ".jpg" for item in plan.items)
        if plan.images == "none" or not other:
            return []
        return [f"{other} images are not called .jpg, which many VOC readers expect; they keep their own extension"]

    def image_path(self, item: Item) -> str:
        """Below ``JPEGImages``, with the extension that the file has."""
        return f"JPEGImages/{item.image_name}"

    def label_files(self, item: Item) -> Sequence[str]:
        """The mask."""
        return [self._mask_path(item)]

    def readings(self, plan: Plan, folder: Path, items: Sequence[Item]) -> Iterator[Reading]:
        """With Pillow, by the names in the lists, and with OpenCV, which makes colours of palette masks."""
        listed = {name for subset in plan.subsets for name in _listed(folder, subset)}
        missing = [item.name for item in plan.items if item.name not in listed]
        if missing:
            raise LookupError(f"{LISTS}: {missing[0]!r} does not come back from the lists")
        yield pillow_reading("SegmentationClass", folder, items, self._mask_path)
        yield from opencv_readings("SegmentationClass", folder, items, self._mask_path, colours=True)

    def _mask_path(self, item: Item) -> str:
        return f"SegmentationClass/{item.name}.png"


def _listed(folder: Path, subset: str) -> list[str]:
    return [line.strip() for line in (folder / LISTS / f"{subset}.txt").read_text(encoding="utf-8").splitlines()]
