"""What a class-map variant is, and the registry of them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from recamlabel.errors import ConfigError
from recamlabel.models.backbones import Backbone
from recamlabel.models.cam import class_activation

MapVariant = Callable[[Backbone, Tensor, Tensor], Tensor]
"""``(backbone, weight (C, D), images (B, 3, H, W)) -> maps (B, C, h, w)``, >= 0."""


def cam(backbone: Backbone, weight: Tensor, images: Tensor) -> Tensor:
    """Class activation maps ``relu(W_k . f)`` (Zhou et al., CVPR 2016; METHOD 1)."""
    return class_activation(backbone(images).float(), weight)


VARIANTS: dict[str, MapVariant] = {"cam": cam}


def get_variant(name: str) -> MapVariant:
    """A variant by name. Raises ConfigError with the known names on a miss.

    Example:
        >>> get_variant("cam") is cam
        True
    """
    try:
        return VARIANTS[name]
    except KeyError:
        raise ConfigError(f"maps.variant: unknown {name!r}; the variants are: {', '.join(VARIANTS)}") from None
