"""Images and weights to soft class maps: variants by name."""

from __future__ import annotations

from recamlabel.errors import ConfigError
from recamlabel.maps.advcam import advcam
from recamlabel.maps.base import Factory
from recamlabel.maps.cam import cam
from recamlabel.maps.gradcam_pp import gradcam_pp
from recamlabel.maps.layercam import layercam
from recamlabel.maps.lpcam import lpcam
from recamlabel.maps.precomputed import precomputed

__all__ = ["VARIANTS", "get_variant"]

VARIANTS: dict[str, Factory] = {
    "cam": cam,
    "layercam": layercam,
    "gradcam++": gradcam_pp,
    "lpcam": lpcam,
    "advcam": advcam,
    "precomputed": precomputed,
}


def get_variant(name: str) -> Factory:
    """A variant by name. Raises ConfigError with the known names on a miss.

    Example:
        >>> get_variant("cam") is cam
        True
    """
    try:
        return VARIANTS[name]
    except KeyError:
        raise ConfigError(f"maps.variant: unknown {name!r}; the variants are: {', '.join(VARIANTS)}") from None
