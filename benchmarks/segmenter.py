"""Segmenters on the `val` split: trained on a run's masks, and the same network on the true masks of `train`.

    python benchmarks/segmenter.py RUN TRUTH --out DIR [--only true|pseudo] [--set segmenter.key=value]…

RUN is a finished run of `recamlabel fit` (its segmenter may be missing). For each source of masks a copy
of the run's classifier and masks is made below DIR, the segmenter is trained there exactly as `fit` trains
it, and scored on the images of `val`. The true masks go through no part of the product: the copy's masks
are replaced by them. Prints mIoU and the share of full supervision.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import h5py

from recamlabel.config import Config, config_from_tree
from recamlabel.core.devices import pick_device
from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.evaluation.confusion import ConfusionMatrix
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.segment.masks import smoothed_mask, smoothing
from recamlabel.stages.segmentation import load_predictor
from recamlabel.stages.segmenter import run_segmenter
from recamlabel.stages.view import View
from recamlabel.storage.decode import read_image
from recamlabel.storage.run_folder import RunFolder


def copy_run(source: Path, target: Path) -> RunFolder:
    """The files that the segmenter's training reads."""
    if not (target / "run.toml").exists():
        (target / "weights").mkdir(parents=True)
        for name in (CATALOG_FILE, "masks.h5", "weights/classifier.safetensors", "run.toml"):
            shutil.copyfile(source / name, target / name)
    return RunFolder.open(target)


def put_truth(run: RunFolder, truth: TruthFolder) -> None:
    """Replace the masks by the true ones, the quality by 1."""
    catalog = load_catalog(run.path / CATALOG_FILE)
    matched = truth.match(image.id for image in catalog.images)
    with h5py.File(run.path / "masks.h5", "r+") as file:
        for name, path in matched.items():
            file[name][...] = truth.read(path, catalog.shapes[name])
            file[name].attrs["quality"] = 1.0


def score(context: View, truth: TruthFolder, split: str) -> tuple[float, float]:
    """mIoU in percent on one split: of the masks as `fit` makes them, and without the CRF."""
    table, predictor = context.catalog.dataset.classes, load_predictor(context)
    images = [image for image in context.catalog.images if image.split == split]
    matched = truth.match(image.id for image in images)
    kernels = (smoothing(context.config.segmenter.predict), None)
    confusions = [ConfusionMatrix(len(table) + 1, table.ignore_id) for _ in kernels]
    for image in images:
        shape = context.catalog.shapes[image.id]
        pixels = read_image(image.path)
        found = predictor.probabilities([pixels])[0]
        true = truth.read(matched[image.id], shape)
        for crf, confusion in zip(kernels, confusions, strict=True):
            confusion.update(true, smoothed_mask(pixels, found, table.mask_dtype, crf, background=True))
    smoothed, plain = (100 * confusion.counts().scores().miou for confusion in confusions)
    return smoothed, plain


def main() -> None:
    """Print one line a source of masks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=("true", "pseudo"))
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    arguments = parser.parse_args()
    scores = {}
    for source in (arguments.only,) if arguments.only else ("pseudo", "true"):
        run = copy_run(arguments.run, arguments.out / source)
        tree = run.state.config
        for line in arguments.assignments:
            key, _, value = line.removeprefix("segmenter.").partition("=")
            tree["segmenter"][key] = type(tree["segmenter"][key])(value)
        config = config_from_tree(tree)
        catalog = load_catalog(run.path / CATALOG_FILE)
        truth = TruthFolder(arguments.truth, catalog.dataset.classes)
        if source == "true":
            put_truth(run, truth)
        context = View(
            run,
            catalog,
            config,
            pick_device(config.runtime.device),
            key=f"bench-{source}",
            declared=tuple(Config.model_fields),
        )
        began = time.monotonic()
        if not (run.path / "weights/segmenter.safetensors").exists():
            run_segmenter(context)
        seconds = time.monotonic() - began
        scores[source], plain = score(context, truth, "val")
        figures = f"{scores[source]:5.1f} mIoU on val, without the CRF {plain:.1f}"
        print(f"{source:7s} {figures}, trained in {seconds:.0f} s", flush=True)
    if len(scores) == 2:
        print(f"share of full supervision: {100 * scores['pseudo'] / scores['true']:.1f} %")


if __name__ == "__main__":
    main()
