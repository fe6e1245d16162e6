"""The one training loop: SGD or AdamW with polynomial decay, checkpoints, exact resume, progress."""

from __future__ import annotations

import io
import math
import os
import pickle
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from recamlabel.core import ranks
from recamlabel.core.allocator import freed_memory_kept
from recamlabel.core.devices import autocast, fixed_shapes, to_device
from recamlabel.core.progress import say, track
from recamlabel.core.section import ScheduleConfig
from recamlabel.data.batches import Batch, TrainingBatches, iterate
from recamlabel.models.layers.depthwise import quicken_depthwise
from recamlabel.models.layers.folded_norm import fold_norms
from recamlabel.models.layers.shared_norm import shared_norms
from recamlabel.storage.atomic import replacing
from recamlabel.training.recorded import RecordedNetwork
from recamlabel.training.reduced import share_gradients
from recamlabel.training.watch import TrainingFailedError, Watch

# What a checkpoint must have, else it is damaged.
CHECKPOINT = ("key", "step", "module", "optimiser")
CHECKPOINT_SECONDS = float(os.environ.get("RECAMLABEL_CHECKPOINT_SECONDS", "30"))
LOG_EVERY = 10


class Objective(Protocol):
    """What a stage trains: modules, their learning rates, a loss."""

    name: str

    @property
    def module(self) -> nn.Module:
        """What is trained, saved in checkpoints and moved to the device."""
        ...

    @property
    def network(self) -> nn.Module | None:
        """What the loss gives the batch's images to, once and first, all alike; None: no such part."""
        ...

    @property
    def frozen(self) -> bool:
        """Whether that network learns nothing."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """SGD parameter groups, each with its own ``lr``."""
        ...

    def loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Loss to minimise, and figures to log."""
        ...


@dataclass(frozen=True)
class LoopSettings:
    """Where and how the loop runs; nothing but the seed, which dropout and CutMix draw by, changes what is learnt."""

    device: torch.device
    workers: int
    amp: bool
    checkpoint: Path
    key: str
    log: Callable[..., None]
    seed: int = 0


def poly_factor(step: int, steps: int, power: float) -> float:
    """Polynomial decay ``(1 - step / steps) ** power``, 1 at step 0.

    Example:
        >>> poly_factor(5, 10, 1.0)
        0.5
    """
    return float((1 - step / steps) ** power)


def warm_factor(step: int, steps: int) -> float:
    """Linear rise of the learning rate to 1 over ``steps`` steps (Goyal et al., arXiv:1706.02677, section 2.2).

    Example:
        >>> warm_factor(0, 4), warm_factor(3, 4), warm_factor(9, 4), warm_factor(0, 0)
        (0.25, 1.0, 1.0, 1.0)
    """
    return min(1.0, (step + 1) / steps) if steps else 1.0


