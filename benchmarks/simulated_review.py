"""A simulated reviewer: the first tenth of the review queue corrected with the true masks, against a tenth at random.

    python benchmarks/simulated_review.py RUN TRUTH [RUN TRUTH …] [--share 0.1] [--next-round OUT]

RUN is a finished run, TRUTH its true masks, which play the reviewer's brush. Prints the mIoU of all masks before,
after correcting the queue's first images, and after correcting as many at random (mean and deviation of ten draws);
withheld pixels count as wrong, and, in brackets, are left out. With --next-round, `fit --with-review` runs in copies
of the runs below OUT, once for each choice, and the segmenter is scored on `val` before and after.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np

from recamlabel.data.catalog import CATALOG_FILE, Catalog, load_catalog
from recamlabel.evaluation.confusion import ConfusionMatrix, Scores
from recamlabel.evaluation.evaluate import evaluate_run
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.masks.reviewed import Decision, ReviewFolder
from recamlabel.run.review_round import fit_with_review
from recamlabel.storage.hdf5 import StoredArrays
from recamlabel.storage.run_folder import RunFolder

DRAWS = 10


class Masks:
    """True and pseudo masks of a run, one confusion matrix an image."""

    def __init__(self, run: RunFolder, truth: TruthFolder, catalog: Catalog) -> None:
        self.truth, self.catalog = truth, catalog
        self.table = catalog.dataset.classes
        self.paths = truth.match(image.id for image in catalog.images)
        pseudo = StoredArrays(run.path / "masks.h5")
        self.before, self.after = {}, {}
        for name in self.paths:
            true = self.true(name)
            self.before[name] = self._counts(true, pseudo(name))
            self.after[name] = self._counts(true, true)

    def true(self, name: str) -> np.ndarray:
        """The true mask of an image."""
        return self.truth.read(self.paths[name], self.catalog.shapes[name])

    def _counts(self, true: np.ndarray, mask: np.ndarray) -> np.ndarray:
        confusion = ConfusionMatrix(len(self.table) + 1, self.table.ignore_id)
        confusion.update(true, mask)
        return confusion.matrix

    def scores(self, corrected: Collection[str]) -> Scores:
        """Scores of all masks where some are the true ones."""
        confusion = ConfusionMatrix(len(self.table) + 1, self.table.ignore_id)
        chosen = set(corrected)
        confusion.matrix = sum((self.after if name in chosen else self.before)[name] for name in self.paths)
        return confusion.scores()


def text(scores: Scores) -> str:
    """MIoU, and in brackets of what remains."""
    return f"{100 * scores.miou:5.1f} ({100 * scores.miou_covered:5.1f})"


def next_round(run: Path, truth_dir: Path, out: Path, masks: Masks, names: list[str]) -> str:
    """Correct ``names`` in a copy of the run, run the next round, score it."""
    if not out.exists():
        shutil.copytree(run, out)
        key = RunFolder.open(out).key_of("masks")
        decisions = [Decision(name, "accepted", painted=True, source="simulated", masks_key=key) for name in names]
        dtype = masks.table.mask_dtype
        ignore_id = masks.table.ignore_id
        ReviewFolder(out).add(decisions, {name: masks.true(name).astype(dtype) for name in names}, ignore_id)
    after = fit_with_review(out)
    whole = evaluate_run(after, truth_dir, "complete-masks")
    val = evaluate_run(after, truth_dir, "segmenter", "val")
    return f"pseudo masks {whole.miou:.1f} at level {whole.threshold:.2f}, segmenter on val {val.miou:.1f}"


def main() -> None:
    """Print the figures of every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, nargs="+", metavar="RUN TRUTH")
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--next-round", type=Path, metavar="OUT")
    parser.add_argument("--choices", nargs="+", choices=("queue", "random"), default=["queue", "random"])
    arguments = parser.parse_args()
    pairs = arguments.pairs
    if len(pairs) % 2:
        parser.error("expected pairs of RUN and TRUTH")
    for path, truth_dir in zip(pairs[::2], pairs[1::2], strict=True):
        run = RunFolder.open(path)
        catalog = load_catalog(path / CATALOG_FILE)
        masks = Masks(run, TruthFolder(truth_dir, catalog.dataset.classes), catalog)
        order = [name for name in json.loads((path / "quality.json").read_text())["order"] if name in masks.paths]
        count = round(arguments.share * len(order))
        draws = [list(np.random.default_rng(seed).permutation(order)[:count]) for seed in range(DRAWS)]
        random = [masks.scores(draw) for draw in draws]
        values = [100 * scores.miou for scores in random]
        print(f"{path.name}: {count} of {len(order)} images; mIoU %, of what remains in brackets")
        print(f"  before             {text(masks.scores([]))}")
        print(f"  first of the queue {text(masks.scores(order[:count]))}")
        covered = np.mean([100 * scores.miou_covered for scores in random])
        print(f"  at random          {np.mean(values):5.1f} ({covered:5.1f}), deviation {np.std(values, ddof=1):.1f}")
        if arguments.next_round:
            before = evaluate_run(run, truth_dir, "segmenter", "val")
            print(f"  segmenter on val before: {before.miou:.1f}")
            chosen = {"queue": order[:count], "random": draws[0]}
            for label, names in ((label, chosen[label]) for label in arguments.choices):
                out = arguments.next_round / f"{path.name}-{label}"
                print(f"  next round, {label}: {next_round(path, truth_dir, out, masks, names)}", flush=True)


if __name__ == "__main__":
    main()
