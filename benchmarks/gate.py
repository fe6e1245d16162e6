"""What the gate says of a data set, how long it takes, and how many injected wrong labels it finds.

    python benchmarks/gate.py FOLDER --out RUN [--draws 5] [--labels 30]

The stage runs as in ``fit``, which stops after it. Then, in each draw, ``--labels`` present labels are
removed and as many added at random, and the gate judges the altered labels from the same features.
No mask is read.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import h5py
import numpy as np

from recamlabel.config import load_config
from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.gate.gate import Gate, assess
from recamlabel.run.fit import fit


def altered(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels with ``count`` present ones removed and ``count`` added; rows and columns of both."""
    rng = np.random.default_rng(seed)
    removed, added = (rng.permutation(np.argwhere(labels == value))[:count] for value in (1, 0))
    noisy = labels.copy()
    noisy[tuple(removed.T)], noisy[tuple(added.T)] = 0, 1
    return noisy, removed, added


def main() -> None:
    """Print the verdicts, the seconds and the shares found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--labels", type=int, default=30)
    arguments = parser.parse_args()
    config = load_config("quick")
    run = fit(arguments.source, arguments.out, config, until="gate")
    for one in run.metrics()["gate"]["classes"]:
        precision = "–" if one["ap"] is None else f"{one['ap']:.2f}"
        verdict = ": ".join([one["verdict"], *filter(None, ["; ".join(one["reasons"])])])
        print(f"{one['name']:20} {one['positives']:5} images  AP {precision}  {verdict}")
    print(f"stage: {run.state.stages['gate']['seconds']} s for {run.state.dataset['images']} images")

    catalog = load_catalog(run.path / CATALOG_FILE)
    ids, names = [image.id for image in catalog.images], catalog.dataset.classes.names
    training = {image.id for image in catalog.training_images(config.data.train_splits)}
    inside = np.array([image_id in training for image_id in ids])
    with h5py.File(run.path / "work/features.h5") as file:
        features = np.stack([file[image_id][()] for image_id in ids])

    def judge(labels: np.ndarray) -> Gate:
        return assess(features, labels, inside, ids, names, config.gate)

    began = time.monotonic()
    found = []
    for seed in range(arguments.draws):
        noisy, removed, added = altered(catalog.dataset.labels(), arguments.labels, seed)
        gate = judge(noisy)
        doubtful, missing = ({(one.image, one.name) for one in listed} for listed in (gate.doubtful, gate.missing))
        hits = [
            sum((ids[row], names[column]) in listed for row, column in rows)
            for rows, listed in ((added, doubtful), (removed, missing))
        ]
        found.append([hits[0], len(doubtful), hits[1], len(missing)])
    mean = np.mean(found, axis=0)
    print(
        f"injected, mean of {arguments.draws} draws: {mean[0]:.1f} of {arguments.labels} added labels among "
        f"{mean[1]:.1f} that never fire; {mean[2]:.1f} of {arguments.labels} removed labels among {mean[3]:.1f} "
        f"missing ({(time.monotonic() - began) / arguments.draws:.1f} s a draw)"
    )


if __name__ == "__main__":
    main()
