"""One table a data set: every step from labels to masks, against true masks.

    python benchmarks/datasets.py FOLDER… [--runs DIR] [--seeds 0 1 2] [--set section.key=value]… [--until STAGE]

FOLDER holds ``labels.csv``, its images, ``masks/`` (PNG index masks named as the images) and, where the masks' ids
are not in the order of the names, ``classes.txt`` with the class names in id order. ``fit`` runs into
``DIR/<name>-seed<n>`` and continues what is there; ``--only-evaluate`` never fits. The masks are read by the
evaluation alone. Steps that are not there yet are shown as ``-``.

- *guessing loss*: what a classifier has that knows nothing but how often each class is labelled, the mean over the
  classes of the entropy H(p) of their shares among the training images (with `classifier.rare_weight` of the shares as
  they are weighted: compare these two losses with each other alone); *reached loss*: where the stage ended.
- *average precision*: mean over the classes that have one, on images outside the training splits where there are 30;
  the gate's is that of a linear model on the pretrained features, the classifier's that of the trained network.
- A level *with masks* is the best of 101, chosen with the true masks; the *automatic* one is what `fit` chose.
- *complete masks*: nothing withheld; *what remains*: withheld pixels take no part.
- *objects without a pixel*: pairs of an image and a class that its label names and its mask does not hold; *at a
  level of their own*: those of the others whose best region was kept although no pixel was above the level.
- *segmenter trained on the true masks* (``--limit``): the same segmenter and schedule, taught by the true masks of the
  training images in a copy of the run; what the pseudo masks could at most be worth.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from recamlabel.config import config_from_tree, load_config
from recamlabel.core.progress import say
from recamlabel.data.catalog import CATALOG_FILE, Catalog, load_catalog
from recamlabel.errors import RecamlabelError
from recamlabel.evaluation.evaluate import evaluate_run
from recamlabel.evaluation.scoring import Pairs, best_level, score_complete
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.masks.quality import read_quality
from recamlabel.masks.rescue import KEPT_IDS
from recamlabel.models.losses import rare_class_weights
from recamlabel.run.fit import fit
from recamlabel.stages import GRAPH
from recamlabel.storage.hdf5 import StoredArrays
from recamlabel.storage.places import placed
from recamlabel.storage.run_folder import RunFolder
from recamlabel.training.watch import label_entropy

MISSING = "-"


@dataclass(frozen=True)
class Figure:
    """One cell: a value (NaN: not there), its decimals, and what stands behind it."""

    value: float
    digits: int = 1
    note: str = ""

    def __str__(self) -> str:
        if math.isnan(self.value):
            return MISSING
        return f"{self.value:.{self.digits}f}" + (f" {self.note}" if self.note else "")


NOTHING = Figure(math.nan)
Row = tuple[str, Figure]


@dataclass
class Measured:
    """What the rows of one run are computed from; steps that are not finished give no figure."""

    run: RunFolder
    folder: Path
    catalog: Catalog = field(init=False)
    levels: list[float] = field(default_factory=list)
    limit: bool = False

    def __post_init__(self) -> None:
        self.catalog = load_catalog(self.run.path / CATALOG_FILE)
        names = self.folder / "classes.txt"
        self.names_file = names if names.is_file() else None
        self.masks_dir = self.folder / "masks"
        truth = TruthFolder(self.masks_dir, self.catalog.dataset.classes, self.names_file)
        matched = truth.match(image.id for image in self.catalog.images)
        self.pairs = Pairs(truth, matched, self.catalog.shapes, "step")

    def record(self, stage: str) -> dict[str, Any]:
        """What ``run.toml`` says of a finished stage; empty if it is not finished."""
        return self.run.state.stages.get(stage, {}) if self.run.stage_state(stage) == "finished" else {}

    def rows(self) -> Iterator[Row]:
        """All rows, in the order of the pipeline."""
        yield from self.classifier()
        source = str(self.run.state.config.get("refine", {}).get("source", "recam"))
        yield "CAM, level with masks", self.soft("maps", "work/maps.h5", "cam")
        yield "ReCAM, level with masks", self.soft("maps", "work/maps.h5", "recam")
        yield "ReCAM against CAM, the class that loses most", self.worst_class("cam", "recam")
        yield "finer maps, level with masks", self.soft("fine", "work/fine.h5", source)
        yield "local maps, level with masks", self.local()
        yield "joined with the local maps, level with masks", self.soft("joined", "work/joined.h5", source)
        yield "joined with the probe, level with masks", self.soft("probe", "work/fused.h5", source)
        yield "refined scores, level with masks", self.soft("refine", "work/scores.h5", "scores")
        yield from self.masks()
        yield from self.objects()
        yield "normal images on which the segmenter fires", self.normal()
        yield "segmenter on val", self.segmenter()
        if self.limit:
            yield "segmenter trained on the true masks, on val", self.limit_segmenter()
        done = [stage for stage in GRAPH.names if self.record(stage) and stage != "dataset"]
        for stage in done:
            yield f"seconds: {stage}", Figure(float(self.record(stage)["seconds"]))
        yield "seconds: all", Figure(sum(float(self.record(stage)["seconds"]) for stage in done))

    def classifier(self) -> Iterator[Row]:
        """Losses and average precisions."""
        record = self.record("classifier")
        guess = float(record.get("guess", self.guessing_loss()))
        yield "classifier: guessing loss", Figure(guess, 3)
        steps = [event for event in self.run.events() if (event.get("stage"), event.get("event")) == CLASSIFIER_STEP]
        reached = record.get("reached", record.get("loss", steps[-1].get("loss") if steps else None))
        note = "" if record else f"(not finished, step {steps[-1]['step']})" if steps else ""
        yield "classifier: reached loss", NOTHING if reached is None else Figure(float(reached), 3, note)
        yield "classifier: restarts", number(record.get("restarts"), 0)
        note = f"({record['ap_on']})" if "ap_on" in record else "(training images, out of fold)"
        yield "gate: average precision", number(record.get("gate_ap", self.gate_precision()), 3, note)
        yield "classifier: average precision on the same", number(record.get("ap"), 3)

    def guessing_loss(self) -> float:
        """What the classifier's loss is compared with, where no record says it yet."""
        config = self.run.state.config
        labels = self.catalog.dataset.labels(self.catalog.training_images(config["data"]["train_splits"]))
        return label_entropy(labels, rare_class_weights(labels, config["classifier"].get("rare_weight", 1.0)))

    def gate(self) -> list[dict[str, Any]]:
        """The gate's findings, a class each."""
        if not self.record("gate"):
            return []
        text = placed(self.run.path / "work/gate.json").read_text(encoding="utf-8")
        classes: list[dict[str, Any]] = json.loads(text)["classes"]
        return classes

    def gate_precision(self) -> float | None:
        """Mean over the classes that have an average precision."""
        known = [one["ap"] for one in self.gate() if one["ap"] is not None]
        return float(np.mean(known)) if known else None

    def soft(self, stage: str, file: str, group: str) -> Figure:
        """MIoU of maps or scores at the level that the true masks like best."""
        if not self.record(stage):
            return NOTHING
        best = best_level(self.run.path / file, group, self.catalog, self.pairs)
        if stage == "refine":
            self.levels.append(best.threshold)
        return Figure(100 * best.counts.scores().miou, note=f"at {best.threshold:.2f}")

    def local(self) -> Figure:
        """MIoU of the local maps, where they take part."""
        if not self.record("local").get("admitted"):
            return NOTHING
        side = Figure(float(self.record("local")["side"]), 0)
        best = best_level(self.run.path / "work/local.h5", "local", self.catalog, self.pairs)
        return Figure(100 * best.counts.scores().miou, note=f"at {best.threshold:.2f}, inputs of {side} pixels")

    def worst_class(self, before: str, after: str) -> Figure:
        """The largest loss of any class's IoU between two groups of maps, each at its best level, in points."""
        if not self.record("maps"):
            return NOTHING
        one, other = (
            best_level(self.run.path / "work/maps.h5", group, self.catalog, self.pairs).counts.scores().iou[1:]
            for group in (before, after)
        )
        changes = 100 * np.nan_to_num(other - one)
        worst = int(changes.argmin())
        return Figure(float(changes[worst]), note=f"({self.catalog.dataset.classes.names[worst]})")

    def normal(self) -> Figure:
        """From ``quality.json``."""
        path = self.run.path / "quality.json"
        tree = json.loads(path.read_text(encoding="utf-8")) if self.record("segmentation") and path.is_file() else {}
        normal = tree.get("normal") or {}
        if not normal.get("images"):
            return NOTHING
        return Figure(len(normal["fires"]), 0, f"of {normal['images']}")

    def limit_segmenter(self) -> Figure:
        """MIoU on ``val`` of the run's segmenter trained on the true masks, in a copy of the run beside it."""
        if not self.record("segmentation") or "val" not in self.catalog.dataset.splits:
            return NOTHING
        copy = self.run.path.with_name(f"{self.run.path.name}-limit")
        if not placed(copy / CATALOG_FILE).is_file():
            shutil.copytree(self.run.path, copy)
            with_true_masks(RunFolder.open(copy), self.pairs)
        taught = RunFolder.open(copy)
        if taught.stage_state("segmentation") != "finished":
            taught = fit(self.folder / "labels.csv", copy, config_from_tree(taught.state.config), "segmentation")
        return Figure(evaluate_run(taught, self.masks_dir, "segmenter", "val", self.names_file).miou)

    def masks(self) -> Iterator[Row]:
        """Masks at the automatic level, complete and as they are left."""
        names = (
            "level, automatic",
            "complete masks, automatic level",
            "what remains",
            "withheld, % of the true pixels",
        )
        if not self.record("masks"):
            yield from ((name, NOTHING) for name in names)
            return
        outcome = score_complete(self.run, self.catalog, self.pairs)
        left = evaluate_run(self.run, self.masks_dir, "masks", truth_classes=self.names_file).scores
        level = Figure(float(outcome.threshold or 0), 2, f"(with masks {self.levels[0]:.2f})" if self.levels else "")
        values = (Figure(100 * outcome.counts.scores().miou), Figure(100 * left.miou_covered))
        yield from zip(names, (level, *values, Figure(100 * (1 - left.coverage))), strict=True)

    def objects(self) -> Iterator[Row]:
        """Labelled objects without a pixel, of all classes and of those that the gate trusts."""
        trusted = {one["name"] for one in self.gate() if one["verdict"] == "ok"}
        kinds = ("objects without a pixel", "objects without a pixel, classes that the gate trusts")
        if not self.record("masks"):
            yield from ((kind, NOTHING) for kind in kinds)
            return
        table, read = self.catalog.dataset.classes, StoredArrays(self.run.path / "masks.h5")
        found, quality = [], read_quality(self.run.path)
        for image in self.catalog.images:
            if image.present:
                there = set(np.unique(read(image.id)).tolist())
                found += [(name, table.id_of(name) not in there) for name in image.present]
        for kind, chosen in zip(kinds, (found, [pair for pair in found if pair[0] in trusted]), strict=True):
            yield kind, Figure(sum(missing for _, missing in chosen), 0, f"of {len(chosen)}") if chosen else NOTHING
        yield "objects at a level of their own", Figure(sum(len(one.kept) for one in quality.values()), 0)

    def segmenter(self) -> Figure:
        """MIoU of the segmenter on the split ``val``, which it was not trained on."""
        if not self.record("segmentation") or "val" not in self.catalog.dataset.splits:
            return NOTHING
        return Figure(evaluate_run(self.run, self.masks_dir, "segmenter", "val", self.names_file).miou)


