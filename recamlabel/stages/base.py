"""What every stage gets, and what the training stages share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from recamlabel import __version__
from recamlabel.config import Config
from recamlabel.core.progress import say
from recamlabel.core.section import ScheduleConfig
from recamlabel.data.batches import MapReader, Normalisation, SeedReader, TrainingBatches
from recamlabel.data.catalog import Catalog
from recamlabel.models.backbones import Backbone
from recamlabel.models.networks import ClassifierNet, RecamNet
from recamlabel.models.weights import load_strict, read_weights, save_weights
from recamlabel.storage.run_folder import RunFolder
from recamlabel.training.loop import LoopSettings, Objective, checkpoint_key, train
from recamlabel.training.watch import TrainingFailedError, Watch

CLASSIFIER_WEIGHTS = "weights/classifier.safetensors"
RECAM_WEIGHTS = "weights/recam.safetensors"
MAPS_FILE = "maps.h5"
# The maps of the refined source again, with the objects' ends of larger inputs.
FINE_FILE = "fine.h5"
# The maps of the refined source joined with the probe, all else as in maps.h5.
FUSED_FILE = "fused.h5"
CPU_MAP_PIXELS = 300_000
CUDA_MAP_PIXELS = 4_000_000
# Factors of the learning rates: of the first start, and of the second where the first has learnt nothing.
RATES = (1.0, 0.25)


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


@dataclass(frozen=True)
class Verdict:
    """What a stage's own check found after a training.

    Args:
        failure: Why the network is not what it should be; empty where it is.
        facts: What was measured, for the stage's record.
        dead: Whether a failure means that nothing was learnt; otherwise the network is worse than it should be, and
            after a second start gone on with.
    """

    failure: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    dead: bool = True


def run_training(
    context: StageContext,
    objective: Objective,
    batches: TrainingBatches,
    schedule: ScheduleConfig,
    guess: float | None = None,
    figure: str = "loss",
    check: Callable[[], Verdict] = Verdict,
) -> dict[str, Any]:
    """Run the loop from its checkpoint, which stays until :func:`save_trained`; a dead network is never gone on with.

    A training whose loss is not below that of guessing, or that the stage's own check refuses, starts again from
    the same weights with a quarter of the rates, once.

    Args:
        context: Of the run.
        objective: What is trained, in place.
        batches: One item a step.
        schedule: Of the optimiser.
        guess: What guessing has of ``figure``; None where there is nothing to guess.
        figure: Which logged figure is compared.
        check: Looks at the trained network.

    Returns:
        Facts for the stage's record: the last figures, ``reached`` and ``guess``, ``restarts``, those of the check,
        and ``useless`` where ``runtime.force`` went on with a network that has learnt nothing.

    Raises:
        TrainingFailedError: Both trainings failed.
    """
    first = {name: value.detach().clone() for name, value in objective.module.state_dict().items()}
    settings = _loop_settings(context, objective.name)
    known = checkpoint_key(settings.checkpoint)
    seen: list[str] = []
    for restarts, rate in enumerate(RATES):
        key = _attempt_key(context.key, restarts)
        if restarts + 1 < len(RATES) and known == _attempt_key(context.key, restarts + 1):
            seen.append("the first training, before the interruption, learnt nothing")
            continue
        watch = Watch(objective.name, guess, figure)
        objective.module.load_state_dict(first)
        try:
            last = train(objective, batches, schedule, replace(settings, key=key), rate=rate, watch=watch)
            verdict = check() if (found := watch.failure(len(batches))) == "" else Verdict(found)
        except TrainingFailedError as error:
            last, verdict = {}, Verdict(str(error))
        facts = _facts(last, watch, restarts, verdict)
        if not verdict.failure:
            return facts
        seen.append(verdict.failure)
        if restarts + 1 < len(RATES):
            settings.checkpoint.unlink(missing_ok=True)
            lost = "nothing was learnt" if verdict.dead else "it should not be worse"
            say(f"{objective.name}: {verdict.failure}: {lost}; again with a quarter of the rate")
    if not verdict.dead:
        say(f"warning: {objective.name}: {verdict.failure}, after two trainings; going on with the second")
        return facts
    settings.checkpoint.unlink(missing_ok=True)
    return _give_up(context, objective.name, seen, facts)


def _loop_settings(context: StageContext, name: str) -> LoopSettings:
    config = context.config
    checkpoint = context.run.path / "weights" / f"{name}.checkpoint"
    # On the CPU the network needs every core; on a GPU the cores are there to decode.
    workers = context.workers if context.device.type == "cuda" else 0
    return LoopSettings(context.device, workers, config.runtime.amp, Path(checkpoint), context.key, context.run.log)


def _attempt_key(key: str, restarts: int) -> str:
    return f"{key}+{restarts}" if restarts else key


def _facts(last: Mapping[str, float], watch: Watch, restarts: int, verdict: Verdict) -> dict[str, Any]:
    facts: dict[str, Any] = {name: round(value, 6) for name, value in last.items()}
    if watch.guess:
        facts |= {"reached": round(watch.reached, 4), "guess": round(watch.guess, 4)}
    return {**facts, "restarts": restarts, **verdict.facts}


def _give_up(context: StageContext, name: str, seen: Sequence[str], facts: dict[str, Any]) -> dict[str, Any]:
    """After the last start: stop, or go on where that was asked for."""
    text = (
        f"{name}: nothing was learnt. At first: {seen[0]}; with a quarter of the rate: {seen[-1]}. "
        f"Look at what the gate says of the classes and at the labels (`recamlabel check`); what may help: "
        f"--set {name}.lr={getattr(context.config, name).lr / 16:.2g}, more steps (--set {name}.min_steps=1000), "
        "more images a class. --force goes on all the same"
    )
    if not context.config.runtime.force:
        raise TrainingFailedError(text)
    say(f"warning: {text.replace('--force goes on all the same', 'going on, because of --force')}")
    return {**facts, "useless": True}


def save_trained(context: StageContext, file: str, net: nn.Module) -> None:
    """Write the trained weights; a finished stage has no checkpoint left."""
    path = context.run.path / file
    save_weights(path, net, {"stage_key": context.key})
    path.with_suffix(".checkpoint").unlink(missing_ok=True)
