"""One HDF5 file: masks, image paths, class names, splits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from recamlabel.core.classes import MAX_CLASSES
from recamlabel.export.base import ImageMode, Item, Kind, Mask, Naming, Plan, Reading
from recamlabel.storage.hdf5 import write_array

FILE = "dataset.h5"


class Hdf5Format:
    """``dataset.h5``: ``masks/<id>``, and ``ids``, ``image_paths``, ``splits``, ``shapes`` in one order."""

    name = "hdf5"
    description = "HDF5: dataset.h5 with masks/<id>, ids, image_paths, splits, shapes; class names as attribute"
    kind: Kind = "index"
    naming: Naming = "nested"
    max_classes = MAX_CLASSES
    image_modes: tuple[ImageMode, ...] = ("none",)

    def check(self, plan: Plan) -> None:
        """Everything fits: an id that is a name in the run's HDF5 file is one here."""

    def write(self, plan: Plan, folder: Path, masks: Iterator[tuple[Item, Mask]]) -> list[str]:
        """Write one file, mask by mask."""
        text = h5py.string_dtype()
        with h5py.File(folder / FILE, "w") as file:
            file.attrs["class_names"] = json.dumps(plan.class_names, ensure_ascii=False)
            file.attrs["ignore_id"] = plan.classes.ignore_id
            file.attrs["data_root"] = str(plan.root)
            file.attrs["provenance"] = json.dumps(dict(plan.provenance), ensure_ascii=False)
            file.create_dataset("ids", data=[item.id for item in plan.items], dtype=text)
            file.create_dataset("image_paths", data=[str(item.path) for item in plan.items], dtype=text)
            file.create_dataset("splits", data=[item.split or "" for item in plan.items], dtype=text)
            file.create_dataset("shapes", data=np.array([item.shape for item in plan.items], dtype=np.int32))
            for item, mask in masks:
                write_array(file, f"masks/{item.id}", mask, {})
        return []

    def image_path(self, item: Item) -> str:
        """Images are not part of the file."""
        raise NotImplementedError

    def label_files(self, item: Item) -> Sequence[str]:
        """None beside the one file."""
        return []

    def readings(self, plan: Plan, folder: Path, items: Sequence[Item]) -> Iterator[Reading]:
        """With h5py, by the ids in the file."""

        def masks() -> Iterator[tuple[Item, Mask]]:
            with h5py.File(folder / FILE, "r") as file:
                stored = [str(name) for name in file["ids"].asstr()[()]]
                shapes = {name: file["masks"][name].shape for name in stored}
                if shapes != {item.id: item.shape for item in plan.items}:
                    raise LookupError(f"{FILE}: not every image comes back with its id and size")
                for item in items:
                    yield item, file["masks"][item.id][()]

        yield Reading(FILE, f"h5py {h5py.__version__}", masks())