def with_true_masks(copy: RunFolder, pairs: Pairs) -> None:
    """Put the true masks in the place of a copied run's, and forget what was made of those."""
    with h5py.File(copy.path / "masks.h5", "r+") as file:
        for image_id, truth in pairs:
            dtype, attributes = file[image_id].dtype, dict(file[image_id].attrs)
            del file[image_id]
            made = file.create_dataset(image_id, data=truth.astype(dtype), compression="gzip", compression_opts=1)
            made.attrs.update(attributes | {KEPT_IDS: np.zeros(0, dtype=np.int32)})
    for stage in ("segmenter", "segmentation", "quality"):
        copy.state.stages.pop(stage, None)
    for name in ("weights/segmenter.safetensors", "segmenter.h5", "quality.json"):
        (copy.path / name).unlink(missing_ok=True)
    copy.save()


CLASSIFIER_STEP = ("classifier", "step")


def number(value: Any, digits: int, note: str = "") -> Figure:
    """A figure of a value that may not be there."""
    return NOTHING if value is None else Figure(float(value), digits, note)


def one_run(folder: Path, out: Path, seed: int, arguments: argparse.Namespace) -> tuple[dict[str, Figure], str]:
    """Fit if asked to, then measure; the second value says what stopped the fit."""
    problem = ""
    if not arguments.only_evaluate:
        config = load_config(arguments.preset, assignments=arguments.assignments, overrides={"seed": seed})
        try:
            fit(folder / "labels.csv", out, config, arguments.until)
        except RecamlabelError as error:
            problem = f"{out}: {error}"
            say(problem)
    if not placed(out / CATALOG_FILE).is_file():
        return {}, problem or f"{out}: no run"
    return dict(Measured(RunFolder.open(out), folder, limit=arguments.limit).rows()), problem


