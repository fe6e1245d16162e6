"""Settings of the gate."""

from __future__ import annotations

from pydantic import Field, model_validator

from recamlabel.core.section import Section


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
