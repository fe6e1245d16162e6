"""Which masks are exported. A further source is one line in ``SOURCES``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import h5py
import numpy as np

from recamlabel.classes import ClassTable
from recamlabel.errors import ConfigError, StoreError
from recamlabel.export.base import Item, Mask
from recamlabel.storage.hdf5 import open_store
from recamlabel.workspace import RunFolder


@dataclass(frozen=True)
class Source:
    """A file of masks in the run folder: one dataset per image id, ``(H, W)`` in the run's class ids.

    Args:
        file: Path below the run folder.
        stage: The stage that makes it, or None.
        missing: What to say where it is not there yet.
    """

    file: str
    stage: str | None
    missing: str


SOURCES: dict[str, Source] = {
    "masks": Source("masks.h5", "masks", "run `recamlabel fit` first"),
    "segmenter": Source("segmenter.h5", None, "no segmenter has made predictions in this run; export --what masks"),
    "reviewed": Source("review/masks.h5", None, "no reviewed masks in this run; export --what masks"),
}


@contextmanager
def open_source(run: RunFolder, what: str) -> Iterator[h5py.File]:
    """Open the masks of a run.

    Raises:
        ConfigError: Unknown ``what``; lists the known ones.
        StoreError: They are not there yet, or damaged.
    """
    if what not in SOURCES:
        raise ConfigError(f"unknown {what!r}; what can be exported: {', '.join(SOURCES)}")
    source = SOURCES[what]
    path = run.path / source.file
    if source.stage is not None:
        run.key_of(source.stage)
    if not path.is_file():
        raise StoreError(f"{path}: not there yet; {source.missing}")
    with open_store(path) as file:
        yield file


def source_key(run: RunFolder, what: str) -> str:
    """Key of the stage that made the masks, for the record; empty where no stage has."""
    stage = SOURCES[what].stage
    return "" if stage is None else run.key_of(stage)


def read_mask(file: h5py.File, item: Item, table: ClassTable) -> Mask:
    """One mask ``(H, W)`` of ``table.mask_dtype``.

    Raises:
        StoreError: Missing, of another size than the image, or with values that are no class id.
    """
    stored = file.get(item.id)
    if not isinstance(stored, h5py.Dataset):
        raise StoreError(
            f"{file.filename}: no mask of {item.id!r}; run `recamlabel fit` again, it makes what is missing"
        )
    mask = np.asarray(stored[()])
    if mask.shape != item.shape:
        raise StoreError(
            f"{file.filename}: mask of {item.id!r} has shape {mask.shape}, its image {item.shape}; "
            "run `recamlabel masks` again"
        )
    strange = mask[(mask > len(table)) & (mask != table.ignore_id)]
    if strange.size:
        raise StoreError(
            f"{file.filename}: mask of {item.id!r} holds the value {int(strange[0])}; expected 0, 1..{len(table)} "
            f"or {table.ignore_id}; run `recamlabel fit` again"
        )
    return mask.astype(table.mask_dtype, copy=False)
