"""The MSRC-17 figures of docs/benchmarks.md: `fit` with the quick preset, then every score.

    python benchmarks/msrc.py FOLDER --out RUNS [--seeds 0 1 2] [--set section.key=value]…

FOLDER holds labels.csv, images/ and masks/. Only `evaluate` is given the masks. Prints mIoU of the
CAM and ReCAM seeds and the refined scores (each at its best threshold, chosen with the masks), of the
masks as `fit` leaves them, complete and without what is withheld, of the segmenter, and the seconds and peak
memory (of the main process) of every stage.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

from recamlabel.config import load_config
from recamlabel.evaluation.evaluate import evaluate_run
from recamlabel.evaluation.scoring import STAGE_OF, WHAT
from recamlabel.run.fit import fit
from recamlabel.storage.run_folder import RunFolder


def score(folder: Path, out: Path, seed: int, assignments: list[str]) -> dict[str, float]:
    """Run one seed and return its figures, percent and seconds."""
    fit(folder, out, load_config("quick", assignments=assignments, overrides={"seed": seed}))
    run = RunFolder.open(out)
    figures = {}
    for what in WHAT:
        # Nobody reviewed these.
        if what == "reviewed" or STAGE_OF[what] not in run.state.stages:
            continue
        result = evaluate_run(run, folder / "masks", what)
        figures[what] = result.miou
        level = "" if result.threshold is None else f" at {result.threshold:.2f} ({result.threshold_origin})"
        print(f"seed {seed}  {what:14s} {result.miou:5.1f} mIoU{level}")
        if what == "masks":
            covered, share = 100 * result.scores.miou_covered, 100 * result.scores.coverage
            figures["masks, what remains"], figures["masks, answered %"] = covered, share
            print(f"seed {seed}  what remains   {covered:5.1f} mIoU of {share:.1f} % of the pixels")
    for name, record in run.state.stages.items():
        figures |= {f"{name} s": float(record["seconds"]), f"{name} MB": float(record.get("peak_mb", math.nan))}
    return figures


def main() -> None:
    """Print one line a seed and figure, then means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    arguments = parser.parse_args()
    rows = [score(arguments.folder, arguments.out / f"seed{s}", s, arguments.assignments) for s in arguments.seeds]
    print(f"\n{'figure':14s}    mean  deviation  ({len(rows)} seeds)")
    for name in rows[0]:
        values = [row[name] for row in rows]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        print(f"{name:20s} {np.mean(values):7.1f}  {spread:9.1f}")


if __name__ == "__main__":
    main()
