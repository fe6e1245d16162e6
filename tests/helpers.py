"""Tiny data sets drawn on the fly, for tests."""

from __future__ import annotations

import importlib.util
import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from recamlabel.storage.hdf5 import ShardedWriter

COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200)}
TINY = [
    "augment.crop_size=64",
    "augment.resize_min=64",
    "augment.resize_max=80",
    "classifier.batch_size=4",
    "classifier.min_steps=3",
    "classifier.max_steps=3",
    "recam.batch_size=4",
    "recam.min_steps=2",
    "recam.max_steps=2",
    "maps.scales=[1.0]",
    # Two fits instead of fifteen: else the probe takes nine tenths of a tiny run's time.
    "probe.folds=2",
    "probe.iterations=1",
    "probe.fine_sides=[]",
    "local.enabled=false",
    "recam.min_agreement=0",  # two steps learn nothing that could agree
    "recam.combine=product",  # two steps from zero leave nothing for the default rule to contrast
    "segmenter.enabled=false",
    "runtime.workers=1",
    "runtime.device=cpu",
]
TINY_SEGMENTER = [
    *TINY,
    "segmenter.enabled=true",
    "segmenter.min_steps=2",
    "segmenter.max_steps=2",
    "segmenter.batch_size=4",
    "segmenter.predict.scales=[1.0]",
    "refine.method=none",
]


def load_script(path: Path) -> ModuleType:
    """A script as a module. Its folder must not stay on ``sys.path``: ``import datasets`` would find another one."""
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there for the module that they are in
    before = sys.path[:]
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def draw(path: Path, names: list[str], seed: int, size: tuple[int, int] = (64, 80)) -> np.ndarray:
    """Grey noise with one coloured square per name; returns the exact mask."""
    rng = np.random.default_rng(seed)
    height, width = size
    image = rng.integers(90, 130, (height, width, 3)).astype(np.uint8)
    mask = np.zeros(size, dtype=np.uint8)
    for place, name in enumerate(names):
        top, left = 8 + int(rng.integers(0, 16)), 4 + place * width // 2
        image[top : top + 24, left : left + 24] = COLOURS[name]
        mask[top : top + 24, left : left + 24] = list(COLOURS).index(name) + 1
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return mask


def make_tiny_csv(folder: Path) -> Path:
    """Eight images, two classes, one image without a label, train and val; ``truth/`` outside the data root."""
    root = folder / "data"
    rows = ["image,labels,split"]
    sets = [["red"], ["blue"], ["red", "blue"], [], ["blue"], ["red"], ["red", "blue"], ["blue"]]
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    for number, names in enumerate(sets):
        mask = draw(root / "images" / f"{number}.png", names, number)
        rows.append(f"images/{number}.png,{' '.join(names)},{'val' if number >= 6 else 'train'}")
        Image.fromarray(mask).save(folder / "truth" / f"{number}.png")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    (root / "classes.txt").write_text("red\nblue\n")
    return root


def stop_after(monkeypatch: pytest.MonkeyPatch, file: str, count: int) -> None:
    """Interrupt the writing of one HDF5 file, once: when so many images are in its parts."""
    plain, calls = ShardedWriter.add, []

    def add(self: ShardedWriter, image_id: str, items: Any) -> None:
        if file in str(self.target):
            calls.append(image_id)
            if len(calls) == count:
                self.flush()
                raise KeyboardInterrupt
        plain(self, image_id, items)

    monkeypatch.setattr(ShardedWriter, "add", add)


def arrays(path: Path) -> dict[str, np.ndarray]:
    """All data sets of an HDF5 file by name."""
    found: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
