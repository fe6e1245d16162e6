"""Small things in large images: how many drawn objects the masks find, from image labels alone.

    python benchmarks/small_objects.py OUT [--images 30] [--width 4000 --height 3000] [--size 20] [--set KEY=VALUE]…

Draws images of a grained ground with one object of ``--size`` pixels each, a dark disc or a bright square, or none, and
their labels; fits to the masks; then prints the share of objects whose mask has an IoU of at least 0.3 with what was
drawn, each image's seconds, and what the stage ``local`` chose. The drawn masks are
read after the fit, for the score alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

from recamlabel.config import load_config
from recamlabel.run.fit import fit

NAMES = ("disc", "square")
ENOUGH = 0.3


def ground(height: int, width: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Slow shades and grain, grey."""
    coarse = gaussian_filter(random.normal(size=(height // 40 + 2, width // 40 + 2)), 2)
    shade = zoom(coarse / max(1e-6, coarse.std()), 40, order=1)[:height, :width]
    grain = gaussian_filter(random.normal(size=(height, width)).astype(np.float32), 0.8)
    grey = 128 + 14 * shade + 10 * grain / grain.std()
    return np.clip(grey[..., None] + random.normal(0, 2, 3), 0, 255).astype(np.uint8)


def draw(folder: Path, count: int, height: int, width: int, size: int, seed: int) -> dict[str, NDArray[np.bool_]]:
    """Images and ``labels.csv``; gives each object's mask by image id, cut to its surroundings of 10 sizes."""
    random = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows, places = [], {}
    for number in range(count):
        pixels, name = ground(height, width, random), ("", *NAMES)[number % 3]
        if name:
            top, left = (int(random.integers(2 * size, length - 3 * size)) for length in (height, width))
            inside = np.ones((size, size), dtype=bool)
            if name == "disc":
                grid = np.arange(size) - (size - 1) / 2
                inside = grid[:, None] ** 2 + grid**2 <= (size / 2) ** 2
            region = pixels[top : top + size, left : left + size]
            region[inside] = np.clip(region[inside].astype(int) + (-70 if name == "disc" else 70), 0, 255)
            places[f"images/{number:03d}"] = (top, left, inside)
        Image.fromarray(pixels).save(folder / "images" / f"{number:03d}.jpg", quality=92)
        rows.append((f"images/{number:03d}.jpg", name, "val" if number % 5 == 4 else "train"))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "labels", "split"), *rows])
    return places


def main() -> None:
    """Draw, fit, score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    for name, default in (("images", 30), ("width", 4000), ("height", 3000), ("size", 20), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    data, run = arguments.out / "data", arguments.out / "run"
    places = draw(data, arguments.images, arguments.height, arguments.width, arguments.size, arguments.seed)
    start = time.monotonic()
    config = load_config(assignments=["segmenter.enabled=false", *arguments.assignments])
    fit(data / "labels.csv", run, config, "masks")
    seconds = time.monotonic() - start
    table = json.loads((run / "work/dataset.json").read_text(encoding="utf-8"))
    ious = {}
    for image_id, (top, left, inside) in places.items():
        mask = np.asarray(Image.open(run / "masks" / f"{image_id}.png"))
        truth = np.zeros(mask.shape, dtype=bool)
        truth[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
        found = (mask > 0) & (mask != 255)
        ious[image_id] = float((found & truth).sum() / max(1, (found | truth).sum()))
    scale = json.loads((run / "work/scale.json").read_text(encoding="utf-8"))
    print(f"classes {table.get('classes')}\nlocal: {scale['line']}")
    print("IoU " + " ".join(f"{value:.2f}" for value in ious.values()))
    good = sum(value >= ENOUGH for value in ious.values())
    print(
        f"objects with an IoU of {ENOUGH} or more: {good} of {len(ious)}; median {np.median(list(ious.values())):.2f}"
    )
    print(f"{seconds:.0f} s in all, {seconds / arguments.images:.1f} s an image")


if __name__ == "__main__":
    main()
