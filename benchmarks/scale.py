"""Memory and time of every stage as the number of images grows.

    python benchmarks/scale.py OUT [--images 2000 20000] [--set section.key=value]…
    python benchmarks/scale.py OUT --gate 2000 20000 100000

Draws that many images of 48 x 64 pixels with four classes, runs ``recamlabel fit`` on them with trainings of a few
steps, each in a process of its own, and prints a line a stage: peak resident memory in MB and milliseconds an image.
The last column is what a thousand images more cost. A run that was interrupted goes on. ``--gate`` asks the gate and
the classifier's head alone, on drawn features of 1,280 numbers, as those of ``quick`` are.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = {"red": (200, 30, 30), "green": (30, 160, 30), "blue": (30, 30, 200), "white": (230, 230, 230)}
TRAININGS = ("classifier", "recam", "segmenter")
SETTINGS = [f"{name}.{end}_steps=5" for name in TRAININGS for end in ("min", "max")]
SETTINGS += ["runtime.workers=1", "maps.scales=[1.0]", "probe.folds=2", "probe.fine_sides=[64]", "local.sides=[64]"]
SETTINGS += ["segmenter.predict.scales=[1.0]"]


def draw(folder: Path, count: int) -> Path:
    """Grey noise with a square for each of one or two classes; the table of labels last, as the mark of all."""
    table = folder / "labels.csv"
    if table.is_file():
        return table
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        pixels = rng.integers(90, 130, (48, 64, 3)).astype(np.uint8)
        names = rng.choice(list(CLASSES), size=rng.integers(1, 3), replace=False)
        for place, name in enumerate(names):
            top, left = rng.integers(2, 20), 3 + 32 * place + rng.integers(0, 8)
            pixels[top : top + 18, left : left + 18] = CLASSES[str(name)]
        Image.fromarray(pixels).save(folder / "images" / f"{number:06}.png", compress_level=1)
        rows.append([f"images/{number:06}.png", " ".join(names)])
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["image", "labels"], *rows])
    return table


def stages_of(run: Path, table: Path, settings: list[str]) -> dict[str, dict[str, Any]]:
    """What ``run.toml`` says of every stage, once ``fit`` has run."""
    assignments = [part for line in (*SETTINGS, *settings) for part in ("--set", line)]
    command = [sys.executable, "-m", "recamlabel", "fit", str(table), "--out", str(run), "--force", *assignments]
    subprocess.run(command, check=True)
    tree: dict[str, dict[str, Any]] = tomllib.loads((run / "run.toml").read_text())["stages"]
    return tree


def ask_gate(count: int, folder: Path) -> tuple[float, float]:
    """Peak resident memory in MB and seconds of gate and head on drawn features of ``count`` images."""
    from recamlabel.core.memory import peak_megabytes
    from recamlabel.gate.config import GateConfig
    from recamlabel.gate.gate import assess
    from recamlabel.gate.head_start import logistic_head
    from recamlabel.storage.rows import RowTable

    labels = np.random.default_rng(0).integers(0, 2, (count, len(CLASSES))).astype(np.int8)
    ids = [f"{number:07}" for number in range(count)]

    def rows() -> Iterator[np.ndarray]:
        rng = np.random.default_rng(1)
        return (rng.normal(size=1280).astype(np.float32) + row.sum() for row in labels)

    began = time.monotonic()
    with RowTable(rows(), count, folder) as features:
        assess(features, labels, np.ones(count, bool), ids, list(CLASSES), GateConfig())
        logistic_head(features, labels, ids, 0.01)
    return peak_megabytes(), time.monotonic() - began


def gate_table(counts: list[int], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    print("| images | gate and head: peak MB | s |\n|---:|---:|---:|")
    for count in sorted(counts):
        # A process each: a peak is a process's own.
        with get_context("spawn").Pool(1) as pool:
            peak, seconds = pool.apply(ask_gate, (count, folder))
        print(f"| {count} | {peak:.0f} | {seconds:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 20_000])
    parser.add_argument("--gate", type=int, nargs="+", metavar="IMAGES", help="the gate alone, on so many images")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the runs")
    given = parser.parse_args()
    if given.gate:
        gate_table(given.gate, given.out)
        return
    counts = sorted(given.images)
    runs = {
        count: stages_of(given.out / f"run{count}", draw(given.out / f"data{count}", count), given.set)
        for count in counts
    }
    print(f"| stage | {' | '.join(f'{count} images: MB, ms an image' for count in counts)} | MB for 1,000 more |")
    print("|---|" + "---:|" * (len(counts) + 1))
    for stage, last in runs[counts[-1]].items():
        known = [runs[count].get(stage, {}) for count in counts]
        cells = [
            f"{one.get('peak_mb', float('nan')):.0f}, {1000 * one.get('seconds', 0) / count:.1f}"
            for one, count in zip(known, counts, strict=True)
        ]
        if all("peak_mb" in one for one in known):
            more = (last["peak_mb"] - known[0]["peak_mb"]) / max(counts[-1] - counts[0], 1) * 1000
            print(f"| {stage} | {' | '.join(cells)} | {more:.1f} |")


if __name__ == "__main__":
    main()
