"""Time and peak memory of every export of a run with many images, against one with a tenth of them.

    python benchmarks/export_memory.py [--images 100000] [--formats voc coco ...]

The run is made up: masks of 48 x 64 pixels with a few rectangles, no image files (--images none
where the format allows, else small PNG). Every export is a process of its own, so that its peak
memory is its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from recamlabel.adapters.base import Dataset, LabelledImage
from recamlabel.core.classes import ClassTable
from recamlabel.data.catalog import Catalog, save_catalog
from recamlabel.data.changed import file_hash
from recamlabel.export import FORMATS, export_run
from recamlabel.storage.run_folder import RunFolder

SHAPE = (48, 64)
CLASSES = tuple(f"class {number}" for number in range(20))


def make_run(folder: Path, count: int) -> Path:
    """A run with finished masks and nothing else."""
    rng = np.random.default_rng(0)
    table = ClassTable(CLASSES)
    root = folder / "data"
    root.mkdir(parents=True)
    Image.new("RGB", SHAPE[::-1]).save(root / "one.png")
    images = tuple(
        LabelledImage(f"{n // 1000}/{n}", root / "one.png", frozenset(), frozenset(CLASSES), ("train", "val")[n % 2])
        for n in range(count)
    )
    run = RunFolder.create(folder / "run")
    shapes = {image.id: SHAPE for image in images}
    dataset = Dataset(root, "csv", table, images)
    content = file_hash(root / "one.png")
    save_catalog(run.path / "work/dataset.json", Catalog(dataset, shapes, {image.id: content for image in images}))
    with h5py.File(run.path / "masks.h5", "w") as file:
        for image in images:
            mask = np.zeros(SHAPE, np.uint8)
            for _ in range(4):
                top, left = int(rng.integers(0, 40)), int(rng.integers(0, 56))
                mask[top : top + 16, left : left + 16] = rng.choice([*range(21), 255])
            file.create_dataset(image.id, data=mask, compression="gzip")
    run.finish("masks", "key", 0.0, ["masks.h5"])
    return run.path


def one(run: Path, format_name: str, out: Path) -> dict[str, float]:
    """Export in this process and say what it took."""
    modes = FORMATS[format_name].image_modes
    began = time.monotonic()
    export_run(RunFolder.open(run), format_name, out, images="none" if "none" in modes else "link")
    return {"seconds": time.monotonic() - began, "peak_mb": peak_mb()}


def peak_mb() -> float:
    """Peak memory of this process alone; getrusage would begin with that of the parent."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Print a line a format and size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run, name, out = options.one
        print(json.dumps(one(Path(run), name, Path(out))))
        return
    with tempfile.TemporaryDirectory() as folder:
        for count in (options.images // 10, options.images):
            run = make_run(Path(folder) / str(count), count)
            for name in options.formats:
                out = Path(folder) / f"{name}-{count}"
                command = [sys.executable, __file__, "--one", str(run), name, str(out)]
                done = subprocess.run(command, check=True, text=True, capture_output=True)
                took = json.loads(done.stdout.splitlines()[-1])
                print(f"{name:<12} {count:>7} images {took['seconds']:7.1f} s {took['peak_mb']:7.0f} MB", flush=True)
                subprocess.run(["rm", "-rf", str(out)], check=True)


if __name__ == "__main__":
    main()
