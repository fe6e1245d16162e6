"""The work of each stage: read the inputs from the run folder, call the library, write the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recamlabel import __version__
from recamlabel.config import Config, ScheduleConfig
from recamlabel.data.batches import Normalisation, TrainingBatches
from recamlabel.data.catalog import Catalog
from recamlabel.maps.base import get_variant
from recamlabel.maps.build import build_maps
from recamlabel.maps.multiscale import MapNet
from recamlabel.masks.render import render_masks
from recamlabel.models.backbones import Backbone
from recamlabel.progress import track
from recamlabel.refine.build import build_scores
from recamlabel.storage.hdf5 import ShardedWriter, open_store
from recamlabel.training.loop import LoopSettings, Objective, to_device, train
from recamlabel.training.objectives.classifier import ClassifierNet, ClassifierObjective
from recamlabel.training.objectives.recam import RecamNet, RecamObjective
from recamlabel.training.weights import load_backbone_weights, load_strict, read_weights, save_weights
from recamlabel.workspace import RunFolder

CLASSIFIER_WEIGHTS = "weights/classifier.safetensors"
RECAM_WEIGHTS = "weights/recam.safetensors"
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
    last = _train(context, ClassifierObjective(net, config.classifier), net, config.classifier, offset=0)
    save_weights(context.run.path / CLASSIFIER_WEIGHTS, net, {"stage_key": context.key})
    return last


def run_recam(context: StageContext) -> Mapping[str, Any]:
    """Re-activate from the converged classifier."""
    torch.manual_seed(context.config.seed + 1)
    net = RecamNet(load_classifier(context), context.config.recam)
    last = _train(context, RecamObjective(net, context.config.recam), net.classifier, context.config.recam, offset=1)
    save_weights(context.run.path / RECAM_WEIGHTS, net, {"stage_key": context.key})
    return last


def run_maps(context: StageContext) -> Mapping[str, Any]:
    """Maps of the classifier (``cam``) and of the re-activated network (``recam``)."""
    config, device = context.config, context.device
    nets = _map_nets(context)
    attributes = {
        **context.provenance(),
        "model_keys": {name: context.run.key_of(name) for name in ("classifier", "recam")},
    }
    total = len(context.catalog.images)
    with ShardedWriter(context.run.path / "maps.h5", context.key, attributes) as writer:
        with track("maps", total, start=len(writer.done)) as advance:
            pixels = CUDA_MAP_PIXELS if device.type == "cuda" else CPU_MAP_PIXELS
            build_maps(context.catalog, nets, config.maps, writer, advance, amp=config.runtime.amp, max_pixels=pixels)
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
        ):
            build_scores(context.catalog, maps, config.method, config, writer, advance, context.workers)
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
        pixels = render_masks(context.catalog, scores, config, context.run.path, context.key, attributes, advance)
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


def _train(
    context: StageContext, objective: Objective, net: ClassifierNet, schedule: ScheduleConfig, offset: int
) -> dict[str, float]:
    """Run the loop on the training splits; a finished stage has no checkpoint left."""
    config = context.config
    images = context.catalog.training_images(config.data.train_splits)
    batches = TrainingBatches(
        images,
        context.catalog.dataset.labels(images),
        schedule.batch_size,
        schedule.steps(len(images)),
        config.augment,
        Normalisation(net.backbone.mean, net.backbone.std),
        seed=2 * config.seed + offset,
    )
    checkpoint = context.run.path / "weights" / f"{objective.name}.checkpoint"
    # On the CPU the network needs every core; on a GPU the cores are there to decode.
    workers = context.workers if context.device.type == "cuda" else 0
    settings = LoopSettings(context.device, workers, config.runtime.amp, Path(checkpoint), context.key, context.run.log)
    last = train(objective, batches, schedule, settings)
    checkpoint.unlink(missing_ok=True)
    return {name: round(value, 6) for name, value in last.items()}
