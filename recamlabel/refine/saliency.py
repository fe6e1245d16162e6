"""A saliency network's maps as evidence of what is background (docs/method.md, 3).

With the class maps ``m_k``, their maximum ``M`` and the saliency ``s``, all in [0, 1]:

    m'_k = m_k / M * ((1 - w r) M + w r s)

so that how much of a pixel is foreground comes from both, and which class it is from the maps alone. ``w`` is
``refine.saliency_weight``; ``r`` is how far saliency and maps agree on this data set: the mean over images of the
correlation of ``s`` with ``M``, at least 0. Maps of noise, or of something else than what the labels name, have next to
no weight.

Sources: saliency as background cue beside class maps is what the ReCAM paper's table 7 adds to EDAM (Chen et al., CVPR
2022; Wu et al., "Embedded Discriminative Attention Mechanism for Weakly Supervised Semantic Segmentation", CVPR 2021),
with saliency maps as Jiang et al. made them ("Integral Object Mining via Online Attention Accumulation", ICCV 2019).
They threshold it; the mixture and its weight by agreement are this project's.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.core.arrays import resize_maps
from recamlabel.errors import ConfigError, DatasetError, StoreError
from recamlabel.storage.decode import opened_image
from recamlabel.storage.digest import content_digest
from recamlabel.storage.hdf5 import open_store

HDF5 = (".h5", ".hdf5")
# Below, a map says nothing: its deviation over the image.
FLAT = 1e-3
# Sides of one shape, scaled and rounded.
ASPECT = 0.05
_EPS = 1e-6
_SHOWN = 3


def with_saliency(maps: NDArray[np.floating], saliency: NDArray[np.floating], weight: float) -> NDArray[np.float16]:
    """``m'_k = m_k / M ((1 - w) M + w s)``.

    Args:
        maps: ``(C, h, w)`` in [0, 1].
        saliency: ``(h', w')`` in [0, 1] of the same image, brought to the maps' size.
        weight: w in [0, 1], what the agreement leaves of the setting.

    Returns:
        ``(C, h, w) float16`` in [0, 1]. Where no map says anything, the class of an image that has one alone takes what
        is salient; of several none does.

    Example:
        >>> with_saliency(np.array([[[0.8, 0.4]], [[0.4, 0.0]]]), np.array([[0.4, 1.0]]), 0.5).round(2).tolist()
        [[[0.60009765625, 0.7001953125]], [[0.300048828125, 0.0]]]
    """
    wide = np.asarray(maps, dtype=np.float32)
    strongest = wide.max(axis=0)
    shares = np.where(strongest > _EPS, wide / np.maximum(strongest, _EPS), float(len(wide) == 1))
    seen = resize_maps(np.asarray(saliency, np.float32)[None], *wide.shape[1:])[0].clip(0, 1)
    result: NDArray[np.float16] = (shares * ((1 - weight) * strongest + weight * seen)).astype(np.float16)
    return result


def agreement(maps: NDArray[np.floating], saliency: NDArray[np.floating]) -> float | None:
    """Correlation of the saliency with the strongest class map; None where one of them is flat.

    Args:
        maps: ``(C, h, w)`` in [0, 1].
        saliency: ``(h', w')`` in [0, 1].

    Example:
        >>> maps = np.array([[[0.0, 1.0, 0.0]]])
        >>> round(agreement(maps, maps[0]), 2), round(agreement(maps, 1 - maps[0]), 2), agreement(maps, 0 * maps[0])
        (1.0, -1.0, None)
    """
    strongest = np.asarray(maps, np.float32).max(axis=0)
    seen = resize_maps(np.asarray(saliency, np.float32)[None], *strongest.shape)[0]
    if strongest.std() < FLAT or seen.std() < FLAT:
        return None
    return float(np.corrcoef(strongest.ravel(), seen.ravel())[0, 1])


@dataclass(frozen=True)
class SaliencyMaps:
    """Reads ``<image id>.png`` below a folder, or the datasets ``<image id>`` of an HDF5 file.

    A folder may hold ``<name>.png`` alone, the last part of the id, where no two images have the same name.

    Args:
        path: The folder or file.
        ids: Image ids of the data set.
    """

    path: Path
    ids: Sequence[str]
    _counts: Counter[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not (self.path.is_dir() or (self.path.is_file() and self.path.suffix in HDF5)):
            found = "a file" if self.path.exists() else "nothing"
            raise ConfigError(
                f"refine.saliency: {self.path}: {found}; expected a folder with <image id>.png, or an HDF5 file (.h5) "
                "with a dataset <image id>"
            )
        object.__setattr__(self, "_counts", Counter(name.rsplit("/", 1)[-1] for name in self.ids))

    def place(self, image_id: str) -> Path | None:
        """The PNG file of an image; None where there is none."""
        name = image_id.rsplit("/", 1)[-1]
        short = [f"{name}.png"] if self._counts[name] == 1 else []
        return next((self.path / one for one in (f"{image_id}.png", *short) if (self.path / one).is_file()), None)

    def missing(self) -> list[str]:
        """Ids of the images that have none.

        Raises:
            ConfigError: None of the images has one.
        """
        if self.path.is_dir():
            left, names = [name for name in self.ids if self.place(name) is None], self._files()
        else:
            with open_store(self.path) as file:
                left = [name for name in self.ids if not isinstance(file.get(name), h5py.Dataset)]
                names = list(islice(file, _SHOWN))
        if self.ids and len(left) == len(self.ids):
            raise ConfigError(
                f"refine.saliency: {self.path}: none of the {len(left)} images has a map; expected for example "
                f"{left[0]}{'.png' if self.path.is_dir() else ''}, found {', '.join(names) or 'nothing'}"
            )
        return left

    def _files(self) -> list[str]:
        return sorted(path.relative_to(self.path).as_posix() for path in islice(self.path.rglob("*.*"), _SHOWN))

    def read(self, image_id: str, shape: tuple[int, int]) -> NDArray[np.float32] | None:
        """The saliency ``(h, w)`` in [0, 1] of an image; None where there is none.

        Args:
            image_id: Of the data set.
            shape: Height and width of the image.

        Raises:
            StoreError: Not a grey picture, not numbers in [0, 1], or of another aspect than the image.
        """
        if self.path.is_dir():
            place = self.place(image_id)
            values = None if place is None else _read_png(place)
            origin = str(place)
        else:
            origin = f"{self.path}, {image_id}"
            with open_store(self.path) as file:
                item = file.get(image_id)
                values = _scaled(item[()], origin) if isinstance(item, h5py.Dataset) else None
        if values is not None and abs(values.shape[0] * shape[1] / (values.shape[1] * shape[0]) - 1) > ASPECT:
            height, width = values.shape
            raise StoreError(
                f"{origin}: {width} x {height} pixels, but the image has {shape[1]} x {shape[0]}: another shape, so it "
                "is not of this image"
            )
        return values

    def identity(self) -> str:
        """Hash of what they hold, for stage keys. Raises ConfigError where none of the images has one."""
        self.missing()
        if not self.path.is_dir():
            return content_digest(self.path)
        digest = hashlib.sha256()
        for name in sorted(self.ids):
            place = self.place(name)
            digest.update(f"{name}\n{'' if place is None else content_digest(place)}\n".encode())
        return digest.hexdigest()[:16]


def _read_png(path: Path) -> NDArray[np.float32]:
    try:
        with opened_image(path) as picture:
            values = np.array(picture.convert("L") if picture.mode == "1" else picture)
            palette = picture.mode == "P"
    except DatasetError as error:
        found = str(error).removeprefix(f"{path}: ")
        raise StoreError(f"{path}: not a readable picture ({found}); refine.saliency expects grey PNG files") from None
    if values.ndim == 3 and bool((values[..., :3] == values[..., :1]).all()):
        values = values[..., 0]
    if values.ndim != 2 or palette:
        raise StoreError(f"{path}: a picture in colour; refine.saliency expects grey PNG files, 0 for background")
    return _scaled(values, str(path))


def _scaled(values: NDArray[np.generic], origin: str) -> NDArray[np.float32]:
    """To [0, 1]: 8 and 16 bits by their largest number, floats as they are."""
    if not isinstance(values, np.ndarray) or values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "uif":
        raise StoreError(f"{origin}: expected numbers (h, w), found {np.asarray(values).dtype} {np.shape(values)}")
    if values.dtype.kind in "ui":
        result = values.astype(np.float32) / np.float32(255 if values.dtype.itemsize == 1 else 65535)
    else:
        result = values.astype(np.float32)
    if not bool(np.isfinite(result).all()) or float(result.min()) < 0 or float(result.max()) > 1:
        raise StoreError(f"{origin}: expected saliency in [0, 1], found {result.min():g} to {result.max():g}")
    return result
