"""The data set as a run sees it: ``dataset.json``, labels and sizes of every usable image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recamlabel.adapters.base import Dataset, LabelledImage
from recamlabel.core.classes import ClassTable, OtherNames
from recamlabel.errors import DatasetError, StoreError, in_short
from recamlabel.storage.atomic import write_text
from recamlabel.storage.places import placed

CATALOG_FILE = "work/dataset.json"
FileState = tuple[int, int]
"""Size in bytes and time of the last change in nanoseconds of a file."""


@dataclass(frozen=True)
class Catalog:
    """A data set whose every image has been decoded once.

    Args:
        dataset: Classes and images, in order.
        shapes: Height and width in pixels by image id, after EXIF orientation.
        hashes: Content hash of the image file by image id.
        states: Size and time of the image file when it was hashed, by image id: where both are the same, the
            file need not be hashed again. Empty for a run of an earlier version.
        flat, faint: Ids of images of a single colour, and of those with hardly any contrast, as
            :class:`~recamlabel.data.inspect.Inspection` has them; empty for a run of an earlier version.
    """

    dataset: Dataset
    shapes: Mapping[str, tuple[int, int]]
    hashes: Mapping[str, str]
    states: Mapping[str, FileState] = field(default_factory=dict)
    flat: tuple[str, ...] = ()
    faint: tuple[str, ...] = ()

    @property
    def images(self) -> tuple[LabelledImage, ...]:
        """All images, in data set order."""
        return self.dataset.images

    def training_images(self, splits: list[str]) -> tuple[LabelledImage, ...]:
        """Images of the given splits; all images where the data set has no splits."""
        if not self.dataset.splits:
            return self.images
        return tuple(image for image in self.images if image.split in splits)

    def fingerprint(self, images: tuple[LabelledImage, ...] | None = None) -> str:
        """Hash of classes, ids, labels, splits and image contents (not of where the files lie)."""
        digest = hashlib.sha256(json.dumps(self.dataset.classes.names).encode())
        for image in self.images if images is None else images:
            row = [image.id, sorted(image.present), sorted(image.absent), image.split, self.hashes[image.id]]
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()[:16]


def save_catalog(path: Path, catalog: Catalog) -> None:
    """Write a catalog as JSON, atomically."""
    dataset = catalog.dataset
    everything = frozenset(dataset.classes.names)
    rows = []
    for image in dataset.images:
        height, width = catalog.shapes[image.id]
        rows.append(
            {
                "id": image.id,
                "path": str(image.path),
                "height": height,
                "width": width,
                "present": dataset.classes.ids_of(image.present),
                "unknown": dataset.classes.ids_of(everything - image.present - image.absent),
                "split": image.split,
                "hash": catalog.hashes[image.id],
                **({"file": catalog.states[image.id]} if image.id in catalog.states else {}),
            }
        )
    classes = {"classes": list(dataset.classes.names), "background": dataset.classes.background}
    head = {"root": str(dataset.root), "adapter": dataset.adapter, **classes}
    pictures = {name: ids for name, ids in (("flat", catalog.flat), ("faint", catalog.faint)) if ids}
    write_text(path, json.dumps({**head, **pictures, "images": rows}, indent=1, ensure_ascii=False))


def load_catalog(path: Path, background: bool | None = None) -> Catalog:
    """Read what :func:`save_catalog` wrote.

    Args:
        path: The file.
        background: Whether there is one, as the run's settings say; None: as the file says. Files of earlier versions
            do not say it.

    Raises:
        StoreError: It is missing or damaged.
    """
    try:
        tree = json.loads(placed(path).read_text(encoding="utf-8"))
        there_is = tree.get("background", True) if background is None else background
        classes = ClassTable(tuple(tree["classes"]), bool(there_is))
        images, shapes, hashes, states = [], {}, {}, {}
        everything = frozenset(classes.names)
        # Images with the same labels share their sets: with many classes they are most of the memory.
        shared: dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[frozenset[str], OtherNames]] = {}
        for row in tree["images"]:
            key = (tuple(row["present"]), tuple(row["unknown"]))
            if key not in shared:
                there = frozenset(map(classes.name_of, key[0]))
                shared[key] = (there, OtherNames(everything, there.union(map(classes.name_of, key[1]))))
            present, absent = shared[key]
            images.append(LabelledImage(row["id"], Path(row["path"]), present, absent, row["split"]))
            shapes[row["id"]] = (int(row["height"]), int(row["width"]))
            hashes[row["id"]] = str(row["hash"])
            if "file" in row:
                states[row["id"]] = (int(row["file"][0]), int(row["file"][1]))
        flat, faint = (tuple(map(str, tree.get(name, ()))) for name in ("flat", "faint"))
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file; run `recamlabel fit` first") from None
    except (ValueError, LookupError, TypeError, AttributeError, DatasetError) as error:
        raise StoreError(f"{path}: damaged ({in_short(error)}); run `recamlabel fit` again") from None
    dataset = Dataset(Path(tree["root"]), str(tree["adapter"]), classes, tuple(images))
    return Catalog(dataset, shapes, hashes, states, flat, faint)
