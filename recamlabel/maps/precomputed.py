"""Maps from an HDF5 file: another method's, or an earlier run's ``maps.h5``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from recamlabel.adapters.base import LabelledImage
from recamlabel.core.arrays import resize_maps
from recamlabel.core.classes import ClassTable
from recamlabel.errors import ConfigError, StoreError
from recamlabel.maps.base import MapRequest
from recamlabel.maps.config import MapsConfig
from recamlabel.maps.multiscale import stored_size
from recamlabel.models.cam import PEAK_EPS
from recamlabel.storage.digest import content_digest
from recamlabel.storage.hdf5 import class_ids, open_store

GROUPS = ("cam", "")


@dataclass(frozen=True)
class PrecomputedMaps:
    """Reads one dataset an image, ``cam/<id>`` or ``<id>``: ``(C, h, w)`` numbers >= 0 of any size.

    Its attribute ``class_ids`` names the first axis (ids 1..K of this run's classes); a root attribute
    ``class_names`` (JSON list), where there is one, has to equal the run's. Each map is divided by its
    maximum, and a class of the image's label that the file does not have is an error.
    """

    path: Path
    table: ClassTable
    config: MapsConfig

    def maps(
        self, images: Sequence[LabelledImage], pixels: list[np.ndarray], classes: list[list[int]]
    ) -> dict[str, list[np.ndarray]]:
        """See :class:`recamlabel.maps.base.MapSource`. Raises StoreError with file and image id."""
        with open_store(self.path) as file:
            self._check_names(file)
            made = [
                self._one(file, image.id, own, stored_size(picture.shape[0], picture.shape[1], self.config))
                for image, picture, own in zip(images, pixels, classes, strict=True)
            ]
        return {"cam": made}

    def _check_names(self, file: h5py.File) -> None:
        if "class_names" not in file.attrs:
            return
        names = file.attrs["class_names"]
        found = json.loads(names) if isinstance(names, str) else [str(name) for name in names]
        if list(found) != list(self.table.names):
            raise StoreError(f"{self.path}: made for the classes {found}; this run has {list(self.table.names)}")

    def _one(self, file: h5py.File, image_id: str, classes: list[int], size: tuple[int, int]) -> np.ndarray:
        if not classes:
            return np.zeros((0, *size), dtype=np.float16)
        item = next((file[name] for group in GROUPS if (name := f"{group}/{image_id}".lstrip("/")) in file), None)
        if not isinstance(item, h5py.Dataset):
            raise StoreError(
                f"{self.path}: holds no maps of image {image_id!r} (looked for 'cam/{image_id}' and '{image_id}')"
            )
        values = self._values(item, image_id)
        ids = class_ids(item) if "class_ids" in item.attrs else []
        missing = [self.table.names[number] for number in classes if number + 1 not in ids]
        if missing or len(ids) != len(values):
            what = f"no map of its label {missing[0]!r}" if missing else f"{len(values)} maps for {len(ids)} class_ids"
            raise StoreError(f"{self.path}, image {image_id!r}: {what}; the attribute class_ids is {ids}")
        chosen = values[[ids.index(number + 1) for number in classes]]
        resized = resize_maps(chosen, *size)
        peak = resized.max(axis=(1, 2), keepdims=True)
        result: np.ndarray = (resized / (peak + PEAK_EPS)).astype(np.float16)
        return result

    def _values(self, item: h5py.Dataset, image_id: str) -> np.ndarray:
        values: np.ndarray = item[()]
        if values.ndim != 3 or 0 in values.shape[1:] or values.dtype.kind not in "fiu":
            raise StoreError(
                f"{self.path}, image {image_id!r}: expected numbers (classes, h, w), got {values.dtype} {values.shape}"
            )
        values = values.astype(np.float32)
        if not bool(np.isfinite(values).all()) or bool((values < 0).any()):
            raise StoreError(f"{self.path}, image {image_id!r}: maps hold NaN, infinity or negative numbers")
        return values


def file_identity(config: MapsConfig) -> str | None:
    """Hash of the file's content, for stage keys; None for the variants that read none.

    Raises:
        ConfigError: ``maps.variant=precomputed`` without a file, or one that is not there.
    """
    if config.variant != "precomputed":
        return None
    if not config.file:
        raise ConfigError("maps.variant=precomputed needs a file: --set maps.file=OTHER/maps.h5")
    path = Path(config.file)
    if not path.is_file():
        raise ConfigError(
            f"maps.file: {path}: no such file; expected an HDF5 file with 'cam/<image id>' or '<image id>'"
        )
    return content_digest(path)


def precomputed(request: MapRequest) -> PrecomputedMaps:
    """Maps of the file ``maps.file``."""
    return PrecomputedMaps(Path(request.config.file), request.table, request.config)