def mean(figures: list[Figure]) -> str:
    """Mean and, of several, standard deviation."""
    values = [figure.value for figure in figures if not math.isnan(figure.value)]
    if not values:
        return MISSING
    digits = max(figure.digits for figure in figures)
    spread = f" ± {np.std(values, ddof=1):.{max(digits, 1)}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{max(digits, 1)}f}{spread}"


def lines(head: list[str], rows: list[list[str]], markdown: bool) -> Iterator[str]:
    """A table, the first column to the left."""
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    pad: list[Callable[[str, int], str]] = [str.ljust, *[str.rjust] * (len(head) - 1)]
    for at, row in enumerate([head, *rows]):
        cells = [fill(text, width) for fill, text, width in zip(pad, row, widths, strict=True)]
        yield f"| {' | '.join(cells)} |" if markdown else "  ".join(cells).rstrip()
        if markdown and at == 0:
            yield "|---|" + "---:|" * (len(head) - 1)


def show(folder: Path, seeds: list[int], runs: list[dict[str, Figure]], markdown: bool) -> None:
    """One table: a row a step, a column a seed, the mean at the end."""
    names = list(dict.fromkeys(name for run in runs for name in run))
    several = len(seeds) > 1
    rows = []
    for name in names:
        figures = [run.get(name, NOTHING) for run in runs]
        rows.append([name, *map(str, figures), *([mean(figures)] if several else [])])
    title = folder.resolve().name
    print(f"\n### {title}\n" if markdown else f"\n{title}")
    head = [title, *(f"seed {seed}" for seed in seeds), *(["mean"] if several else [])]
    print("\n".join(lines(head, rows, markdown)), flush=True)


def main(argv: list[str] | None = None) -> int:
    """Print the tables; 1 where a fit stopped or a run is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--runs", type=Path, default=Path("runs/datasets"), metavar="DIR")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--until", choices=GRAPH.names, metavar="STAGE", help=f"last stage: {', '.join(GRAPH.names[1:])}"
    )
    parser.add_argument("--only-evaluate", action="store_true", help="never fit")
    parser.add_argument(
        "--limit", action="store_true", help="train the segmenter on the true masks too, in a copy DIR/<name>-limit"
    )
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args(argv)
    problems = []
    for folder in arguments.folders:
        runs = []
        for seed in arguments.seeds:
            out = arguments.runs / f"{folder.resolve().name}-seed{seed}"
            figures, problem = one_run(folder, out, seed, arguments)
            runs.append(figures)
            problems += [problem] if problem else []
        show(folder, arguments.seeds, runs, arguments.markdown)
    for problem in problems:
        print(f"stopped: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
