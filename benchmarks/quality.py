"""How well the quality score orders the masks: against the true IoU of every image.

    python benchmarks/quality.py RUN TRUTH [RUN TRUTH …]

The true per-image IoU is the mean over the classes of mask or truth. It is taken in two ways: of the mask as it is
left, where a withheld pixel is one that its class misses (a person has to draw it), and of the claimed pixels alone,
where it takes no part. Prints the Spearman correlation and the share of the worst fifth of the masks that is in the
first fifth of the review order, with the segmenter's support and without.

Both are printed for all images, and for those whose truth has a background pixel. Where the surroundings of an object
are void, nobody knows where it ends, and a single pixel of the mask that says background inside it gives the
background an IoU of 0, which halves the image's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from recamlabel.core.classes import BACKGROUND_ID
from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.masks.quality import read_scores
from recamlabel.storage.hdf5 import StoredArrays
from recamlabel.storage.run_folder import RunFolder


def image_iou(truth: np.ndarray, mask: np.ndarray, ignore_id: int, *, claimed: bool = True) -> float:
    """Mean IoU of one image over the classes that are there or claimed; NaN if nothing can be said.

    Args:
        truth, mask: ``(H, W)`` class ids.
        ignore_id: Unknown in the truth, withheld in the mask.
        claimed: Withheld pixels take no part; False: the classes miss them.
    """
    known = truth != ignore_id
    if claimed:
        known &= mask != ignore_id
    truth, mask = truth[known], mask[known]
    values = []
    for number in np.setdiff1d(np.union1d(truth, mask), ignore_id):
        one, two = truth == number, mask == number
        values.append((one & two).sum() / (one | two).sum())
    return float(np.mean(values)) if values else float("nan")


def measure(scores: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Spearman correlation, and share of the worst fifth found in the first fifth."""
    fifth = round(len(true) / 5)
    found = len(set(np.argsort(true)[:fifth]) & set(np.argsort(scores, kind="stable")[:fifth]))
    return float(spearmanr(scores, true).statistic), found / fifth


def main() -> None:
    """Print four lines a run, eight where some images have no background in the truth."""
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
        pairs_of = [(truth.read(matched[name], catalog.shapes[name]), masks(name)) for name in names]
        true = {
            what: np.array([image_iou(*pair, table.ignore_id, claimed=claimed) for pair in pairs_of])
            for what, claimed in (("as left", False), ("claimed", True))
        }
        everywhere = np.ones(len(names), dtype=bool)
        bordered = np.array([bool((one == BACKGROUND_ID).any()) for one, _ in pairs_of])
        void = np.array([float((one == table.ignore_id).mean()) for one, _ in pairs_of])
        if not bordered.all():
            worst = np.argsort(true["as left"])[: round(len(names) / 5)]  # NaN last
            print(
                f"{run_path.name}  no background in the truth: {(~bordered).sum()} of {len(names)} images, void "
                f"{void[~bordered].mean():.0%} of their pixels ({void[bordered].mean():.0%} of the others'); "
                f"of the worst {len(worst)} masks as left {(~bordered[worst]).sum()} are theirs"
            )
        sets = {"all": everywhere} if bordered.all() else {"all": everywhere, "background known": bordered}
        final = json.loads((run.path / "quality.json").read_text())["images"]
        alone = read_scores(run.path)
        for label, known in (("final", {n: final[n]["score"] for n in names}), ("masks alone", alone)):
            values = np.array([known[n] for n in names])
            for what, one in true.items():
                for which, taken in sets.items():
                    valid = taken & ~np.isnan(one)
                    rank, found = measure(values[valid], one[valid])
                    text = f"Spearman {rank:.3f}  worst fifth found {found:.1%}  ({valid.sum()} images, {which})"
                    print(f"{run_path.name}  {label:12s} {what:8s} {text}")


if __name__ == "__main__":
    main()
