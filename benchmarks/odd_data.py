"""Data sets that are not as one wishes: each ends in masks or in a clear error, never in a silent empty mask.

    python benchmarks/odd_data.py OUT [--only CASE…] [--set section.key=value]…

Draws each data set, runs ``recamlabel fit`` to the masks in a process of its own with short schedules, and prints
a line a case: exit code, seconds, peak memory, how many labelled images have no pixel of a label without being called
missing, and what was said. Exit code 1 where a case ended in a defect (70), a traceback or a silent empty mask.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from small_objects import draw, ground

from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.masks.quality import read_quality
from recamlabel.storage.hdf5 import open_store

SHORT = ("classifier.min_steps=20", "classifier.max_steps=20", "recam.min_steps=10", "recam.max_steps=10")
SHORT += ("segmenter.enabled=false", "runtime.workers=1", "maps.scales=[1.0]", "probe.folds=2", "local.sides=[640]")
Rows = list[tuple[str, str]]


def one_class(folder: Path, share: float) -> Rows:
    """24 images, a square in some: in all but none, in one, in none."""
    draw(folder, 24, 240, 320, 40, seed=1)
    names = [row[0] for row in csv.reader((folder / "labels.csv").open())][1:]
    return [(name, "disc" if number < share * len(names) else "") for number, name in enumerate(names)]


def as_drawn(folder: Path) -> Rows:
    """The drawn labels of 24 images."""
    draw(folder, 24, 240, 320, 40, seed=1)
    return [(row[0], row[1]) for row in csv.reader((folder / "labels.csv").open())][1:]


def save(folder: Path, name: str, pixels: NDArray[np.uint8]) -> str:
    """An image of the data set."""
    Image.fromarray(pixels).save(folder / "images" / name, quality=90)
    return f"images/{name}"


def huge(folder: Path) -> Rows:
    """The drawn images and one of 30,000 x 20,000 pixels, which is above what is read."""
    rows = as_drawn(folder)
    Image.new("L", (30_000, 20_000), 128).save(folder / "images" / "huge.png")
    return [*rows, ("images/huge.png", "disc")]


def sizes(folder: Path) -> Rows:
    """The drawn images, and ones of 40, 300, 2,000 and 6,000 pixels."""
    rows, random = as_drawn(folder), np.random.default_rng(3)
    for side in (40, 300, 2000, 6000):
        pixels = ground(side, side, random)
        part = slice(side // 3, side // 3 + max(8, side // 8))
        pixels[part, part] = 30
        rows.append((save(folder, f"side{side}.jpg", pixels), "disc"))
    return rows


def other_camera(folder: Path) -> Rows:
    """What holds an object is grey, what holds none is brown and smooth: the labels can be told without any object."""
    rows, random = as_drawn(folder), np.random.default_rng(4)
    seen = [(name, label) for name, label in rows if label]
    for number in range(12):
        pixels = np.clip(random.normal((150, 100, 60), 4, (300, 300, 3)), 0, 255).astype(np.uint8)
        seen.append((save(folder, f"brown{number}.jpg", pixels), ""))
    return seen


def filling(folder: Path) -> Rows:
    """Textures that fill the whole picture: stripes and checks."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    random, rows = np.random.default_rng(5), []
    at = np.indices((200, 200))
    for number in range(24):
        width = int(random.integers(4, 9))
        plane = at[0] // width % 2 if number % 2 else (at[0] // width + at[1] // width) % 2
        pixels = np.clip(60 + 120 * plane[..., None] + random.normal(0, 12, (200, 200, 3)), 0, 255).astype(np.uint8)
        rows.append((save(folder, f"{number:02d}.jpg", pixels), "stripes" if number % 2 else "checks"))
    return rows


CASES: dict[str, Callable[[Path], Rows]] = {
    "an image of 30,000 x 20,000": huge,
    "40 to 6,000 pixels": sizes,
    "a class in every image": lambda folder: [(name, f"{label};ground".strip(";")) for name, label in as_drawn(folder)],
    "one class, in every image": lambda folder: one_class(folder, 1.0),
    "a class in one image": lambda folder: one_class(folder, 1 / 24),
    "only normal images": lambda folder: one_class(folder, 0.0),
    "normal images of another camera": other_camera,
    "objects that fill the picture": filling,
}


@dataclass(frozen=True)
class Outcome:
    """How a case ended."""

    code: int
    seconds: float
    megabytes: float
    silent: int
    text: str

    @property
    def fine(self) -> bool:
        """Masks without a silent empty one, or an error that is the user's to fix."""
        return self.code in (0, 1, 2) and not self.silent and "Traceback" not in self.text


def run_case(folder: Path, draw_case: Callable[[Path], Rows], assignments: Sequence[str]) -> Outcome:
    """Draw, fit in a process of its own, look."""
    data, run = folder / "data", folder / "run"
    data.mkdir(parents=True, exist_ok=True)
    rows = draw_case(data)
    with (data / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "labels"), *rows])
    words = [sys.executable, "-m", "recamlabel", "fit", str(data), "--out", str(run)]
    for assignment in (*SHORT, *assignments):
        words += ["--set", assignment]
    began = time.monotonic()
    with (folder / "said.txt").open("w+b") as said:
        process = subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode(errors="replace")
    silent = silent_masks(run) if process.returncode == 0 else 0
    return Outcome(process.returncode, time.monotonic() - began, usage.ru_maxrss / 1024, silent, text)


def silent_masks(run: Path) -> int:
    """Labelled images whose mask lacks a label that nothing calls missing."""
    quality, catalog, count = read_quality(run), load_catalog(run / CATALOG_FILE), 0
    with open_store(run / "masks.h5") as file:
        for image in catalog.images:
            there = set(np.unique(file[image.id][()]).tolist())
            lost = set(catalog.dataset.classes.ids_of(image.present)) - there - set(quality[image.id].missing)
            count += bool(lost)
    return count


def telling(text: str) -> str:
    """The lines that a person should read: warnings and the error, shortened."""
    lines = [line for line in text.splitlines() if line.startswith(("warning", "recamlabel: ", "doubtful"))]
    return " | ".join(line[:150] for line in lines[-3:])


def main() -> int:
    """All cases, a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    print("| case | exit | s | MB | silent | said |\n|---|---:|---:|---:|---:|---|", flush=True)
    wrong = 0
    for number, name in enumerate(CASES):
        if name not in arguments.only:
            continue
        one = run_case(arguments.out / f"case{number}", CASES[name], arguments.assignments)
        wrong += not one.fine
        told = telling(one.text)
        print(f"| {name} | {one.code} | {one.seconds:.0f} | {one.megabytes:.0f} | {one.silent} | {told} |", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
