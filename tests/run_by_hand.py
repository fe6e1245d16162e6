"""A finished run folder made from arrays, without any network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from recamlabel.adapters.base import Dataset, LabelledImage
from recamlabel.core.classes import ClassTable
from recamlabel.data.catalog import Catalog, load_catalog, save_catalog
from recamlabel.data.changed import file_hash
from recamlabel.storage.hdf5 import ShardedWriter
from recamlabel.storage.run_folder import RunFolder


@dataclass
class TinyImage:
    """One image of the run: its labels, its maps at their own size, its mask at the image's size."""

    id: str
    labels: tuple[str, ...]
    cam: Any
    recam: Any
    mask: Any
    split: str | None = None


def make_run(folder: Path, classes: Sequence[str], images: Sequence[TinyImage], name: str = "run") -> RunFolder:
    """The run ``folder/name`` with stages ``maps`` and ``masks`` finished, its images in ``folder/name-data``."""
    table = ClassTable(tuple(classes))
    root = folder / f"{name}-data"
    run = RunFolder.create(folder / name)
    shapes = {image.id: np.asarray(image.mask).shape for image in images}
    labelled = tuple(_labelled(image, root, table, shapes[image.id]) for image in images)
    dataset = Dataset(root, "csv", table, labelled)
    hashes = {image.id: file_hash(image.path) for image in labelled}
    save_catalog(run.path / "work/dataset.json", Catalog(dataset, shapes, hashes))
    maps, masks = (ShardedWriter(run.path / name, "key", {}) for name in ("work/maps.h5", "masks.h5"))
    counts = np.zeros(len(table) + 1, dtype=np.int64)
    for image in images:
        ids = {"class_ids": np.array(table.ids_of(image.labels), dtype=np.int32)}
        arrays = {group: np.asarray(getattr(image, group), dtype=np.float16) for group in ("cam", "recam")}
        maps.add(image.id, {f"{group}/{image.id}": (array, ids) for group, array in arrays.items()})
        masks.add(image.id, {image.id: (np.asarray(image.mask, dtype=table.mask_dtype), {})})
        counts += np.bincount(np.ravel(image.mask), minlength=max(256, len(counts)))[: len(counts)]
    maps.finish()
    masks.finish()
    pixels = {table.name_of(index): int(count) for index, count in enumerate(counts)}
    run.finish("maps", "maps-key", 1.5, ["work/maps.h5"])
    run.finish("masks", "masks-key", 65.0, ["masks.h5"], threshold=0.5, pixels=pixels)
    return run


def with_present_images(run: RunFolder) -> None:
    """Take the image files as they are now for those that the masks were made from."""
    catalog = load_catalog(run.path / "work/dataset.json")
    hashes = {image.id: file_hash(image.path) for image in catalog.images}
    save_catalog(run.path / "work/dataset.json", Catalog(catalog.dataset, catalog.shapes, hashes))


def _labelled(image: TinyImage, root: Path, table: ClassTable, shape: tuple[int, ...]) -> LabelledImage:
    path = root / f"{image.id}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*shape, 3), 120, dtype=np.uint8)).save(path)
    present = frozenset(image.labels)
    return LabelledImage(image.id, path, present, frozenset(table.names) - present, image.split)
