"""What every group of settings is, and the schedules and machine settings that all rooms share."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recamlabel.core.devices import usable_cores


class Section(BaseModel):
    """A closed, immutable group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ScheduleConfig(Section):
    """A schedule counted in optimiser steps: epochs over the data, within step bounds."""

    epochs: float = Field(5.0, gt=0, description="passes over the training images")
    min_steps: int = Field(300, ge=1, description="at least this many optimiser steps, however few the images")
    max_steps: int = Field(100_000, ge=1, description="at most this many optimiser steps, however many the images")
    batch_size: int = Field(16, ge=1, description="images per optimiser step")
    optimiser: Literal["sgd", "adamw"] = Field("sgd", description="SGD with momentum (as published), or AdamW")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD momentum (the published runs have 1e-4)")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay (AdamW's is decoupled from the gradient)")
    warmup_steps: int = Field(0, ge=0, description="steps of rising learning rate at the start; at most a sixth of all")
    clip_norm: float = Field(0.0, ge=0, description="largest norm of all gradients together; 0: not clipped")
    poly_power: float = Field(0.9, ge=0, description="power of the polynomial learning-rate decay")

    @model_validator(mode="after")
    def _bounds(self) -> ScheduleConfig:
        if self.min_steps > self.max_steps:
            raise ValueError(f"min_steps ({self.min_steps}) is above max_steps ({self.max_steps})")
        return self

    def steps(self, images: int) -> int:
        """Optimiser steps for a training set of ``images`` images."""
        wanted = round(self.epochs * images / self.batch_size)
        return max(self.min_steps, min(self.max_steps, wanted))


class RuntimeConfig(Section):
    """Where and how fast; never changes a result's meaning and is in no stage key."""

    device: str = Field("auto", description="'auto', 'cpu', 'cuda' or 'cuda:N'")
    workers: int = Field(-1, ge=-1, description="worker processes; -1: one per core")
    amp: bool = Field(
        True,
        description="bf16 where it is quick: on CUDA; on CPUs with AVX512-BF16 or AMX, but not in training",
    )
    cache_gb: float = Field(
        4.0,
        ge=0,
        description="disk for the features of training crops, GB, where the whole backbone is frozen and augment.views "
        "is set; 0: all are computed at each step",
    )
    force: bool = Field(False, description="go on where training was found to be useless; results are marked")

    def worker_count(self) -> int:
        """Worker processes: the setting, or one per core that this process may run on."""
        if self.workers >= 0:
            return self.workers
        return usable_cores()
