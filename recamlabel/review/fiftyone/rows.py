"""What the review shows of each image of a run, with its mask and map files; FiftyOne is not needed here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.adapters.base import LabelledImage
from recamlabel.data.catalog import Catalog
from recamlabel.errors import StoreError
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.models.weights import weights_identity
from recamlabel.review.decisions.regions import Region, regions_of
from recamlabel.review.fiftyone import fields as fields
from recamlabel.stages.confidence import CONFIDENCE_FILE
from recamlabel.storage.hdf5 import class_ids, open_store
from recamlabel.storage.places import MAPS_FILE
from recamlabel.storage.png import save_mask
from recamlabel.storage.run_folder import RunFolder

FORMAT = 1
QUALITY_FILE = "quality.json"
SEGMENTER_FILE = "segmenter.h5"
_MODELS = ("weights/recam.safetensors", "weights/classifier.safetensors")
_STAGES = ("dataset", "classifier", "masks", "maps", "segmentation", "quality")


@dataclass(frozen=True)
class Row:
    """One image as it is exported.

    Attributes:
        image: Id, path, labels, split.
        shape: Height and width.
        labels: Class name and the classifier's confidence (0..1 or None) of every label.
        files: Mask and map files by field; None for what this image has not.
        regions: The mask as regions to edit.
        values: Numbers and texts by field; None where the run does not know.
    """

    image: LabelledImage
    shape: tuple[int, int]
    labels: tuple[tuple[str, float | None], ...]
    files: Mapping[str, Path | None]
    regions: tuple[Region, ...]
    values: Mapping[str, float | int | str | None]


@dataclass(frozen=True)
class RunFacts:
    """What is the same for all images of an export.

    Args:
        run: The run; its masks are finished.
        catalog: Its images.
        truth: True masks, or None.
    """

    run: RunFolder
    catalog: Catalog
    truth: TruthFolder | None = None
    notes: list[str] = field(default_factory=list)

    @cached_property
    def masks_key(self) -> str:
        """Key of the stage ``masks``. Raises StoreError where it is not finished."""
        return self.run.key_of("masks")

    @cached_property
    def model(self) -> str:
        """Hash of the weights that made the maps; empty where the run holds none."""
        weights = next((self.run.path / name for name in _MODELS if (self.run.path / name).is_file()), None)
        return "" if weights is None else weights_identity(str(weights))

    @cached_property
    def tag(self) -> str:
        """Hash (16 hex digits) of everything the export is made from, but for single images; names its folder."""
        keys = {name: self.run.current_key(name) or "" for name in _STAGES}
        truth = "" if self.truth is None else str(self.truth.folder)
        parts = [
            FORMAT,
            str(self.run.path.resolve()),
            keys,
            self.model,
            self.run.current_key("classifier") or "",
            truth,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    @cached_property
    def truth_files(self) -> dict[str, Path]:
        """True mask by image id. Raises StoreError where none fits."""
        return {} if self.truth is None else self.truth.match(image.id for image in self.catalog.images)

    @cached_property
    def quality(self) -> Mapping[str, Any]:
        """``quality.json``; empty where it is not made yet."""
        path = self.run.path / QUALITY_FILE
        if self.run.current_key("quality") is None:
            self.notes.append("no quality scores yet: the queue is in the order of the data set")
            return {"order": [], "images": {}}
        try:
            tree: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise StoreError(f"{path}: damaged ({error}); run `recamlabel fit` again") from None
        return tree

    @cached_property
    def priority(self) -> dict[str, int]:
        """Place in the queue by image id, 1 first: the most doubtful mask."""
        ids = [image.id for image in self.catalog.images]
        image_ids = set(ids)
        order = [name for name in self.quality["order"] if name in image_ids]
        ordered = set(order)
        places = [*order, *(name for name in ids if name not in ordered)]
        return {name: rank for rank, name in enumerate(places, start=1)}

    @cached_property
    def has_segmenter(self) -> bool:
        """Whether the segmenter's own masks are there and belong to the run as it is."""
        return self.run.current_key("segmentation") is not None

    def export_key(self, image: LabelledImage) -> str:
        """Hash of everything that one image's row is made from: where it is the same, nothing is written."""
        truth = self.truth_files.get(image.id)
        stamp = None if truth is None else [str(truth), truth.stat().st_mtime_ns, truth.stat().st_size]
        own = [self.tag, self.catalog.hashes[image.id], str(image.path), sorted(image.present), image.split, stamp]
        return hashlib.sha256(json.dumps([*own, self.priority[image.id]]).encode()).hexdigest()[:16]


