"""Settings of the training-time augmentation."""

from __future__ import annotations

from pydantic import Field, model_validator

from recamlabel.core.section import Section


class AugmentConfig(Section):
    """Training crops: random resize of the long side, flip, cut, then random changes of colour and light."""

    resize_min: int = Field(256, ge=16, description="smallest long side after the random resize, pixels")
    resize_max: int = Field(448, ge=16, le=32768, description="largest long side after the random resize, pixels")
    crop_size: int = Field(
        224,
        ge=16,
        le=8192,
        description="side of the square training crop, pixels; zero-padded where the image is smaller",
    )
    flip: bool = Field(True, description="random horizontal flip")
    views: int = Field(
        0, ge=0, le=100, description="crops of each image that its trainings take in turn, always the same; 0: new ones"
    )
    brightness: float = Field(
        0.0, ge=0, le=1, description="brightness is multiplied by 1 - this to 1 + this, at random; 0: left as it is"
    )
    contrast: float = Field(0.0, ge=0, le=1, description="the same for the contrast")
    saturation: float = Field(0.0, ge=0, le=1, description="the same for the saturation")
    hue: float = Field(0.0, ge=0, le=0.5, description="largest random shift of the hue, in turns; 0: left as it is")
    grey: float = Field(0.0, ge=0, le=1, description="share of the crops that lose their colour")

    @model_validator(mode="after")
    def _bounds(self) -> AugmentConfig:
        if self.resize_min > self.resize_max:
            raise ValueError(f"resize_min ({self.resize_min}) is above resize_max ({self.resize_max})")
        return self
