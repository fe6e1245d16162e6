"""What the training stages share: their batches, and a loop that never goes on with a network that learnt nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from recamlabel.core import ranks
from recamlabel.core.progress import say
from recamlabel.core.section import ScheduleConfig
from recamlabel.data.batches import MapReader, Normalisation, SeedReader, TrainingBatches
from recamlabel.models.backbones import Backbone
from recamlabel.models.weights import save_weights
from recamlabel.stages.view import View
from recamlabel.training.loop import LoopSettings, Objective, checkpoint_key, train
from recamlabel.training.watch import TrainingFailedError, Watch

# Factors of the learning rates: of the first start, and of the second where the first has learnt nothing.
RATES = (1.0, 0.25)
# Of the crops of enlarged images; those drawn anywhere would hardly ever show a small thing.
ABOUT_CLASSES = 0.5


def make_batches(
    view: View,
    schedule: ScheduleConfig,
    backbone: Backbone,
    offset: int,
    seeds: SeedReader | None = None,
    masks: MapReader | None = None,
    weights: np.ndarray | None = None,
    enlarged: float = 1.0,
) -> TrainingBatches:
    """Batches of the training splits, in an order of each stage's own.

    Crops of ``enlarged`` images are of the usual size, and half of them are cut about a pixel of a class.
    """
    config = view.config
    sides = {name: round(enlarged * getattr(config.augment, name)) for name in ("resize_min", "resize_max")}
    images = view.catalog.training_images(config.data.train_splits)
    return TrainingBatches(
        images,
        view.catalog.dataset.labels(images),
        schedule.batch_size,
        schedule.steps(len(images)),
        config.augment.model_copy(update=sides),
        Normalisation(backbone.mean, backbone.std),
        seed=2 * config.seed + offset,
        seeds=seeds,
        ignore_id=view.catalog.dataset.classes.ignore_id,
        masks=masks,
        weights=weights,
        about=ABOUT_CLASSES if enlarged > 1 else 0.0,
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
    view: View,
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
        view: Of the run.
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
    settings = _loop_settings(view, objective.name)
    checkpoint_of = ranks.of_first(lambda: checkpoint_key(settings.checkpoint))
    seen: list[str] = []
    for restarts, rate in enumerate(RATES):
        key = _attempt_key(view.key, restarts)
        if restarts + 1 < len(RATES) and checkpoint_of == _attempt_key(view.key, restarts + 1):
            seen.append("the first training, before the interruption, learnt nothing")
            continue
        watch = Watch(objective.name, guess, figure)
        objective.module.load_state_dict(first)
        try:
            last = train(objective, batches, schedule, replace(settings, key=key), rate=rate, watch=watch)
            failure = watch.failure(len(batches))
            verdict = Verdict(failure) if failure else ranks.of_first(check)
        except TrainingFailedError as error:
            last, verdict = {}, Verdict(str(error))
        facts = _facts(last, watch, restarts, verdict)
        if not verdict.failure:
            return facts
        seen.append(verdict.failure)
        if restarts + 1 < len(RATES):
            _forget(settings.checkpoint)
            lost = "nothing was learnt" if verdict.dead else "it should not be worse"
            say(f"{objective.name}: {verdict.failure}: {lost}; again with a quarter of the rate")
    if not verdict.dead:
        say(f"warning: {objective.name}: {verdict.failure}, after two trainings; going on with the second")
        return facts
    _forget(settings.checkpoint)
    return _give_up(view, objective.name, seen, facts)


def _forget(checkpoint: Path) -> None:
    ranks.of_first(lambda: checkpoint.unlink(missing_ok=True))


def _loop_settings(view: View, name: str) -> LoopSettings:
    config = view.config
    checkpoint = view.run.path / "weights" / f"{name}.checkpoint"
    # On the CPU the network needs every core; on a GPU the cores are there to decode.
    workers = view.workers if view.device.type == "cuda" else 0
    return LoopSettings(view.device, workers, config.runtime.amp, checkpoint, view.key, view.run.log, view.config.seed)


def _attempt_key(key: str, restarts: int) -> str:
    return f"{key}+{restarts}" if restarts else key


def _facts(last: Mapping[str, float], watch: Watch, restarts: int, verdict: Verdict) -> dict[str, Any]:
    facts: dict[str, Any] = {name: round(value, 6) for name, value in last.items()}
    if watch.guess:
        facts |= {"reached": round(watch.reached, 4), "guess": round(watch.guess, 4)}
    return {**facts, "restarts": restarts, **verdict.facts}


def _give_up(view: View, name: str, seen: Sequence[str], facts: dict[str, Any]) -> dict[str, Any]:
    """After the last start: stop, or go on where that was asked for."""
    text = (
        f"{name}: nothing was learnt. At first: {seen[0]}; with a quarter of the rate: {seen[-1]}. "
        f"Look at what the gate says of the classes and at the labels (`recamlabel check`); what may help: "
        f"--set {name}.lr={getattr(view.config, name).lr / 16:.2g}, more steps (--set {name}.min_steps=1000), "
        "more images a class. --force goes on all the same"
    )
    if not view.config.runtime.force:
        raise TrainingFailedError(text)
    say(f"warning: {text.replace('--force goes on all the same', 'going on, because of --force')}")
    return {**facts, "useless": True}


def save_trained(view: View, file: str, net: nn.Module) -> None:
    """Write the trained weights; a finished stage has no checkpoint left. Of several processes the first does."""
    if not ranks.is_first():
        return
    path = view.run.path / file
    save_weights(path, net, {"stage_key": view.key})
    path.with_suffix(".checkpoint").unlink(missing_ok=True)
