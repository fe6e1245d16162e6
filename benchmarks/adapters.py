"""Large label files and folders: seconds and peak memory of reading them.

    python benchmarks/adapters.py [--images 100000 --annotations 1000000] [--only coco|folder] [--out FOLDER]

``coco``: an instances file (boxes and polygons as in COCO train2017) is indexed by ``load_dataset``,
the existence of every image included; the image files are empty, for no image is opened. Target:
under 60 s and 2 GB. ``folder``: ``recamlabel check`` of a tree of tiny images, each of which is
decoded, in 20 class folders. Target: under 3 minutes on 2 cores. Each runs in a process of its
own, whose peak memory is printed. Exits 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

COCO_SECONDS, COCO_BYTES, FOLDER_SECONDS = 60.0, 2e9, 180.0
INDEX = """
import sys, time
from pathlib import Path
began = time.perf_counter()
from recamlabel.adapters import load_dataset
dataset = load_dataset(Path(sys.argv[1]))
labels = dataset.labels()
fatal = sum(problem.fatal for problem in dataset.problems)
print(f"{len(dataset)} images, {int((labels == 1).sum())} labels, problems: {fatal}, "
      f"inside: {time.perf_counter() - began:.1f} s")
sys.exit(fatal > 0)
"""


class Cost(NamedTuple):
    """Of one child process."""

    seconds: float
    peak: int
    output: str
    returncode: int


def measure(command: list[str]) -> Cost:
    """Run a command; its peak memory is its own, as the kernel reports it when it has ended."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Cost(time.perf_counter() - began, peak, output, os.waitstatus_to_exitcode(status))


def annotation_rows(images: int, annotations: int) -> Iterator[str]:
    """Annotations with a box and a polygon of 10 to 60 numbers; 80 categories with gaps in their ids."""
    chance = random.Random(0)
    for number in range(annotations):
        polygon = ",".join(f"{chance.uniform(0, 640):.2f}" for _ in range(2 * chance.randint(5, 30)))
        box = ",".join(f"{chance.uniform(0, 640):.2f}" for _ in range(4))
        image, category = chance.randrange(images), 1 + chance.randrange(80) * 9 // 8
        yield (
            f'{{"segmentation":[[{polygon}]],"area":{chance.uniform(10, 9e4):.4f},"iscrowd":{int(number % 100 == 0)},'
            f'"image_id":{image * 5 + 9},"bbox":[{box}],"category_id":{category},"id":{number}}}'
        )


def make_coco(root: Path, images: int, annotations: int) -> Path:
    """``annotations/instances_train2017.json`` and empty files in ``train2017/``."""
    file = root / "annotations" / "instances_train2017.json"
    file.parent.mkdir(parents=True)
    (root / "train2017").mkdir()
    names = [f"{number * 5 + 9:012d}.jpg" for number in range(images)]
    for name in names:
        (root / "train2017" / name).touch()
    ids = sorted({1 + number * 9 // 8 for number in range(80)})
    with file.open("w") as stream:
        stream.write('{"info":{},"images":[')
        stream.write(
            ",".join(
                f'{{"id":{i * 5 + 9},"file_name":"{name}","height":480,"width":640}}' for i, name in enumerate(names)
            )
        )
        stream.write('],"annotations":[')
        for number, row in enumerate(annotation_rows(images, annotations)):
            stream.write(("," if number else "") + row)
        stream.write('],"categories":[' + ",".join(f'{{"id":{id_},"name":"class {id_}"}}' for id_ in ids) + "]}")
    return file


def make_folder(root: Path, images: int, classes: int = 20) -> Path:
    """JPEGs of 32 x 32 pixels, all different (a number is in a comment, so that no two are one picture)."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
    pictures = []
    for picture in pixels:
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", quality=80)
        pictures.append(stream.getvalue())
    for number in range(images):
        path = root / f"class{number % classes:02d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        data, comment = pictures[number % len(pictures)], f"{number:08d}".encode()
        path.write_bytes(data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:])
    return root


def report(name: str, cost: Cost, seconds: float, peak: float | None) -> bool:
    """Print the figures; whether the targets are met."""
    met = cost.returncode == 0 and cost.seconds < seconds and (peak is None or cost.peak < peak)
    limit = f"target {seconds:.0f} s" + (f", {peak / 1e9:.1f} GB" if peak else "")
    print(
        f"{name}: {cost.seconds:.1f} s, peak {cost.peak / 1e9:.2f} GB ({limit}){'' if met else ', MISSED'}", flush=True
    )
    if cost.returncode:
        print(cost.output[-2000:])
    return met


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--annotations", type=int, default=1_000_000)
    parser.add_argument("--only", choices=("coco", "folder"))
    parser.add_argument("--out", type=Path, help="where to put the data; a temporary folder, taken away, by default")
    options = parser.parse_args()
    out = options.out or Path(tempfile.mkdtemp(prefix="recamlabel-adapters-"))
    met = True
    try:
        if options.only != "folder":
            file = make_coco(out / "coco", options.images, options.annotations)
            size = file.stat().st_size / 1e6
            cost = measure([sys.executable, "-c", INDEX, str(file)])
            name = f"coco, {options.images} images, {options.annotations} annotations, {size:.0f} MB"
            met &= report(name, cost, COCO_SECONDS, COCO_BYTES)
            print(f"  {cost.output.strip()}")
        if options.only != "coco":
            root = make_folder(out / "folder", options.images)
            cost = measure([sys.executable, "-m", "recamlabel", "check", str(root)])
            met &= report(f"folder, {options.images} images, recamlabel check", cost, FOLDER_SECONDS, None)
    finally:
        if options.out is None:
            shutil.rmtree(out, ignore_errors=True)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
