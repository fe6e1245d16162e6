"""Are our numbers the published numbers?

Runs this package's functions on the inputs of golden files and compares with the outputs in them:

    python benchmarks/parity.py FILE.npz [FILE.npz ...]

A file may hold any subset of the groups described in docs/method.md (classifier and ReCAM,
affinity, random walk, CRF), of any sizes. Prints the largest absolute difference per output;
exits 1 if one is above 1e-4, a label map differs or a shape is another, 2 if a file compares nothing.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recamlabel.errors import MissingExtraError
from recamlabel.models.affinity import affinity_losses
from recamlabel.models.affinity_pairs import PairPaths, pair_affinity, pair_paths
from recamlabel.models.cam import class_activation, class_logits, normalise_by_max
from recamlabel.models.combine import combine_weights
from recamlabel.models.losses import masked_multilabel_loss
from recamlabel.models.reactivation import reactivated_features
from recamlabel.models.recam import softmax_reactivation_loss
from recamlabel.refine.crf import confident_seeds, crf_from_labels
from recamlabel.refine.random_walk import random_walk

TOLERANCE = 1e-4

Arrays = Mapping[str, NDArray[Any]]
Result = tuple[str, NDArray[Any]]


def classifier_outputs(golden: Arrays) -> Iterator[Result]:
    """Logits, normalised maps and the BCE loss (docs/method.md, 1)."""
    features, fc1 = (torch.from_numpy(golden[key]) for key in ("features", "fc1"))
    logits = class_logits(features, fc1)
    maps = normalise_by_max(class_activation(features, fc1))
    yield "logits", logits.numpy()
    yield "norm_cams", maps.numpy()
    yield "class_features", reactivated_features(features, maps).numpy()
    if "labels" in golden:
        yield "loss_bce", masked_multilabel_loss(logits, torch.from_numpy(golden["labels"])).numpy()


def recam_outputs(golden: Arrays) -> Iterator[Result]:
    """Softmax loss, accuracy, gradients of both losses' sum, and ReCAM maps (docs/method.md, 2)."""
    features, fc1, fc2 = (torch.from_numpy(golden[key]).requires_grad_() for key in ("features", "fc1", "fc2"))
    labels = torch.from_numpy(golden["labels"])
    loss, accuracy = softmax_reactivation_loss(features, fc1, fc2, labels)
    total = masked_multilabel_loss(class_logits(features, fc1), labels) + loss
    gradients = torch.autograd.grad(total, (features, fc1, fc2))
    yield "loss_sce", loss.detach().numpy()
    yield "sce_accuracy", accuracy.numpy()
    for name, gradient in zip(("features", "fc1", "fc2"), gradients, strict=True):
        yield f"grad_{name}", gradient.numpy()
    yield "recam_raw", class_activation(features, combine_weights(fc1, fc2, "product")).detach().numpy()


def affinity_outputs(golden: Arrays) -> Iterator[Result]:
    """Pair affinities and the affinity net's losses (docs/method.md, 4)."""
    paths = pair_paths(int(golden["irn_radius"]))
    edge, displacement = (torch.from_numpy(golden[key]) for key in ("irn_edge_logits", "irn_displacement"))
    if "irn_search_dst" in golden:
        yield "irn_affinity", _in_order(pair_affinity(edge.sigmoid(), paths), paths, golden["irn_search_dst"]).numpy()
    labels = torch.from_numpy(golden["irn_label"].astype(np.int64))
    for name, loss in affinity_losses(edge, displacement, labels, paths)._asdict().items():
        yield f"irn_loss_{name}", loss.numpy()


def _in_order(affinity: Tensor, paths: PairPaths, offsets: NDArray[Any]) -> Tensor:
    """The affinities in the order of the file's offsets, which is not ours."""
    wanted = [(int(dy), int(dx)) for dy, dx in offsets]
    if sorted(wanted) != sorted(paths.offsets):
        raise SystemExit(f"irn_search_dst holds other offsets than radius {paths.radius} has: {wanted}")
    return affinity[:, [paths.offsets.index(offset) for offset in wanted]]


