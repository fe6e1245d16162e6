"""The work of each stage: read the inputs from the run folder, call the library, write the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recamlabel import __version__
from recamlabel.config import Config, ScheduleConfig
from recamlabel.data.batches import Normalisation, SeedReader, TrainingBatches
from recamlabel.data.catalog import Catalog
from recamlabel.maps.base import get_variant
from recamlabel.maps.build import build_maps
from recamlabel.maps.multiscale import MapNet
from recamlabel.masks.render import render_masks
from recamlabel.models.backbones import Backbone
from recamlabel.progress import say, track
from recamlabel.refine import seed_crf, walks
from recamlabel.refine.build import build_scores
from recamlabel.refine.edges import EdgeWalk, build_edges
from recamlabel.refine.seeds import SeedRule, SeedStore, build_seeds
from recamlabel.storage.hdf5 import ShardedWriter, open_store
from recamlabel.training.loop import LoopSettings, Objective, to_device, train
from recamlabel.training.objectives.affinity import AffinityFeatures, AffinityObjective
from recamlabel.training.objectives.classifier import ClassifierNet, ClassifierObjective
from recamlabel.training.objectives.recam import RecamNet, RecamObjective
from recamlabel.training.weights import load_backbone_weights, load_strict, read_weights, save_weights
from recamlabel.workspace import RunFolder, stage_key

CLASSIFIER_WEIGHTS = "weights/classifier.safetensors"
RECAM_WEIGHTS = "weights/recam.safetensors"
AFFINITY_WEIGHTS = "weights/affinity.safetensors"
MEAN_BATCHES = 25
# Its own stream of chance: the other stages use 2 * seed and 2 * seed + 1.
AFFINITY_OFFSET = 1 << 32
CPU_MAP_PIXELS = 300_000
CUDA_MAP_PIXELS = 4_000_000


@dataclass(frozen=True)
class StageContext:
    """What every stage gets."""

    run: RunFolder
    catalog: Catalog
    config: Config
    device: torch.device
    key: str = ""

    @property
    def workers(self) -> int:
        """Worker processes for this machine."""
        return self.config.runtime.worker_count()

    @property
    def batch_pixels(self) -> int:
        """Pixels of one batch where no gradient is needed."""
        return CUDA_MAP_PIXELS if self.device.type == "cuda" else CPU_MAP_PIXELS

    def provenance(self) -> dict[str, Any]:
        """Root attributes of every HDF5 file that a stage writes."""
        return {
            "software": f"recamlabel {__version__}",
            "stage_key": self.key,
            "class_names": list(self.catalog.dataset.classes.names),
            "dataset_fingerprint": self.catalog.fingerprint(),
            "config": self.config.model_dump(mode="json"),
        }


def run_classifier(context: StageContext) -> Mapping[str, Any]:
    """Train the classifier from ImageNet weights."""
    config = context.config
    torch.manual_seed(config.seed)
    net = _new_classifier(context)
    load_backbone_weights(net.backbone, config.backbone.weights)
    batches = _batches(context, config.classifier, net.backbone, offset=0)
    last = _train(context, ClassifierObjective(net, config.classifier), batches, config.classifier)
    _save(context, CLASSIFIER_WEIGHTS, net)
    return last


def run_recam(context: StageContext) -> Mapping[str, Any]:
    """Re-activate from the converged classifier."""
    torch.manual_seed(context.config.seed + 1)
    net = RecamNet(load_classifier(context), context.config.recam)
    batches = _batches(context, context.config.recam, net.classifier.backbone, offset=1)
    last = _train(context, RecamObjective(net, context.config.recam), batches, context.config.recam)
    _save(context, RECAM_WEIGHTS, net)
    return last


def run_maps(context: StageContext) -> Mapping[str, Any]:
    """Maps of the classifier (``cam``) and of the re-activated network (``recam``)."""
    config = context.config
    nets = _map_nets(context)
    attributes = {
        **context.provenance(),
        "model_keys": {name: context.run.key_of(name) for name in ("classifier", "recam")},
    }
    total = len(context.catalog.images)
    with ShardedWriter(context.run.path / "maps.h5", context.key, attributes) as writer:
        with track("maps", total, start=len(writer.done)) as advance:
            amp, pixels = config.runtime.amp, context.batch_pixels
            build_maps(context.catalog, nets, config.maps, writer, advance, amp=amp, max_pixels=pixels)
        writer.finish()
    return {}


def _map_nets(context: StageContext) -> list[MapNet]:
    """One network with both heads where the re-activation left the backbone as it was, else two."""
    classifier, recam = load_classifier(context), load_recam(context)
    to_device(classifier, context.device).eval()
    to_device(recam, context.device).eval()
    variant = get_variant(context.config.maps.variant)
    first = {"cam": classifier.head.weight.detach()}
    second = {"recam": recam.map_weight().detach()}
    if context.config.recam.backbone_lr_factor == 0:
        return [MapNet(classifier.backbone, first | second, variant)]
    return [MapNet(classifier.backbone, first, variant), MapNet(recam.classifier.backbone, second, variant)]


def run_affinity(context: StageContext) -> Mapping[str, Any]:
    """Confident seeds of the training images, then the affinity net that learns from them."""
    config = context.config.affinity
    _make_seeds(context)
    torch.manual_seed(context.config.seed + 2)
    net = _new_affinity(context)
    ignore_id = context.catalog.dataset.classes.ignore_id
    seeds = SeedStore(context.run.path / "seeds.h5")
    batches = _batches(context, config, net.backbone, offset=AFFINITY_OFFSET, seeds=seeds)
    last = _train(context, AffinityObjective(net, config, ignore_id), batches, config)
    few = (batches[step].to(context.device).images for step in range(min(MEAN_BATCHES, len(batches))))
    net.head.measure_displacement_mean(net.features(images) for images in few)
    _save(context, AFFINITY_WEIGHTS, net.head)
    return last


def _make_seeds(context: StageContext) -> None:
    """``seeds.h5``, unless it is there for the same rule and maps: another schedule needs no other seeds."""
    config, refine = context.config.affinity, context.config.refine
    table = context.catalog.dataset.classes
    rule = SeedRule(config.fg_level, config.bg_level, refine.max_side, seed_crf(refine), table.ignore_id)
    images = context.catalog.training_images(context.config.data.train_splits)
    inputs = {"maps": context.run.key_of("maps"), "images": context.catalog.fingerprint(images)}
    key = stage_key("seeds", 1, [rule.settings(), refine.source], inputs)
    path = context.run.path / "seeds.h5"
    if path.exists():
        with open_store(path) as file:
            if file.attrs.get("stage_key") == key:
                return
    if rule.crf is None:
        say("affinity: seeds are made from the maps' levels alone, because pydensecrf2 is not installed")
    with (
        ShardedWriter(path, key, {**context.provenance(), "stage_key": key}) as writer,
        open_store(context.run.path / "maps.h5") as maps,
    ):
        with track("seeds", len(images), start=len(writer.done)) as advance:
            build_seeds(images, table, maps[refine.source], rule, writer, advance, context.workers)
        writer.finish()


def run_edges(context: StageContext) -> Mapping[str, Any]:
    """Boundary probabilities of every image."""
    config = context.config
    net = _new_affinity(context)
    path = context.run.path / AFFINITY_WEIGHTS
    load_strict(net.head, read_weights(path), origin=str(path))
    to_device(net.head, context.device).eval()
    attributes = {**context.provenance(), "model_keys": {"affinity": context.run.key_of("affinity")}}
    total = len(context.catalog.images)
    with ShardedWriter(context.run.path / "edges.h5", context.key, attributes) as writer:
        with track("edges", total, start=len(writer.done)) as advance:
            amp, pixels = config.runtime.amp, context.batch_pixels
            build_edges(context.catalog, net, config.maps, writer, advance, amp=amp, max_pixels=pixels)
        writer.finish()
    return {}


def _new_affinity(context: StageContext) -> AffinityFeatures:
    """A backbone with its ImageNet weights on the device, and a fresh affinity net for it."""
    config = context.config.backbone
    backbone = Backbone(config.name, config.output_stride)
    load_backbone_weights(backbone, config.weights)
    to_device(backbone, context.device)
    return AffinityFeatures(backbone)


def run_refine(context: StageContext) -> Mapping[str, Any]:
    """Refine the maps into scores."""
    config = context.config.refine
    total = len(context.catalog.images)
    with ShardedWriter(
        context.run.path / "scores.h5", context.key, {**context.provenance(), "method": config.method}
    ) as writer:
        with (
            open_store(context.run.path / "maps.h5") as maps,
            track(f"refine ({config.method})", total, start=len(writer.done)) as advance,
            ExitStack() as stack,
        ):
            walk = None
            if walks(config.method):
                edges = stack.enter_context(open_store(context.run.path / "edges.h5"))
                walk = EdgeWalk(edges, context.config.affinity, context.device)
            build_scores(context.catalog, maps, config.method, config, writer, advance, context.workers, walk)
        writer.finish()
    return {"method": config.method}


def run_masks(context: StageContext) -> Mapping[str, Any]:
    """Render the masks at the configured threshold."""
    config = context.config.masks
    attributes = {
        **context.provenance(),
        "threshold": config.threshold,
        "ignore_id": context.catalog.dataset.classes.ignore_id,
    }
    with open_store(context.run.path / "scores.h5") as scores, track("masks", len(context.catalog.images)) as advance:
        pixels = render_masks(
            context.catalog, scores, config, context.run.path, context.key, attributes, advance, max(1, context.workers)
        )
    return {"threshold": config.threshold, "pixels": pixels}


def load_classifier(context: StageContext) -> ClassifierNet:
    """The trained classifier of the run."""
    net = _new_classifier(context)
    path = context.run.path / CLASSIFIER_WEIGHTS
    load_strict(net, read_weights(path), origin=str(path))
    return net


def load_recam(context: StageContext) -> RecamNet:
    """The re-activated network of the run."""
    net = RecamNet(_new_classifier(context), context.config.recam)
    path = context.run.path / RECAM_WEIGHTS
    load_strict(net, read_weights(path), origin=str(path))
    return net


def _new_classifier(context: StageContext) -> ClassifierNet:
    config = context.config.backbone
    backbone = Backbone(config.name, config.output_stride, config.frozen_stages)
    return ClassifierNet(backbone, len(context.catalog.dataset.classes))


def _batches(
    context: StageContext, schedule: ScheduleConfig, backbone: Backbone, offset: int, seeds: SeedReader | None = None
) -> TrainingBatches:
    """Batches of the training splits, in an order of each stage's own."""
    config = context.config
    images = context.catalog.training_images(config.data.train_splits)
    return TrainingBatches(
        images,
        context.catalog.dataset.labels(images),
        schedule.batch_size,
        schedule.steps(len(images)),
        config.augment,
        Normalisation(backbone.mean, backbone.std),
        seed=2 * config.seed + offset,
        seeds=seeds,
        ignore_id=context.catalog.dataset.classes.ignore_id,
    )


def _train(
    context: StageContext, objective: Objective, batches: TrainingBatches, schedule: ScheduleConfig
) -> dict[str, float]:
    """Run the loop from its checkpoint, which stays until :func:`_save`."""
    config = context.config
    checkpoint = context.run.path / "weights" / f"{objective.name}.checkpoint"
    # On the CPU the network needs every core; on a GPU the cores are there to decode.
    workers = context.workers if context.device.type == "cuda" else 0
    settings = LoopSettings(context.device, workers, config.runtime.amp, Path(checkpoint), context.key, context.run.log)
    last = train(objective, batches, schedule, settings)
    return {name: round(value, 6) for name, value in last.items()}


def _save(context: StageContext, file: str, net: nn.Module) -> None:
    """Write the trained weights; a finished stage has no checkpoint left."""
    path = context.run.path / file
    save_weights(path, net, {"stage_key": context.key})
    path.with_suffix(".checkpoint").unlink(missing_ok=True)
