"""The package as a library: ``recamlabel.fit`` and ``recamlabel.open_run``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.config import Config, config_from_tree, load_config
from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.errors import StoreError
from recamlabel.storage.decode import read_image
from recamlabel.storage.hdf5 import class_ids, open_store
from recamlabel.storage.run_folder import RunFolder


@dataclass(frozen=True)
class RunImage:
    """One image of a run; arrays are read when asked for.

    Args:
        id: The image's id.
        path: The image file.
        labels: Names of the classes that are in it.
        split: Its split, or None.
        shape: Height and width in pixels.
    """

    id: str
    path: Path
    labels: tuple[str, ...]
    split: str | None
    shape: tuple[int, int]
    _run: Run

    @property
    def image(self) -> NDArray[np.uint8]:
        """Pixels ``(H, W, 3) uint8`` RGB, upright."""
        return read_image(self.path)

    @property
    def mask(self) -> NDArray[np.unsignedinteger[Any]]:
        """Mask ``(H, W)``: 0 background, 1..K class ids; ``uint8``, or ``uint16`` above 254 classes."""
        with open_store(self._run.folder.need("masks.h5")) as file:
            return np.asarray(_item(file, self.id)[()])

    def maps(self, kind: str = "recam") -> dict[str, NDArray[np.float16]]:
        """Class maps ``(h, w) float16`` in [0, 1] by class name, at about a quarter of the image's size.

        Args:
            kind: ``"recam"`` or ``"cam"``.

        Raises:
            StoreError: Another kind, or the maps are not made yet or outdated.
        """
        with open_store(self._run.folder.need("maps.h5")) as file:
            item = _item(file, f"{kind}/{self.id}")
            names = (self._run.classes[number - 1] for number in class_ids(item))
            return dict(zip(names, item[()], strict=True))


class Run:
    """A finished or unfinished run, read only. Iterating gives its images in data set order.

    Attributes:
        path: The run folder.
        classes: Class names in id order; class ``classes[i]`` has id ``i + 1`` in the masks.
        config: Settings it was made with.
        metrics: Scores that were measured, by name.
    """

    def __init__(self, path: Path) -> None:
        self.folder = folder = RunFolder.open(path)
        self.path = path
        self._catalog = load_catalog(path / CATALOG_FILE)
        self.classes = self._catalog.dataset.classes.names
        self.config: Config = config_from_tree(folder.state.config, origin=str(path / "run.toml"))
        self.metrics: dict[str, Any] = folder.metrics()
        self._rows = {image.id: image for image in self._catalog.images}

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[RunImage]:
        return (self[image_id] for image_id in self._rows)

    def __getitem__(self, image_id: str) -> RunImage:
        """One image by id. Raises StoreError for an id that the run does not have."""
        row = self._rows.get(image_id)
        if row is None:
            raise StoreError(f"{self.path}: no image {image_id!r}; ids look like {next(iter(self._rows), '')!r}")
        labels = tuple(name for name in self.classes if name in row.present)
        return RunImage(row.id, row.path, labels, row.split, self._catalog.shapes[row.id], self)

    def __repr__(self) -> str:
        return f"Run({json.dumps(str(self.path))}, {len(self)} images, {len(self.classes)} classes)"


def open_run(path: str | Path) -> Run:
    """Open a run folder for reading.

    Args:
        path: What ``recamlabel fit --out`` made.

    Raises:
        StoreError: Not a run folder.

    Example:
        >>> import recamlabel
        >>> for item in recamlabel.open_run("runs/one"):  # doctest: +SKIP
        ...     print(item.id, item.labels, item.image.shape, item.mask.max(), item.maps("recam").keys())
    """
    return Run(Path(path))


def fit(
    source: str | Path,
    out: str | Path,
    *,
    preset: str = "quick",
    config: str | Path | Config | None = None,
    settings: dict[str, Any] | None = None,
) -> Run:
    """Turn image labels into pixel masks; the same as ``recamlabel fit``.

    A script that calls this needs ``if __name__ == "__main__":`` around the call, because
    the dense CRF runs in worker processes.

    Args:
        source: Label file or folder.
        out: Run folder: new, empty, or an earlier run, which continues.
        preset: ``"quick"`` or ``"paper"``.
        config: A TOML file, or a finished :class:`~recamlabel.config.Config`, which replaces the preset.
        settings: Dotted keys to values, such as ``{"masks.threshold": 0.5, "seed": 3}``.

    Returns:
        The run, opened.

    Raises:
        RecamlabelError: Anything that is the user's to fix.

    Example:
        >>> import recamlabel
        >>> run = recamlabel.fit("photos/labels.csv", "runs/one")  # doctest: +SKIP
    """
    from recamlabel.run.fit import fit as run_stages

    if not isinstance(config, Config):
        config = load_config(preset, Path(config) if config is not None else None, overrides=settings)
    elif settings:
        raise TypeError("give settings or a finished Config, not both")
    run_stages(Path(source), Path(out), config)
    return open_run(out)


def _item(file: h5py.File, name: str) -> h5py.Dataset:
    if name not in file:
        raise StoreError(f"{file.filename}: holds no {name!r}; `recamlabel status` says what is finished")
    return file[name]