def train(
    objective: Objective,
    batches: TrainingBatches,
    schedule: ScheduleConfig,
    settings: LoopSettings,
    *,
    rate: float = 1.0,
    watch: Watch | None = None,
) -> dict[str, float]:
    """Train to the last step, from the checkpoint where there is one of the same stage key.

    Args:
        objective: Stage-specific loss; its module is trained in place.
        batches: One item per optimiser step.
        schedule: Momentum, weight decay, warm-up and decay of the rate, clipping.
        settings: Device, workers, checkpoint file, log.
        rate: All learning rates are multiplied by this.
        watch: Sees every step's figures, and may end a training that learns nothing.

    Returns:
        The mean of each logged figure over the last steps.

    Raises:
        TrainingFailedError: The loss is not finite, or the watch has seen enough.
    """
    to_device(objective.module, settings.device).train()
    fold_norms(objective.module)
    quicken_depthwise(objective.module)
    groups = objective.parameter_groups()
    base = [rate * float(group["lr"]) for group in groups]
    optimiser = make_optimiser(groups, schedule, fused=settings.device.type == "cuda")
    means = _Means(watch)
    start = _restore(objective, optimiser, means, settings)
    steps = len(batches)
    own = batches.of_slots(ranks.slots(batches.batch_size))
    figures = _Figures(objective.name, base[0], LOG_EVERY if settings.device.type == "cuda" else 1)
    saved = time.monotonic()
    stepper = _Stepper(objective, optimiser, settings, schedule.clip_norm)
    with (
        freed_memory_kept(settings.device),
        fixed_shapes(settings.device),
        shared_norms(objective.module) as stepper.shared_norms,
        track(objective.name, steps, start=start, unit="steps") as advance,
    ):
        for batch in iterate(own, start, settings.device, settings.workers):
            for group, lr in zip(optimiser.param_groups, base, strict=True):
                factor = poly_factor(batch.step, steps, schedule.poly_power)
                group["lr"] = lr * factor * warm_factor(batch.step, min(schedule.warmup_steps, steps // 6))
            done = batch.step + 1
            figures.add(done, stepper.step(batch))
            due = time.monotonic() - saved > CHECKPOINT_SECONDS and done < steps
            # All ranks read the figures, by which a training may end, at the same steps, and each has its own clock.
            due = due and (ranks.world() == 1 or done % figures.every == 0)
            for at, values in figures.read(now=due or done == steps):
                means.add(values)
                if at % LOG_EVERY == 0 or at == steps:
                    lr = optimiser.param_groups[0]["lr"]
                    settings.log(stage=objective.name, event="step", step=at, steps=steps, lr=lr, **means.take())
                if watch is not None:
                    watch.see(at, steps, values)
            advance(1, note=figures.note)
            if due:
                _save(objective, optimiser, means, done, settings)
                saved = time.monotonic()
    return means.last


class _Means:
    """The means of the figures since they were last asked for. Checkpoints have them, and what the watch has seen:
    else a resumed training would be judged by the few steps that it has made itself.
    """

    def __init__(self, watch: Watch | None) -> None:
        self.watch, self.last = watch, dict[str, float]()
        self.window: dict[str, list[float]] = {}

    def add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.window.setdefault(name, []).append(value)

    def take(self) -> dict[str, float]:
        self.last = {name: sum(found) / len(found) for name, found in self.window.items()}
        self.window = {}
        return self.last

    def state(self) -> dict[str, Any]:
        return {"window": self.window, "watched": list(self.watch.recent) if self.watch else []}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.window = dict(state.get("window", {}))
        if self.watch:
            self.watch.recent.extend(state.get("watched", []))


class _Figures:
    """Figures of the steps as they are on the device, read some steps at a time: each reading waits for the GPU."""

    def __init__(self, name: str, rate: float, every: int) -> None:
        self.name, self.rate, self.every = name, rate, every
        self.waiting: list[tuple[int, dict[str, Tensor]]] = []
        self.note = ""

    def add(self, done: int, figures: dict[str, Tensor]) -> None:
        self.waiting.append((done, figures))

    def read(self, now: bool) -> list[tuple[int, dict[str, float]]]:
        """Steps done and their figures, where it is time; none otherwise.

        Raises:
            TrainingFailedError: The loss of a step is not finite.
        """
        if not self.waiting or not (now or self.waiting[-1][0] % self.every == 0):
            return []
        waiting, self.waiting = self.waiting, []
        flat = torch.stack([value.float() for _, figures in waiting for value in figures.values()]).tolist()
        values = iter(flat)
        found = [(done, {name: next(values) for name in figures}) for done, figures in waiting]
        for done, figures in found:
            if not math.isfinite(figures["loss"]):
                raise TrainingFailedError(
                    f"{self.name}: the loss is not finite at step {done}; "
                    f"lower the learning rate, for example --set {self.name}.lr={self.rate / 4:.2g}"
                )
        self.note = f"loss {found[-1][1]['loss']:.4f}"
        return found


def make_optimiser(
    groups: list[dict[str, Any]], schedule: ScheduleConfig, *, fused: bool = False
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter, ICLR 2019) or SGD with momentum, as the schedule says.

    Args:
        groups: Parameters with their rates.
        schedule: Kind, momentum, weight decay.
        fused: One kernel for all parameters, on a GPU.
    """
    # False would be another choice than PyTorch's own.
    kind: dict[str, Any] = {"fused": True} if fused else {}
    if schedule.optimiser == "adamw":
        return torch.optim.AdamW(groups, weight_decay=schedule.weight_decay, **kind)
    return torch.optim.SGD(groups, momentum=schedule.momentum, weight_decay=schedule.weight_decay, **kind)


class _Stepper:
    """Optimiser steps; a batch that a GPU's memory does not hold is worked on in parts from then on.

    The parts' gradients are averaged, which is the whole batch's but for statistics over a batch.
    """

    def __init__(
        self, objective: Objective, optimiser: torch.optim.Optimizer, settings: LoopSettings, clip_norm: float
    ) -> None:
        self.objective, self.optimiser, self.settings, self.clip_norm = objective, optimiser, settings, clip_norm
        self.parts = 1
        self.steps = 0
        self.recorded: RecordedNetwork | None = None
        self.shared_norms = 0

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One step; its figures, on the device."""
        # The first step is a plain one: what is made once, such as cuDNN's choice of algorithms, cannot be recorded.
        if self.settings.device.type == "cuda" and self.steps == 1 and self.parts == 1:
            self._record(batch)
        self.steps += 1
        while True:
            try:
                figures = self._gradients(batch)
                break
            except torch.OutOfMemoryError:
                if self.parts >= len(batch.images):
                    raise
                _refuse_parts(self.objective.name, len(batch.images), self.settings.device)
            # Outside the handler: the error holds on to what the step had allocated.
            self.recorded = None
            self.parts *= 2
            torch.cuda.empty_cache()
            size = -(-len(batch.images) // self.parts)
            say(
                f"{self.objective.name}: the memory of {self.settings.device} does not hold "
                f"{len(batch.images) if self.parts == 2 else 2 * size} crops at once; going on with {size} at a time"
            )
        figures = share_gradients(self.objective.module, figures)
        if self.clip_norm:
            nn.utils.clip_grad_norm_(self.objective.module.parameters(), self.clip_norm)
        self.optimiser.step()
        return figures

    def _record(self, batch: Batch) -> None:
        network = self.objective.network
        # What waits for other processes inside of a network is launched anew each time.
        if network is None or self.shared_norms:
            return
        try:
            learns = not self.objective.frozen
            self.recorded = RecordedNetwork(network, batch.images, learns=learns, amp=self.settings.amp)
        except RuntimeError as error:
            # Some networks cannot be recorded, or there is no room for it: each step is then launched anew.
            torch.cuda.synchronize(self.settings.device)
            torch.cuda.empty_cache()
            why = str(error).splitlines()[0]
            say(f"{self.objective.name}: the network cannot be recorded ({why}); going on without")

    def _gradients(self, batch: Batch) -> dict[str, Tensor]:
        # Seeding per step (dropout, stochastic depth) makes a resumed run equal an uninterrupted one.
        torch.manual_seed(hash((batch.step, 7919 + self.settings.seed)) & 0x7FFFFFFF)
        self.optimiser.zero_grad(set_to_none=True)
        total: dict[str, Tensor] = {}
        for part in batch.parts(self.parts):
            replayed = self.recorded.in_place() if self.recorded else nullcontext()
            with replayed, autocast(self.settings.device, self.settings.amp, training=True):
                loss, figures = self.objective.loss(part)
            share = len(part.images) / len(batch.images)
            (loss if self.parts == 1 else loss * share).backward()  # type: ignore[no-untyped-call]
            if self.recorded:
                self.recorded.backward()
            for name, value in {"loss": loss, **figures}.items():
                value = value.detach()
                total[name] = value if self.parts == 1 else total.get(name, 0) + value * share
        return total


def _refuse_parts(name: str, images: int, device: torch.device) -> None:
    """Raises TrainingFailedError where other processes have the rest of the batch: they would wait for the parts."""
    if ranks.world() > 1:
        raise TrainingFailedError(
            f"{name}: the memory of {device} does not hold {images} crops at once, and of several processes none works "
            f"on its crops in parts; lower {name}.batch_size or augment.crop_size, or start more processes"
        )


def _save(
    objective: Objective, optimiser: torch.optim.Optimizer, means: _Means, done: int, settings: LoopSettings
) -> None:
    if not ranks.is_first():
        return
    state = {
        "key": settings.key,
        "step": done,
        "module": objective.module.state_dict(),
        "optimiser": optimiser.state_dict(),
        "means": means.state(),
    }
    memory = io.BytesIO()
    torch.save(state, memory)
    with replacing(settings.checkpoint) as temporary:
        temporary.write_bytes(memory.getbuffer())


def checkpoint_key(path: Path) -> str:
    """The key of a checkpoint; empty where there is none that can be read."""
    state = _read_checkpoint(path)
    return "" if state is None else str(state.get("key", ""))


def _read_checkpoint(path: Path) -> dict[str, Any] | None:
    """A checkpoint's content; None where there is none. A damaged one is removed, with a line."""
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        # Those of earlier versions have no means.
        return {"means": state.get("means", {}), **{name: state[name] for name in CHECKPOINT}}
    except (OSError, EOFError, RuntimeError, KeyError, ValueError, TypeError, pickle.UnpicklingError):
        say(f"{path}: a damaged checkpoint, removed; the training starts anew")
        path.unlink(missing_ok=True)
        return None


def _checkpoint_of(settings: LoopSettings) -> dict[str, Any] | None:
    """The checkpoint of this training; None where there is none, and one of another training is removed."""
    state = _read_checkpoint(settings.checkpoint)
    if state is not None and state["key"] != settings.key:
        settings.checkpoint.unlink()
        return None
    return state


def _restore(objective: Objective, optimiser: torch.optim.Optimizer, means: _Means, settings: LoopSettings) -> int:
    # Of several processes the first reads, so that all start from the same.
    state = ranks.of_first(lambda: _checkpoint_of(settings))
    if state is None:
        return 0
    objective.module.load_state_dict(state["module"])
    optimiser.load_state_dict(state["optimiser"])
    means.restore(state["means"])
    say(f"{objective.name}: continues at step {state['step']}")
    return int(state["step"])
