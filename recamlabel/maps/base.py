"""What a class-map variant is, and the registry of them.

A variant is one module: a factory that takes :class:`MapRequest` and returns a :class:`MapSource`.
Most are network variants (:mod:`recamlabel.maps.multiscale` adds the scales and flips);
``precomputed`` reads a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from recamlabel.adapters.base import LabelledImage
from recamlabel.core.classes import ClassTable
from recamlabel.core.plugins import FlawError, blame, check_scores
from recamlabel.errors import ConfigError
from recamlabel.maps.config import MapsConfig
from recamlabel.models.backbones import Backbone

Sample = tuple[np.ndarray, list[int]]
"""A training image ``(H, W, 3) uint8`` and the class indices 0..K-1 of its labels."""


class MapSource(Protocol):
    """Gives the class maps of images."""

    def maps(
        self, images: Sequence[LabelledImage], pixels: list[np.ndarray], classes: list[list[int]]
    ) -> dict[str, list[np.ndarray]]:
        """Normalised maps of each image's own classes.

        Args:
            images: B images.
            pixels: Their pixels ``(H, W, 3) uint8``, all of one size.
            classes: Class indices 0..K-1 of each image's labels; may be empty.

        Returns:
            By name of the maps (``cam``, ``recam``) B arrays ``(C_b, h, w) float16`` in [0, 1].
        """
        ...


@dataclass(frozen=True)
class MapRequest:
    """Everything a variant may use.

    Attributes:
        backbone: In eval mode, on its device.
        heads: Classifier weight ``(K, D)`` by name of the maps it makes.
        config: Scales, flip, sizes, settings of the variants.
        table: The classes.
        samples: Reads a few training images a class, for variants that learn from the data set.
        amp: bf16 where the device is quick at it.
        seed: Of variants that draw.
        normal: Reads training images that are known to hold nothing, ``(H, W, 3) uint8`` each; none by default.
    """

    backbone: Backbone
    heads: Mapping[str, Tensor]
    config: MapsConfig
    table: ClassTable
    samples: Callable[[], Iterable[Sample]]
    amp: bool = False
    seed: int = 0
    normal: Callable[[], Iterable[np.ndarray]] = tuple


Factory = Callable[[MapRequest], MapSource]


def guarded(factory: Factory, who: str) -> Factory:
    """Another package's variant; what it raises, and maps that are none, are told as that package's fault."""

    def make(request: MapRequest) -> MapSource:
        with blame(who, ConfigError):
            source = factory(request)
            if not callable(getattr(source, "maps", None)):
                raise FlawError(f"gave a {type(source).__name__}; expected a MapSource, which has a method maps")
        return _Guarded(source, who, tuple(request.heads))

    return make


@dataclass(frozen=True)
class _Guarded:
    """A source of another package, whose maps are looked at before they are stored."""

    source: MapSource
    who: str
    heads: tuple[str, ...]

    def maps(
        self, images: Sequence[LabelledImage], pixels: list[np.ndarray], classes: list[list[int]]
    ) -> dict[str, list[np.ndarray]]:
        """As the source. Raises ConfigError for whatever it raises or gives that is no map."""
        with blame(self.who, ConfigError):
            made = self.source.maps(images, pixels, classes)
            if not isinstance(made, Mapping) or set(made) != set(self.heads):
                found = sorted(made) if isinstance(made, Mapping) else type(made).__name__
                raise FlawError(f"gave maps by the names {found}; expected those of the heads: {sorted(self.heads)}")
            return {name: self._checked(name, list(rows), classes) for name, rows in made.items()}

    def _checked(self, name: str, rows: list[np.ndarray], classes: list[list[int]]) -> list[np.ndarray]:
        if len(rows) != len(classes):
            raise FlawError(f"gave {len(rows)} {name} maps for {len(classes)} images; expected one for each")
        what = f"{name} maps"
        return [
            check_scores(maps, (len(own), None, None), what).astype(np.float16)
            for maps, own in zip(rows, classes, strict=True)
        ]
