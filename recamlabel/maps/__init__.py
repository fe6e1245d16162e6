"""Images and weights to soft class maps: variants by name.

A new variant is one module with a factory, and a line in ``VARIANTS``; another package adds its own by an entry point
of the group ``recamlabel.variants``.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

from recamlabel.core.plugins import owner
from recamlabel.core.registry import Registry, called

if TYPE_CHECKING:
    from recamlabel.maps.base import Factory

__all__ = ["VARIANTS", "get_variant"]


def _adopt(thing: Any, point: EntryPoint) -> Factory:
    from recamlabel.maps.base import guarded

    return guarded(called(thing, point), f"variant {point.name!r} of {owner(point)}")


# Names of places, as importing them loads torch, which settings alone do not need.
VARIANTS: Registry[Factory] = Registry(
    "maps.variant",
    "variant",
    {
        "cam": "recamlabel.maps.cam:cam",
        "layercam": "recamlabel.maps.layercam:layercam",
        "gradcam++": "recamlabel.maps.gradcam_pp:gradcam_pp",
        "lpcam": "recamlabel.maps.lpcam:lpcam",
        "advcam": "recamlabel.maps.advcam:advcam",
        "patchmemory": "recamlabel.maps.patchmemory.source:patchmemory",
        "precomputed": "recamlabel.maps.precomputed:precomputed",
    },
    "recamlabel.variants",
    _adopt,
)


def get_variant(name: str) -> Factory:
    """A variant by name. Raises ConfigError with the known names on a miss.

    Example:
        >>> get_variant("cam").__name__
        'cam'
    """
    return VARIANTS.find(name)
