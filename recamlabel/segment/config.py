"""Settings of the segmenter and of its inference."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from recamlabel.core.section import ScheduleConfig, Section
from recamlabel.refine.config import CrfConfig


class PredictConfig(Section):
    """How a trained segmenter is asked."""

    scales: list[float] = Field(
        [1.0, 0.75, 1.5], min_length=1, description="input scales whose probabilities are averaged"
    )
    flip: bool = Field(True, description="add the horizontally flipped image at every scale")
    max_side: int = Field(640, ge=32, description="images with a longer side are scaled down to it before scale 1.0")
    smooth: Literal["auto", "crf", "none"] = Field(
        "auto", description="what the probabilities pass through: 'crf', 'none', or 'auto' (crf)"
    )
    # Narrower than the refiner's: a segmenter's probabilities follow the edges better than class maps do.
    crf: CrfConfig = CrfConfig(gaussian_sxy=1.5, bilateral_sxy=12.0)

    @model_validator(mode="after")
    def _positive(self) -> PredictConfig:
        if any(scale <= 0 or scale > 8 for scale in self.scales):
            raise ValueError(f"scales must lie in (0, 8], got {self.scales}")
        return self


class SegmenterConfig(ScheduleConfig):
    """The segmenter that learns from the masks (docs/method.md, 5)."""

    enabled: bool = Field(True, description="train a segmenter after the masks")
    method: str = Field(
        "deeplabv3+", description="network: deeplabv2, deeplabv3+, upernet, segformer, dpt (ViT), linear"
    )
    encoder: str = Field("", description="timm name of its encoder; empty: the classifier's")
    encoder_weights: str = Field(
        "classifier",
        description="'classifier' (the trained one's), 'backbone' (what the classifier started from), or as "
        "backbone.weights; other encoders than the classifier's need the latter",
    )
    side: Annotated[int, Field(ge=32)] | Literal["auto"] = Field(
        "auto",
        description="long side at which it learns and looks, pixels; 'auto': that of the local maps where they take "
        "part and it is above maps.max_side (at most the images' own), else augment.* and segmenter.predict.max_side",
    )
    lr: float = Field(0.01, gt=0, description="learning rate of the encoder")
    head_lr_factor: float = Field(10.0, gt=0, description="learning rate of the decoder = lr times this")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all classes")
    cutmix: float = Field(
        0.0, ge=0, le=1, description="share of the training crops that have a box of another crop pasted in (CutMix)"
    )
    correction: float = Field(
        1.0, gt=0, le=1, description="a prediction surer than this replaces a pixel's label late in training; 1: never"
    )
    correction_start: float = Field(0.5, ge=0, le=1, description="share of the schedule before corrections begin")
    relabel_weight: float = Field(
        0.5, gt=0, le=1, description="later rounds: share of the segmenter beside the class maps in the new maps"
    )
    quality_weights: bool = Field(True, description="weigh images by the quality score of their masks")
    predict: PredictConfig = PredictConfig()
