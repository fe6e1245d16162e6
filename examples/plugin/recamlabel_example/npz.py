"""An export format: one compressed NumPy file an image, and the class names once.

masks/<image>.npz     mask (H, W) uint8 or uint16: 0 background, 1..K classes, 255 or 65535 ignored; id; split
classes.txt           a name a line, background first
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from recamlabel.core.classes import MAX_CLASSES
from recamlabel.export.base import ImageMode, Item, Kind, Mask, Naming, Plan, Reading


class NpzFormat:
    """What the entry point names: follows :class:`recamlabel.export.Format`."""

    name = "npz"
    description = "NumPy: masks/<image>.npz with mask, id and split; classes.txt"
    kind: Kind = "index"  # a value for every pixel
    naming: Naming = "nested"  # ids with '/' are folders
    max_classes = MAX_CLASSES
    image_modes: tuple[ImageMode, ...] = ("none",)  # no image files

    def check(self, plan: Plan) -> None:
        """Everything fits."""

    def write(self, plan: Plan, folder: Path, masks: Iterator[tuple[Item, Mask]]) -> list[str]:
        """Write below ``folder``, which is put in place when it has been read back; notes for the person come back."""
        for item, mask in masks:
            path = folder / _place(item)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, mask=mask, id=item.id, split=item.split or "")
        (folder / "classes.txt").write_text("".join(f"{name}\n" for name in plan.class_names), encoding="utf-8")
        return []

    def image_path(self, item: Item) -> str:
        """Not asked: there are no image files."""
        raise NotImplementedError

    def label_files(self, item: Item) -> Sequence[str]:
        """Mask files whose size in pixels recamlabel is to look up: none that are pictures."""
        return []

    def readings(self, plan: Plan, folder: Path, items: Sequence[Item]) -> Iterator[Reading]:
        """The export as NumPy reads it, which recamlabel compares with the run's masks."""

        def masks() -> Iterator[tuple[Item, Mask]]:
            for item in items:
                with np.load(folder / _place(item)) as stored:
                    yield item, stored["mask"]

        yield Reading("masks", f"NumPy {np.__version__}", masks())


def _place(item: Item) -> str:
    return f"masks/{item.name}.npz"
