"""Settings of the masks and of what a review counts for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recamlabel.core.section import Section


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
    png: Literal["P", "L"] = Field(
        "P",
        description="mode of the mask PNGs: 'P' has the classes' colours as its palette, 'L' is grey; same indices. "
        "OpenCV's imread turns 'P' into colours, so take 'L' for programs that read masks with it",
    )


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
