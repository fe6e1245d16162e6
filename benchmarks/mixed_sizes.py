"""One data set with images from 40 to 10,000 pixels: it is fitted to the masks, and within which memory.

    python benchmarks/mixed_sizes.py OUT [--largest 10000] [--set section.key=value]…

Draws 16 images of 400 x 300 pixels with a disc or a square, one of 40 x 30 and one of ``--largest`` squared; fits to
the masks; prints each stage's peak memory, as ``run.toml`` has it, and how many labelled objects have no pixel.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image
from small_objects import draw, ground

from recamlabel.config import load_config
from recamlabel.data.catalog import load_catalog
from recamlabel.masks.quality import read_quality
from recamlabel.run.fit import fit
from recamlabel.storage.run_folder import RunFolder


def main() -> None:
    """Draw, fit, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--largest", type=int, default=10_000)
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    data, random = arguments.out / "data", np.random.default_rng(1)
    draw(data, 16, 300, 400, 40, seed=0)
    rows = list(csv.reader((data / "labels.csv").open()))
    for name, (height, width) in {"tiny": (30, 40), "huge": (arguments.largest, arguments.largest)}.items():
        pixels = ground(min(height, 2000), min(width, 2000), random)
        picture = Image.fromarray(pixels).resize((width, height))
        side = max(8, width // 50)
        picture.paste((20, 20, 20), (width // 3, height // 3, width // 3 + side, height // 3 + side))
        picture.save(data / "images" / f"{name}.jpg", quality=90)
        rows.append([f"images/{name}.jpg", "disc", "train"])
    with (data / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    config = load_config(assignments=["segmenter.enabled=false", *arguments.assignments])
    path = fit(data / "labels.csv", arguments.out / "run", config, "masks").path
    run = RunFolder.open(path)
    for stage, record in run.state.stages.items():
        print(f"{stage:12s} {record.get('peak_mb', 0):7.0f} MB {record['seconds']:8.1f} s")
    missing = [name for name, one in read_quality(path).items() if one.missing]
    mask = np.asarray(Image.open(path / "masks" / "images" / "huge.png"))
    print(f"images {len(load_catalog(path / 'dataset.json').images)}, without a pixel of a label: {missing or 'none'}")
    print(f"huge: {mask.shape}, {(mask > 0).mean():.2%} of it not background")


if __name__ == "__main__":
    main()
