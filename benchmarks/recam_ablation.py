"""Why the published product rule fails on small data, and what pays instead.

    python benchmarks/recam_ablation.py FOLDER --out RUNS [--seeds 0 1 2]
    python benchmarks/recam_ablation.py --demo --out RUNS [--seeds 0 1 2]

FOLDER holds labels.csv, images/ and masks/. For each seed a classifier is trained (or found in RUNS), its
features of all images at all scales and flips are kept in memory (10 MB for a 320x213 image), and the
softmax head is trained many times on the class features of whole training images (not of crops, as `fit`
does) with the backbone frozen: seconds a row. Every row is scored on all images, at its best threshold,
chosen with the masks, on every second pixel of every second row. Prints Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recamlabel.cli.demo import DEMO_SETTINGS
from recamlabel.config import Config, load_config
from recamlabel.data.batches import Normalisation
from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.data.passes import batches_by_shape, read_ahead
from recamlabel.demo.scenes import SceneSettings, make_scenes
from recamlabel.evaluation.seeds import SeedSweep
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.maps.multiscale import stored_size
from recamlabel.models.combine import combine_weights, contrast
from recamlabel.models.inputs import Pixels, working_size
from recamlabel.models.reactivation import ClassVectors, class_vectors, label_masks
from recamlabel.models.recam import Competing, HeadInit, ReCamHead, vector_losses
from recamlabel.run.fit import fit
from recamlabel.stages.networks import load_classifier
from recamlabel.stages.view import CPU_MAP_PIXELS, View
from recamlabel.storage.run_folder import RunFolder

SCALES = (1.0, 0.5, 1.5, 2.0)
TRAINING_SCALES = 3  # the first ones, each with its mirror image
STEP = 2


@dataclass(frozen=True)
class Head:
    """One way to train FC2."""

    lr: float = 0.002
    steps: int = 300
    init: HeadInit = "zero"
    background: bool = True
    power: float = 4.0
    competing: Competing = "all"
    smoothing: float = 0.0
    percentile: float = 1.0


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    change: str
    rule: str
    head: Head = Head()
    weight: float = 1.5


@dataclass(frozen=True)
class Item:
    """One image: features ``(2, D, h, w) float16`` a scale (second one mirrored back), truth, labels."""

    features: list[Tensor]
    truth: np.ndarray
    labels: Tensor
    training: bool
    size: tuple[int, int]


def rows() -> list[Row]:
    """All rows; the default first."""
    base = Head()
    published = replace(base, background=False, init="random")
    plain = replace(base, background=False)
    return [
        Row("CAM (FC1)", "fc1"),
        Row("default: background class, FC2 from 0, lr 0.002, 300 steps", "contrast"),
        Row("contrast weight 0.5", "contrast", weight=0.5),
        Row("contrast weight 1", "contrast", weight=1.0),
        Row("contrast weight 2", "contrast", weight=2.0),
        *(Row(f"rule {rule}", rule) for rule in ("product", "relu_product", "fc2", "sum", "unit_sum")),
        *(
            Row("no background class", rule, plain)
            for rule in ("contrast", "product", "relu_product", "fc2", "unit_sum")
        ),
        *(
            Row(f"lr {lr:g}", rule, replace(base, lr=lr))
            for lr in (0.0005, 0.001, 0.005, 0.02, 0.05)
            for rule in ("contrast", "product")
        ),
        Row("as published: no background, FC2 random, lr 0.005", "product", replace(published, lr=0.005)),
        Row("as published, lr 0.05", "product", replace(published, lr=0.05)),
        *(Row(f"FC2 starts {init}", "contrast", replace(base, init=init)) for init in ("random", "copy")),
        *(Row(f"FC2 starts {init}", "product", replace(plain, init=init)) for init in ("random", "copy")),
        *(Row(f"{steps} steps", "contrast", replace(base, steps=steps)) for steps in (100, 1000)),
        *(Row(f"background power {power:g}", "contrast", replace(base, power=power)) for power in (1.0, 2.0)),
        *(Row(f"competing: {name}", "contrast", replace(base, competing=name)) for name in ("absent", "present")),
        Row("label smoothing 0.1", "contrast", replace(base, smoothing=0.1)),
        *(
            Row(f"masks over their {share:.0%} percentile", "contrast", replace(base, percentile=share))
            for share in (0.99, 0.95, 0.9)
        ),
    ]


@torch.no_grad()
def gather(run: RunFolder, masks: Path, config: Config) -> tuple[list[Item], Tensor]:
    """Keep all features of one seed's classifier."""
    catalog = load_catalog(run.path / CATALOG_FILE)
    context = View(run, catalog, config, torch.device("cpu"), declared=tuple(Config.model_fields))
    net = load_classifier(context).eval()
    net.to(memory_format=torch.channels_last)
    training = {image.id for image in catalog.training_images(config.data.train_splits)}
    truth = TruthFolder(masks, catalog.dataset.classes)
    files = truth.match([image.id for image in catalog.images])
    normalisation = Normalisation(net.backbone.mean, net.backbone.std)
    items = []
    for group, pixels in read_ahead(batches_by_shape(catalog, list(catalog.images), CPU_MAP_PIXELS)):
        size = (pixels[0].shape[0], pixels[0].shape[1])
        base = working_size(*size, config.maps.max_side)
        features = []
        for scale in SCALES:
            inputs = Pixels(pixels, normalisation, torch.device("cpu")).at(
                max(1, round(base[0] * scale)), max(1, round(base[1] * scale))
            )
            views = [
                net.backbone(view.contiguous(memory_format=torch.channels_last)) for view in (inputs, inputs.flip(-1))
            ]
            features.append(torch.stack([views[0], views[1].flip(-1)], dim=1).half())
        labels = torch.from_numpy(catalog.dataset.labels(group))
        for row, image in enumerate(group):
            known = truth.read(files[image.id], size)[::STEP, ::STEP]
            kept = [scale[row].clone() for scale in features]
            items.append(Item(kept, known, labels[row], image.id in training, stored_size(*size, config.maps)))
    return items, net.head.weight.detach().clone()


