"""What the background level chosen without masks costs against the best one, chosen with them.

    python benchmarks/thresholds.py --demo --out RUNS            # four settings of the drawn scenes, runs made here
    python benchmarks/thresholds.py --run RUN TRUTH [--run …]    # finished runs of your own

Every rule is scored by the mIoU of the complete masks at its level on all images with a true mask. The true
masks choose "best" and "n known masks" (what `recamlabel calibrate --n` does; the mean cost of ten drawings),
and nothing else. Prints Markdown.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recamlabel.cli.demo import demo_config
from recamlabel.config import amend
from recamlabel.core.arrays import from_uint8, map_histogram, resize_maps
from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.demo.scenes import SceneFolder, SceneSettings, make_scenes
from recamlabel.evaluation.calibration import calibrate_with_truth
from recamlabel.evaluation.seeds import THRESHOLDS, SeedSweep
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.masks.calibrate import LevelEvidence, best_level, calibrate, otsu_level
from recamlabel.run.fit import fit
from recamlabel.stages.calibration import LEVELS_FILE
from recamlabel.storage.hdf5 import class_ids, open_store
from recamlabel.storage.run_folder import RunFolder

SCENES = {
    "drawn scenes": SceneSettings(),
    "drawn, small objects": SceneSettings(seed=1, smallest=0.25, largest=0.5),
    "drawn, strong context": SceneSettings(
        seed=2, background_correlation=0.9, cooccurrence=0.8, object_counts=(0.4, 0.4, 0.2)
    ),
    "drawn, 4 classes, large, noisy": SceneSettings(seed=3, classes=4, smallest=0.6, largest=0.95, noise=0.05),
}
DRAWINGS = 10


@dataclass(frozen=True)
class Row:
    """Levels by rule, and the mIoU in percent at every level."""

    name: str
    levels: dict[str, float]
    curve: np.ndarray
    known: dict[str, float]
    interval: tuple[float, float]

    def at(self, level: float) -> float:
        """MIoU at a level."""
        return float(self.curve[int(np.argmin(np.abs(THRESHOLDS - level)))])


def miou_curve(run: RunFolder, truth_dir: Path) -> np.ndarray:
    """MIoU in percent at the 101 levels."""
    catalog = load_catalog(run.path / CATALOG_FILE)
    table = catalog.dataset.classes
    truth = TruthFolder(truth_dir, table)
    sweep = SeedSweep(len(table) + 1, table.ignore_id)
    with open_store(run.path / "work/scores.h5") as file:
        for name, path in truth.match(image.id for image in catalog.images).items():
            mask, item = truth.read(path, catalog.shapes[name]), file[f"scores/{name}"]
            sweep.update(mask, resize_maps(from_uint8(item[()]), *mask.shape), class_ids(item))
    return 100 * np.array([value for _, value in sweep.best().curve])


def measure(name: str, run: RunFolder, truth: Path) -> Row:
    """All rules on one run."""
    evidence = LevelEvidence.load(run.path / LEVELS_FILE)
    catalog = load_catalog(run.path / CATALOG_FILE)
    with open_store(run.path / "work/maps.h5") as maps:
        otsu = otsu_level([map_histogram(maps[f"recam/{image.id}"][()]) for image in catalog.images])
    chosen = calibrate(evidence)
    levels = {
        "correlation with the evidence (default)": chosen.threshold,
        "the same, not averaged over drawings": best_level(evidence.levels, evidence.criterion()),
        "evidence less area": best_level(evidence.levels, evidence.share() - evidence.covered()),
        "Otsu of the maps": otsu,
        "fixed 0.5": 0.5,
    }
    curve = miou_curve(run, truth)
    row = Row(name, levels, curve, {}, chosen.interval)
    for count in (5, 10, 20):
        costs = [
            curve.max() - row.at(calibrate_with_truth(run, truth, count, seed).threshold) for seed in range(DRAWINGS)
        ]
        row.known[f"{count} known masks"] = float(np.mean(costs))
    return row


def draw(out: Path, name: str, settings: SceneSettings) -> tuple[RunFolder, Path]:
    """Draw a data set and run `fit` on it, without a segmenter."""
    folder = out / name.replace(" ", "-").replace(",", "")
    scenes = SceneFolder(folder)
    if not scenes.labels.exists():
        scenes = make_scenes(folder, settings)
    config = amend(demo_config(settings.seed), ["segmenter.enabled=false"])
    return fit(scenes.labels, folder / "run", config), scenes.truth


def show(rows: list[Row]) -> None:
    """Two Markdown tables."""
    rules = list(rows[0].levels)
    print("| data | best level, mIoU |", " | ".join(rules), "|")
    print("|---" * (2 + len(rules)) + "|")
    for row in rows:
        best = int(np.nanargmax(row.curve))
        cells = [f"{level:.2f}, −{row.curve[best] - row.at(level):.1f}" for level in row.levels.values()]
        print(f"| {row.name} | {THRESHOLDS[best]:.2f}, {row.curve[best]:.1f} |", " | ".join(cells), "|")
    print()
    print("| data | interval of the default, 90 % |", " | ".join(rows[0].known), "(mean cost in mIoU) |")
    print("|---" * (2 + len(rows[0].known)) + "|")
    for row in rows:
        cells = [f"−{cost:.1f}" for cost in row.known.values()]
        print(f"| {row.name} | {row.interval[0]:.2f} to {row.interval[1]:.2f} |", " | ".join(cells), "|")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--run", type=Path, nargs=2, action="append", default=[], metavar=("RUN", "TRUTH"))
    arguments = parser.parse_args()
    rows = [measure(run.name, RunFolder.open(run), truth) for run, truth in arguments.run]
    if arguments.demo:
        if arguments.out is None:
            parser.error("--demo needs --out")
        for name, settings in SCENES.items():
            rows.append(measure(name, *draw(arguments.out, name, settings)))
    if not rows:
        parser.error("give --demo --out RUNS, or --run RUN TRUTH")
    show(rows)


if __name__ == "__main__":
    main()
