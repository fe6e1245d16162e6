"""Settings of the training-time augmentation."""

from __future__ import annotations

from pydantic import Field, model_validator

from recamlabel.core.section import Section


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
