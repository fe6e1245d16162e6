"""How well the quality score orders the masks: against the true IoU of every image.

    python benchmarks/quality.py RUN TRUTH [RUN TRUTH …]

The true per-image IoU is the mean over the classes of mask or truth; withheld pixels take no part (the score is
about what is claimed). Prints the Spearman correlation and the share of the worst fifth of the masks that is in the
first fifth of the review order, with the segmenter's agreement and without.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.masks.quality import read_scores
from recamlabel.storage.hdf5 import StoredArrays
from recamlabel.workspace import RunFolder


def image_iou(truth: np.ndarray, mask: np.ndarray, ignore_id: int) -> float:
    """Mean IoU of one image over the classes that are there or claimed; NaN if nothing can be said."""
    known = (truth != ignore_id) & (mask != ignore_id)
    truth, mask = truth[known], mask[known]
    values = []
    for number in np.union1d(truth, mask):
        one, two = truth == number, mask == number
        values.append((one & two).sum() / (one | two).sum())
    return float(np.mean(values)) if values else float("nan")


def measure(scores: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Spearman correlation, and share of the worst fifth found in the first fifth."""
    fifth = round(len(true) / 5)
    found = len(set(np.argsort(true)[:fifth]) & set(np.argsort(scores, kind="stable")[:fifth]))
    return float(spearmanr(scores, true).statistic), found / fifth


def main() -> None:
    """Print two lines a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, nargs="+", metavar="RUN TRUTH")
    pairs = parser.parse_args().pairs
    if len(pairs) % 2:
        parser.error("expected pairs of RUN and TRUTH")
    for run_path, truth_dir in zip(pairs[::2], pairs[1::2], strict=True):
        run = RunFolder.open(run_path)
        catalog = load_catalog(run.path / CATALOG_FILE)
        table, masks = catalog.dataset.classes, StoredArrays(run.path / "masks.h5")
        truth = TruthFolder(truth_dir, table)
        matched = truth.match(image.id for image in catalog.images)
        names = list(matched)
        true = np.array(
            [image_iou(truth.read(matched[n], catalog.shapes[n]), masks(n), table.ignore_id) for n in names]
        )
        final = json.loads((run.path / "quality.json").read_text())["images"]
        alone = read_scores(run.path)
        valid = ~np.isnan(true)
        for label, known in (("final", {n: final[n]["score"] for n in names}), ("masks alone", alone)):
            values = np.array([known[n] for n in names])
            rank, found = measure(values[valid], true[valid])
            text = f"Spearman {rank:.3f}  worst fifth found {found:.1%}  ({valid.sum()} images)"
            print(f"{run_path.name}  {label:12s} {text}")


if __name__ == "__main__":
    main()
