"""Which masks are exported. A further source is one line in ``SOURCES``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from recamlabel.core.classes import ClassTable
from recamlabel.core.registry import check_choice
from recamlabel.errors import StoreError
from recamlabel.export.base import Item, Mask
from recamlabel.masks.reviewed import MASKS_FILE, ReviewFolder
from recamlabel.storage.hdf5 import first_dataset, open_store
from recamlabel.storage.outdated import say_if_outdated
from recamlabel.storage.run_folder import RunFolder


@dataclass(frozen=True)
class Source:
    """Files of masks in the run folder: one dataset per image id, ``(H, W)`` in the run's class ids.

    Args:
        files: Paths below the run folder; of those that hold an image the first counts.
        stage: The stage that makes them.
        missing: What to say where the first is not there yet.
    """

    files: tuple[str, ...]
    stage: str
    missing: str


SOURCES: dict[str, Source] = {
    "masks": Source(("masks.h5",), "masks", "run `recamlabel fit` first"),
    "segmenter": Source(
        ("segmenter.h5",), "segmentation", "no segmenter has made predictions in this run; export --what masks"
    ),
    "reviewed": Source(
        (MASKS_FILE, "masks.h5"),
        "masks",
        "nothing in this run is reviewed yet; decide on its masks with `recamlabel review`, or export all of them "
        "(--what masks, without --only)",
    ),
}


@dataclass(frozen=True)
class MaskFiles:
    """The open files of a source.

    Args:
        files: Of those that hold an image the first counts.
        unknown: Ids of images about which nothing is known, whatever the files have: all their pixels are ignored.
    """

    files: tuple[h5py.File, ...]
    unknown: frozenset[str] = frozenset()

    def find(self, image_id: str) -> h5py.Dataset:
        """The mask of an image, from the first file that has it. Raises StoreError where none has."""
        stored = first_dataset(self.files, image_id)
        if stored is None:
            place = self.files[-1].filename
            raise StoreError(f"{place}: no mask of {image_id!r}; run `recamlabel fit` again, it makes what is missing")
        return stored


@contextmanager
def open_source(run: RunFolder, what: str) -> Iterator[MaskFiles]:
    """Open the masks of a run.

    Raises:
        ConfigError: Unknown ``what``; lists the known ones.
        StoreError: They are not there yet, or damaged.
    """
    check_choice("--what", what, SOURCES)
    source = SOURCES[what]
    path = run.path / source.files[0]
    if not path.is_file():
        run.key_of("masks")
        raise StoreError(f"{path}: not there yet; {source.missing}")
    # The file of a redo that was stopped is still there: only the record says that it counts.
    source_key(run, what)
    say_if_outdated(run, source.stage)
    with ExitStack() as stack:
        yield MaskFiles(tuple(stack.enter_context(open_store(run.path / name)) for name in source.files))


def source_key(run: RunFolder, what: str) -> str:
    """What made the masks, for the record: the stage's key, with the digest of the review where it has a part."""
    source = SOURCES[what]
    # The segmenter's masks are of use beside masks of another level, which cost it nothing but its being current.
    key = run.key_of(source.stage, outdated=source.stage == "segmentation")
    return f"{key}+review:{ReviewFolder(run.path).digest()}" if MASKS_FILE in source.files else key


def read_mask(masks: MaskFiles, item: Item, table: ClassTable) -> Mask:
    """One mask ``(H, W)`` of ``table.mask_dtype``.

    Raises:
        StoreError: Missing, of another size than the image, or with values that are no class id.
    """
    stored = masks.find(item.id)
    mask = np.asarray(stored[()]) if item.id not in masks.unknown else np.full(stored.shape, table.ignore_id)
    place = f"{stored.file.filename}: mask of {item.id!r}"
    remedy = "review it again" if Path(stored.file.filename).match(MASKS_FILE) else "run `recamlabel masks` again"
    if mask.shape != item.shape:
        raise StoreError(f"{place} has shape {mask.shape}, its image {item.shape}; {remedy}")
    strange = mask[(mask > len(table)) & (mask != table.ignore_id)]
    if strange.size:
        raise StoreError(
            f"{place} holds the value {int(strange[0])}; expected 0, 1..{len(table)} or {table.ignore_id}; {remedy}"
        )
    return mask.astype(table.mask_dtype, copy=False)
