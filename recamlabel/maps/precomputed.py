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

GROUPS = ("cam", "")
LARGEST_MAP = 50_000_000


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
        with _opened(self.path) as file:
            self._check_names(file)
            made = [
                self._one(file, image.id, own, stored_size(picture.shape[0], picture.shape[1], self.config))
                for image, picture, own in zip(images, pixels, classes, strict=True)
            ]
        return {"cam": made}

    def _check_names(self, file: h5py.File) -> None:
        if "class_names" not in file.attrs:
            return
        names, own = file.attrs["class_names"], list(self.table.names)
        try:
            found = json.loads(names) if isinstance(names, str | bytes) else [str(name) for name in np.asarray(names)]
        except (ValueError, TypeError, RecursionError):
            found = None
        if not isinstance(found, list):
            raise StoreError(
                f"{self.path}: the attribute class_names is {str(names)[:80]!r}; expected the list "
                f"{json.dumps(own, ensure_ascii=False)} as JSON"
            )
        if found != own:
            raise StoreError(f"{self.path}: made for the classes {found}; this run has {own}")

    def _one(self, file: h5py.File, image_id: str, classes: list[int], size: tuple[int, int]) -> np.ndarray:
        if not classes:
            return np.zeros((0, *size), dtype=np.float16)
        item = self._item(file, image_id)
        ids = self._ids(item, image_id)
        missing = [self.table.names[number] for number in classes if number + 1 not in ids]
        if missing or len(ids) != len(item):
            what = f"no map of its label {missing[0]!r}" if missing else f"{len(item)} maps for {len(ids)} class_ids"
            raise StoreError(f"{self.path}, image {image_id!r}: {what}; the attribute class_ids is {ids}")
        chosen = np.stack([self._values(item, ids.index(number + 1), image_id) for number in classes])
        resized = resize_maps(chosen, *size)
        peak = resized.max(axis=(1, 2), keepdims=True)
        result: np.ndarray = (resized / (peak + PEAK_EPS)).astype(np.float16)
        return result

    def _item(self, file: h5py.File, image_id: str) -> h5py.Dataset:
        """The image's maps, not read yet: of this file, and of a size that can be."""
        names = [f"{group}/{image_id}".lstrip("/") for group in GROUPS]
        try:
            item = next((file[name] for name in names if name in file), None)
        except (KeyError, RuntimeError, OSError) as error:
            raise StoreError(
                f"{self.path}, image {image_id!r}: a link that leads nowhere ({error}); expected the maps themselves"
            ) from None
        if not isinstance(item, h5py.Dataset):
            raise StoreError(
                f"{self.path}: holds no maps of image {image_id!r} (looked for 'cam/{image_id}' and '{image_id}')"
            )
        if item.file.filename != file.filename or item.external or item.is_virtual:
            raise StoreError(f"{self.path}, image {image_id!r}: its maps are in another file; expected them in it")
        if item.shape is None or item.ndim != 3 or 0 in item.shape[1:] or item.dtype.kind not in "fiu":
            raise StoreError(
                f"{self.path}, image {image_id!r}: expected numbers (classes, h, w), got {item.dtype} {item.shape}"
            )
        if item.shape[1] * item.shape[2] > LARGEST_MAP:
            raise StoreError(
                f"{self.path}, image {image_id!r}: maps of {item.shape[1]} x {item.shape[2]}; expected at most "
                f"{LARGEST_MAP:,} numbers a map, scale them down"
            )
        return item

    def _ids(self, item: h5py.Dataset, image_id: str) -> list[int]:
        values = np.asarray(item.attrs.get("class_ids", np.zeros(0, np.int64)))
        whole = values.ndim == 1 and values.dtype.kind in "fiu" and bool((np.abs(values) < 2**53).all())
        if not whole or bool((values != np.rint(values)).any()):
            shown = str(item.attrs["class_ids"])[:80]
            raise StoreError(
                f"{self.path}, image {image_id!r}: the attribute class_ids is {shown!r}; expected one id (1 to "
                f"{len(self.table)}) a map"
            )
        return [int(value) for value in values]

    def _values(self, item: h5py.Dataset, index: int, image_id: str) -> np.ndarray:
        try:
            with np.errstate(over="ignore"):
                values: np.ndarray = item[index].astype(np.float32)
        except OSError as error:
            raise StoreError(f"{self.path}, image {image_id!r}: damaged ({error}); make the file anew") from None
        if not bool(np.isfinite(values).all()) or bool((values < 0).any()):
            raise StoreError(f"{self.path}, image {image_id!r}: maps hold NaN, infinity or negative numbers")
        return values


def _opened(path: Path) -> h5py.File:
    """The user's own file, which no command makes anew."""
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise StoreError(
            f"{path}: not a readable HDF5 file ({error}); expected 'cam/<image id>' or '<image id>' in it"
        ) from None


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
