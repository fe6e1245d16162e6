"""Settings of the classifier and of its re-activation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recamlabel.core.section import ScheduleConfig


class ClassifierConfig(ScheduleConfig):
    """The multi-label classifier (docs/method.md, 1)."""

    lr: float = Field(0.02, gt=0, description="learning rate of the backbone")
    head_lr_factor: float = Field(10.0, gt=0, description="learning rate of the head = lr times this")
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="rate of each layer of the backbone = that of the next deeper one times this, usual for "
        "transformers: 0.65 to 0.8; 1: all learn alike",
    )
    head_init: Literal["logistic", "random"] = Field(
        "logistic",
        description="start of the head: logistic regressions on the pretrained network's pooled features (with "
        "gate.strength), or random weights, as published",
    )
    rare_weight: float = Field(
        1.0,
        ge=1,
        le=100,
        description="largest weight in the loss of a label of a rare class: as many times as the class is absent more "
        "often than present, at most this; 1: all labels count the same",
    )


class RecamConfig(ScheduleConfig):
    """The softmax re-activation (docs/method.md, 2)."""

    lr: float = Field(0.005, gt=0, description="learning rate of the softmax head FC2")
    backbone_lr_factor: float = Field(0.01, ge=0, description="learning rate of backbone and FC1 = lr times this")
    loss_weight: float = Field(1.0, ge=0, description="weight of the softmax cross-entropy beside the BCE")
    head_init: Literal["zero", "random", "copy"] = Field(
        "zero", description="start of FC2: zeros, PyTorch's default, or a copy of FC1"
    )
    background: bool = Field(True, description="give the softmax a background class (not in the published method)")
    competing: Literal["all", "absent", "present"] = Field(
        "all", description="classes in the softmax beside the label: all, those absent or present in the image"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all classes")
    class_balance: float = Field(
        1.0,
        ge=0,
        le=2,
        description="how far rare classes count more in the softmax; 0: not, as published",
    )
    min_agreement: float = Field(
        0.5,
        ge=0,
        le=1,
        description="a class whose re-activated maps correlate less with the classifier's keeps those, and one with "
        "fewer images than gate.weak_positives if they do by less than halfway from this to 1; 0: none does",
    )
    combine: str = Field(
        "contrast", description="how FC1 and FC2 make the ReCAM weight; 'product' is the published rule"
    )
