"""Maps of ``maps.variant=patchmemory`` beside those of CAM: the same classifier, the same settings otherwise.

    python benchmarks/patchmemory.py [FOLDER] [--out DIR] [--images 90] [--side 160] [--seed 0] [--set key=value]…

Without FOLDER surfaces are drawn (``recamlabel.demo``: three textures, small things of three classes on two thirds of
them, the others normal), and once more with the normal images as another camera would take them (darker, blurred).
FOLDER holds ``labels.csv``, its images, ``masks/`` and ``classes.txt``, as ``benchmarks/datasets.py`` takes it. Runs
lie in ``DIR/<data>-<variant>`` and continue what is there. The masks are read by the evaluation alone.

- *maps*: mIoU at the level that the masks like best, of both groups of ``maps.h5``; *refined*: of ``scores.h5``.
- *masks*: complete masks at the automatic level.
- *normal*, *labelled*: median distance of normal patches to the memory of the other normal images, and of the
  labelled images' patches; ``!`` where the run warns.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from recamlabel.config import load_config
from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.demo.compose import Look, draw_scene
from recamlabel.evaluation.scoring import Pairs, best_level, score_complete
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.run.fit import fit
from recamlabel.storage.png import write_mask
from recamlabel.storage.run_folder import RunFolder

CLASSES = ("starfish", "gear", "leaf")
SURFACES = ("wood", "stone", "sand")
VARIANTS = ("cam", "patchmemory")


def draw(folder: Path, images: int, side: int, seed: int, other_camera: bool = False) -> Path:
    """Surfaces with small things on two of three; gives the folder."""
    if (folder / "labels.csv").is_file():
        return folder
    (folder / "images").mkdir(parents=True, exist_ok=True)
    look = Look(side=side, smallest=0.1, largest=0.22, overlap=0.0, min_visible=0.9, noise=0.015)
    rows = [("image", "labels", "split")]
    for number in range(images):
        rng = np.random.default_rng([seed, number])
        normal = number % 3 == 2
        count = 0 if normal else int(rng.integers(1, 3))
        names = [CLASSES[(number + place) % len(CLASSES)] for place in range(count)]
        scene = draw_scene(names, str(rng.choice(SURFACES)), CLASSES, look, rng)
        picture = Image.fromarray(scene.image)
        if normal and other_camera:
            picture = picture.filter(ImageFilter.GaussianBlur(2)).point([value * 6 // 10 for value in range(256)] * 3)
        picture.save(folder / "images" / f"{number:03d}.png")
        write_mask(folder / "masks" / f"{number:03d}.png", scene.mask)
        rows.append((f"images/{number:03d}.png", " ".join(scene.present), "val" if number % 5 == 4 else "train"))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def fitted(data: Path, out: Path, variant: str, seed: int, assignments: list[str]) -> RunFolder:
    """A run of one variant; the classifier of plain CAM's run is taken over."""
    settings = ["segmenter.enabled=false", *assignments, f"maps.variant={variant}"]
    run, first = (out / f"{data.name}-{name}" for name in (variant, VARIANTS[0]))
    if not run.exists() and first.exists():
        shutil.copytree(first, run)
    return fit(data / "labels.csv", run, load_config("quick", assignments=settings, overrides={"seed": seed}))


def figures(run: RunFolder, data: Path) -> Iterator[str]:
    """The cells of one row."""
    catalog = load_catalog(run.path / CATALOG_FILE)
    names = data / "classes.txt"
    truth = TruthFolder(data / "masks", catalog.dataset.classes, names if names.is_file() else None)
    pairs = Pairs(truth, truth.match(image.id for image in catalog.images), catalog.shapes, "maps")
    for file, group in (("work/maps.h5", "cam"), ("work/maps.h5", "recam"), ("work/scores.h5", "scores")):
        best = best_level(run.path / file, group, catalog, pairs)
        yield f"{100 * best.counts.scores().miou:.1f} at {best.threshold:.2f}"
    outcome = score_complete(run, catalog, pairs)
    yield f"{100 * outcome.counts.scores().miou:.1f} at {outcome.threshold:.2f}"
    record = run.state.stages.get("cams", {})
    normal, labelled = record.get("normal_distance"), record.get("labelled_distance")
    yield "-" if normal is None else f"{normal:.3f}"
    warns = labelled is not None and labelled > record["normal_level"]
    yield "-" if labelled is None else f"{labelled:.3f}{' !' if warns else ''}"
    yield f"{sum(run.state.stages.get(name, {}).get('seconds', 0) for name in ('cams', 'maps')):.0f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=Path("runs/patchmemory"))
    parser.add_argument("--images", type=int, default=90)
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    if arguments.folder:
        sets = [arguments.folder.resolve()]
    else:
        size = (arguments.images, arguments.side, arguments.seed)
        sets = [
            draw(arguments.out / "data" / name, *size, other_camera=other)
            for name, other in (("drawn", False), ("other-camera", True))
        ]
    head = "data, variant", "maps: CAM", "maps: ReCAM", "refined", "masks", "normal", "labelled", "seconds of maps"
    rows = []
    for data in sets:
        for variant in VARIANTS:
            run = fitted(data, arguments.out, variant, arguments.seed, arguments.assignments)
            rows.append([f"{data.name}, {variant}", *figures(run, data)])
    print(f"| {' | '.join(head)} |\n|---|{'---:|' * (len(head) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