@torch.no_grad()
def vectors(items: Sequence[Item], fc1: Tensor, head: Head) -> ClassVectors:
    """Class features of all training views."""
    found = []
    for item in items:
        for scale in item.features[:TRAINING_SCALES] if item.training else ():
            features, labels = scale.float(), item.labels[None].repeat(2, 1)
            maps = None
            if head.percentile < 1:
                maps = label_masks(features, fc1, torch.arange(len(fc1)).repeat(2, 1))
                top = maps.flatten(2).quantile(head.percentile, dim=2)[..., None, None]
                maps = (maps / (top + 1e-5)).clamp(max=1)
            made = class_vectors(features, fc1, labels, maps=maps, background=head.background, power=head.power).pairs()
            found.append(made)
    return ClassVectors(*(torch.cat([getattr(one, name) for one in found]) for name in ClassVectors.__annotations__))


def train_head(found: ClassVectors, fc1: Tensor, head: Head) -> Tensor:
    """FC2 by full-batch SGD with momentum 0.9, weight decay 1e-4 and polynomial decay."""
    torch.manual_seed(0)
    net = ReCamHead(fc1.shape[0], fc1.shape[1], head.init, fc1, head.background)
    optimiser = torch.optim.SGD(net.parameters(), lr=head.lr, momentum=0.9, weight_decay=1e-4)
    for step in range(head.steps):
        optimiser.param_groups[0]["lr"] = head.lr * (1 - step / head.steps) ** 0.9
        scores = found.vectors @ net.weight.T
        losses = vector_losses(scores, found, label_smoothing=head.smoothing, competing=head.competing)
        optimiser.zero_grad()
        ((losses * found.share).sum() / found.share.sum()).backward()
        optimiser.step()
    return net.weight.detach()


@torch.no_grad()
def score(items: Sequence[Item], weights: Tensor) -> list[tuple[float, float]]:
    """mIoU (percent) and best threshold of each of the ``(R, K, D)`` weights."""
    sweeps = [SeedSweep(weights.shape[1] + 1, ignore_id=255) for _ in weights]
    for item in items:
        own = item.labels.clamp(min=0).nonzero()[:, 0]
        if not len(own):
            for sweep in sweeps:
                sweep.update(item.truth, np.zeros((0, *item.truth.shape), np.float32), [])
            continue
        rows = weights[:, own].flatten(0, 1)
        total = torch.zeros(1, len(rows), *item.size)
        for features in item.features:
            maps = torch.einsum("rd,fdhw->frhw", rows, features.float()).relu().sum(0, keepdim=True)
            total += F.interpolate(maps, item.size, mode="bilinear", align_corners=False)
        total = total / (total.amax((2, 3), keepdim=True) + 1e-5)
        maps = F.interpolate(total, item.truth.shape, mode="bilinear", align_corners=False)[0]
        per_rule = maps.view(len(weights), len(own), *item.truth.shape).numpy()
        for sweep, one in zip(sweeps, per_rule, strict=True):
            sweep.update(item.truth, one, (own + 1).tolist())
    bests = [sweep.best() for sweep in sweeps]
    return [(100 * best.counts.scores().miou, best.threshold) for best in bests]


def measure(folder: Path, masks: Path, out: Path, config: Config) -> list[tuple[float, float]]:
    """All rows of one seed."""
    items, fc1 = gather(fit(folder, out, config, until="classifier"), masks, config)
    cache: dict[tuple[bool, float, float], ClassVectors] = {}
    heads: dict[Head, Tensor] = {}
    weights = []
    for row in rows():
        kind = (row.head.background, row.head.power, row.head.percentile)
        if kind not in cache:
            cache[kind] = vectors(items, fc1, row.head)
        if row.head not in heads:
            heads[row.head] = train_head(cache[kind], fc1, row.head)
        fc2 = heads[row.head]
        weights.append(
            contrast(fc1, fc2, row.weight) if row.rule == "contrast" else combine_weights(fc1, fc2, row.rule)
        )
    return score(items, torch.stack(weights))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--demo", action="store_true", help="on generated scenes, other ones for each seed")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    if bool(arguments.folder) == arguments.demo:
        parser.error("give FOLDER or --demo")
    found = []
    for seed in arguments.seeds:
        folder, masks, settings = arguments.folder, None, {"seed": seed, "refine.method": "none"}
        if arguments.demo:
            scenes = make_scenes(Path(tempfile.mkdtemp(prefix="recamlabel-scenes-")), SceneSettings(seed=seed))
            folder, masks, settings = scenes.labels, scenes.truth, {**DEMO_SETTINGS, **settings}
        config = load_config("quick", overrides=settings)
        found.append(measure(folder, masks or folder / "masks", arguments.out / f"seed{seed}", config))
    print(f"| change | rule | mIoU, mean ± deviation of {len(found)} seeds | gain over CAM, lowest | best thresholds |")
    print("|---|---|---|---|---|")
    for number, row in enumerate(rows()):
        scores = [one[number][0] for one in found]
        gains = [one[number][0] - one[0][0] for one in found]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        thresholds = ", ".join(f"{one[number][1]:.2f}" for one in found)
        print(
            f"| {row.change} | {row.rule} | {statistics.mean(scores):.1f} ± {spread:.1f} "
            f"| {statistics.mean(gains):+.1f}, {min(gains):+.1f} | {thresholds} |"
        )


if __name__ == "__main__":
    main()