def random_walk_outputs(golden: Arrays) -> Iterator[Result]:
    """The random walk (docs/method.md, 4)."""
    maps, edge = torch.from_numpy(golden["rw_cam"]), torch.from_numpy(golden["rw_edge"])
    size = maps.shape[-2:]
    walked = random_walk(
        maps.reshape(-1, *size),
        edge.reshape(size),
        radius=int(golden.get("rw_radius", np.array(5))),
        beta=float(golden.get("rw_beta", np.array(10))),
        log2_steps=int(golden.get("rw_exp_times", np.array(8))),
    )
    expected = golden.get("rw_out")
    yield "rw_out", walked.numpy() if expected is None else walked.reshape(expected.shape).numpy()


def crf_outputs(golden: Arrays) -> Iterator[Result]:
    """CRF labels at both background scores and the seeds they make (docs/method.md, 3)."""
    image, maps, keys = golden["crf_image"], golden["crf_cam"], golden["crf_keys"]
    for side, threshold in (("fg", 0.35), ("bg", 0.10)):
        floor = np.full((1, *maps.shape[1:]), threshold, dtype=maps.dtype)
        before = np.concatenate([floor, maps]).argmax(axis=0)
        yield f"crf_{side}_in", before
        yield f"crf_{side}_out", crf_from_labels(image, before, maps.shape[0] + 1)
    yield "ir_label", confident_seeds(image, maps, [int(key) for key in keys if key != 0])


GROUPS: dict[str, tuple[Callable[[Arrays], Iterator[Result]], tuple[str, ...]]] = {
    "classifier": (classifier_outputs, ("features", "fc1")),
    "recam": (recam_outputs, ("features", "fc1", "fc2", "labels")),
    "affinity": (affinity_outputs, ("irn_radius", "irn_edge_logits", "irn_displacement", "irn_label")),
    "random walk": (random_walk_outputs, ("rw_cam", "rw_edge")),
    "crf": (crf_outputs, ("crf_image", "crf_cam", "crf_keys")),
}


def compare(name: str, ours: NDArray[Any], expected: NDArray[Any]) -> bool:
    """Print one line; whether the output agrees."""
    if ours.shape != expected.shape:
        print(f"  {name:16s} shape {ours.shape}, expected {expected.shape}  FAIL")
        return False
    if np.issubdtype(expected.dtype, np.integer):
        wrong = int((ours.astype(np.int64) != expected.astype(np.int64)).sum())
        print(f"  {name:16s} {wrong} of {expected.size} labels differ  {'FAIL' if wrong else 'ok'}")
        return wrong == 0
    difference = np.abs(ours.astype(np.float64) - expected.astype(np.float64))
    largest = float(difference.max()) if difference.size else 0.0
    agrees = largest <= TOLERANCE  # NaN does not
    print(f"  {name:16s} largest difference {largest:.2e}  {'ok' if agrees else 'FAIL'}")
    return agrees


def check_file(path: Path) -> tuple[int, int]:
    """``(comparisons, failures)`` of one file."""
    with np.load(path, allow_pickle=False) as archive:
        golden = {key: archive[key] for key in archive.files}
    print(path)
    done = failed = 0
    for group, (outputs, needed) in GROUPS.items():
        missing = [key for key in needed if key not in golden]
        if missing:
            print(f"  {group}: skipped, the file has no {', '.join(missing)}")
            continue
        try:
            for name, ours in outputs(golden):
                if name in golden:
                    done += 1
                    failed += not compare(name, ours, golden[name])
        except MissingExtraError as error:
            print(f"  {group}: FAIL, {error}")
            done, failed = done + 1, failed + 1
    return done, failed


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Compare recamlabel with golden files; exit 1 where it differs.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.npz")
    bad: list[str] = []
    empty: list[str] = []
    for path in parser.parse_args().files:
        try:
            done, failed = check_file(path)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            print(f"{path}: cannot be read: {error}", file=sys.stderr)
            return 2
        print(f"  {done - failed} of {done} outputs agree within {TOLERANCE:g}")
        if failed:
            bad.append(str(path))
        elif not done:
            empty.append(str(path))
    if bad:
        print(f"FAIL: {', '.join(bad)}")
        return 1
    if empty:
        print(f"nothing to compare in {', '.join(empty)}")
        return 2
    print("parity: all agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())
