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
