"""Settings of everything after the class maps: refinement, masks, segmenter."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from recamlabel.sections import ScheduleConfig, Section


class CrfConfig(Section):
    """Dense CRF (METHOD 3; Kraehenbuehl & Koltun 2011)."""

    gt_prob: float = Field(0.7, gt=0, lt=1, description="probability that an input label is right")
    gaussian_sxy: float = Field(3.0, gt=0, description="smoothness kernel: pixels")
    gaussian_compat: float = Field(3.0, ge=0, description="smoothness kernel: weight")
    bilateral_sxy: float = Field(50.0, gt=0, description="appearance kernel: pixels")
    bilateral_srgb: float = Field(5.0, gt=0, description="appearance kernel: grey levels")
    bilateral_compat: float = Field(10.0, ge=0, description="appearance kernel: weight")
    iterations: int = Field(10, ge=1, le=100, description="mean-field iterations")


class RefineConfig(Section):
    """From class maps to refined scores."""

    method: str = Field(
        "auto", description="'auto' (crf if installed, else none), or crf, random_walk, crf+random_walk, none"
    )
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
    crf: CrfConfig = CrfConfig()

    @model_validator(mode="after")
    def _ascending(self) -> RefineConfig:
        if any(not 0 < level < 1 for level in self.levels) or sorted(set(self.levels)) != self.levels:
            raise ValueError(f"levels must ascend within (0, 1), got {self.levels}")
        return self


class MasksConfig(Section):
    """From scores to masks."""

    threshold: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = Field(
        "auto",
        description="background level 0..1: foreground is where a score is above; 'auto' chooses it without masks",
    )
    ignore: Annotated[float, Field(ge=0, lt=1)] | Literal["auto", "none"] = Field(
        "auto",
        description="pixels withheld as 255: 'auto' where their class depends on the level, 'none', or a share of all",
    )


class PredictConfig(Section):
    """How a trained segmenter is asked."""

    scales: list[float] = Field(
        [1.0, 0.75, 1.5], min_length=1, description="input scales whose probabilities are averaged"
    )
    flip: bool = Field(True, description="add the horizontally flipped image at every scale")
    max_side: int = Field(640, ge=32, description="images with a longer side are scaled down to it before scale 1.0")
    smooth: Literal["auto", "crf", "none"] = Field(
        "auto", description="what the probabilities pass through: 'crf', 'none', or 'auto' (crf if installed)"
    )
    # Narrower than the refiner's: a segmenter's probabilities follow the edges better than class maps do.
    crf: CrfConfig = CrfConfig(gaussian_sxy=1.5, bilateral_sxy=12.0)

    @model_validator(mode="after")
    def _positive(self) -> PredictConfig:
        if any(scale <= 0 or scale > 8 for scale in self.scales):
            raise ValueError(f"scales must lie in (0, 8], got {self.scales}")
        return self


class SegmenterConfig(ScheduleConfig):
    """The segmenter that learns from the masks (METHOD 5)."""

    enabled: bool = Field(True, description="train a segmenter after the masks")
    method: str = Field("deeplabv3+", description="network: deeplabv2, deeplabv3+, upernet")
    encoder: str = Field("", description="timm name of its encoder; empty: the classifier's")
    encoder_weights: str = Field(
        "classifier",
        description="'classifier' (the trained one's), 'backbone' (what the classifier started from), or as "
        "backbone.weights; other encoders than the classifier's need the latter",
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


class ReviewConfig(Section):
    """What a reviewer's masks (``RUN/review/``) count for in the next round."""

    use: bool = Field(False, description="use the reviewed masks: in training, and for the background level")
    weight: float = Field(
        1.0,
        gt=0,
        le=100,
        description="weight of an image with a reviewed mask in the segmenter's training; pseudo masks have their "
        "quality, 0 to 1. High weights unsettle the training: 3 made it diverge on MSRC-17",
    )
