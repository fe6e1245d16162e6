"""What every stage gets, and what the training stages share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from recamlabel import __version__
from recamlabel.config import Config, ScheduleConfig
from recamlabel.data.batches import MapReader, Normalisation, SeedReader, TrainingBatches
from recamlabel.data.catalog import Catalog
from recamlabel.models.backbones import Backbone
from recamlabel.training.loop import LoopSettings, Objective, train
from recamlabel.training.objectives.classifier import ClassifierNet
from recamlabel.training.objectives.recam import RecamNet
from recamlabel.training.weights import load_strict, read_weights, save_weights
from recamlabel.workspace import RunFolder

CLASSIFIER_WEIGHTS = "weights/classifier.safetensors"
RECAM_WEIGHTS = "weights/recam.safetensors"
MAPS_FILE = "maps.h5"
# The maps of the refined source again, with the objects' ends of larger inputs.
FINE_FILE = "fine.h5"
# The maps of the refined source joined with the probe, all else as in maps.h5.
FUSED_FILE = "fused.h5"
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
    def maps_file(self) -> str:
        """Name of the file with the maps that are refined: joined with the probe where there is one."""
        return FUSED_FILE if self.config.probe.enabled else MAPS_FILE

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


def new_classifier(context: StageContext) -> ClassifierNet:
    """The classifier as the settings describe it, without weights."""
    config = context.config.backbone
    backbone = Backbone(config.name, config.output_stride, config.frozen_stages)
    return ClassifierNet(backbone, len(context.catalog.dataset.classes))


def load_classifier(context: StageContext) -> ClassifierNet:
    """The trained classifier of the run."""
    net = new_classifier(context)
    path = context.run.path / CLASSIFIER_WEIGHTS
    load_strict(net, read_weights(path), origin=str(path))
    return net


def load_recam(context: StageContext) -> RecamNet:
    """The re-activated network of the run."""
    net = RecamNet(new_classifier(context), context.config.recam, context.config.data.background)
    path = context.run.path / RECAM_WEIGHTS
    load_strict(net, read_weights(path), origin=str(path))
    return net


def make_batches(
    context: StageContext,
    schedule: ScheduleConfig,
    backbone: Backbone,
    offset: int,
    seeds: SeedReader | None = None,
    masks: MapReader | None = None,
    weights: np.ndarray | None = None,
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
        masks=masks,
        weights=weights,
    )


def run_training(
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


def save_trained(context: StageContext, file: str, net: nn.Module) -> None:
    """Write the trained weights; a finished stage has no checkpoint left."""
    path = context.run.path / file
    save_weights(path, net, {"stage_key": context.key})
    path.with_suffix(".checkpoint").unlink(missing_ok=True)