class RowReader:
    """Reads the rows of a run and writes their files below ``folder``.

    Args:
        facts: What is the same for all images.
        folder: Gets ``<field>/<image id>.png``: index masks in mode L, maps as 8 bit.
    """

    def __init__(self, facts: RunFacts, folder: Path) -> None:
        self.facts, self.folder = facts, folder
        self.table = facts.catalog.dataset.classes
        self.class_fields = fields.heat_fields(self.table)
        self._stack = ExitStack()

    def __enter__(self) -> RowReader:
        run = self.facts.run.path
        self._masks = self._stack.enter_context(open_store(run / "masks.h5"))
        self._maps = self._open(MAPS_FILE)
        self._segmenter = self._open(SEGMENTER_FILE) if self.facts.has_segmenter else None
        self._confidence = self._open(CONFIDENCE_FILE) if self.facts.run.artifact(CONFIDENCE_FILE) else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def row(self, image: LabelledImage) -> Row:
        """One image; its files are written.

        Raises:
            StoreError: Its mask is missing or of another size than the image, or a true mask does not fit.
        """
        shape = self.facts.catalog.shapes[image.id]
        mask = _stored_mask(self._masks, image.id, shape)
        files: dict[str, Path | None] = dict.fromkeys((fields.HEAT, *self.class_fields.values(), fields.SEGMENTER))
        files |= {fields.PSEUDO: self._write(fields.PSEUDO, image.id, mask), **self._heat(image.id)}
        values: dict[str, float | int | str | None] = {
            fields.KEY: image.id,
            fields.EXPORT_KEY: self.facts.export_key(image),
            fields.SPLIT: image.split,
            fields.PRIORITY: self.facts.priority[image.id],
            fields.WITHHELD: round(float((mask == self.table.ignore_id).mean()), 4),
            fields.QUALITY: self.facts.quality["images"].get(image.id, {}).get("score"),
            fields.DISAGREEMENT: None,
            fields.MASKS_KEY: self.facts.masks_key,
            fields.THRESHOLD: self.facts.run.state.stages["masks"].get("threshold"),
            fields.MODEL: self.facts.model,
        }
        if self._segmenter is not None:
            predicted = _stored_mask(self._segmenter, image.id, shape)
            files[fields.SEGMENTER] = self._write(fields.SEGMENTER, image.id, predicted)
            agreement = self._segmenter[image.id].attrs.get("agreement")
            values[fields.DISAGREEMENT] = None if agreement is None else round(1 - float(np.mean(agreement)), 4)
        truth = self.facts.truth_files.get(image.id)
        if truth is not None and self.facts.truth is not None:
            true_mask = self.facts.truth.read(truth, shape).astype(self.table.mask_dtype)
            files[fields.TRUTH] = self._write(fields.TRUTH, image.id, true_mask)
        return Row(image, shape, self._labels(image), files, tuple(regions_of(mask, self.table)), values)

    def _open(self, name: str) -> h5py.File | None:
        path = self.facts.run.path / name
        return self._stack.enter_context(open_store(path)) if path.is_file() else None

    def _labels(self, image: LabelledImage) -> tuple[tuple[str, float | None], ...]:
        stored = None if self._confidence is None else self._confidence.get(image.id)
        row = None if stored is None else stored[()]
        ids = self.table.ids_of(image.present)
        return tuple((self.table.name_of(n), None if row is None else round(float(row[n - 1]), 4)) for n in ids)

    def _heat(self, image_id: str) -> dict[str, Path]:
        """ReCAM maps as they are stored, a quarter of the image's size: the App stretches them."""
        stored = None if self._maps is None else self._maps.get(f"recam/{image_id}")
        if stored is None or not stored.shape[0]:
            return {}
        maps: NDArray[np.uint8] = (np.clip(stored[()].astype(np.float32), 0, 1) * 255 + 0.5).astype(np.uint8)
        files = {fields.HEAT: self._write(fields.HEAT, image_id, maps.max(axis=0))}
        for class_id, one in zip(class_ids(stored), maps, strict=True):
            name = self.class_fields.get(class_id)
            if name is not None:
                files[name] = self._write(name, image_id, one)
        return files

    def _write(self, name: str, image_id: str, array: NDArray[Any]) -> Path:
        path = self.folder / name / f"{image_id}.png"
        save_mask(path, array)
        return path


def _stored_mask(file: h5py.File, image_id: str, shape: tuple[int, int]) -> NDArray[Any]:
    item = file.get(image_id)
    if not isinstance(item, h5py.Dataset):
        raise StoreError(
            f"{file.filename}: no mask of {image_id!r}; run `recamlabel fit` again, it makes what is missing"
        )
    mask: NDArray[Any] = item[()]
    if mask.shape != shape:
        raise StoreError(
            f"{file.filename}: mask of {image_id!r} has shape {mask.shape}, its image {shape}; "
            "run `recamlabel fit` again"
        )
    return mask
