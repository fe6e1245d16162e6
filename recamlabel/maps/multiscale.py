"""Class maps summed over scales and flips (docs/method.md, 1, inference)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recamlabel.adapters.base import LabelledImage
from recamlabel.core.devices import looking
from recamlabel.data.batches import Normalisation
from recamlabel.maps.config import MapsConfig
from recamlabel.models.backbones import Backbone
from recamlabel.models.cam import normalise_by_max
from recamlabel.models.inputs import Pixels, input_size, working_size


class NetworkVariant(ABC):
    """How one pass through the network gives class maps at one input size."""

    @abstractmethod
    def from_features(self, name: str, features: Tensor, weight: Tensor, classes: Sequence[int]) -> Tensor:
        """Raw maps out of the last features.

        Args:
            name: Name of the maps, as in :attr:`MapNet.heads`.
            features: ``(B, D, h, w) float32``.
            weight: ``(K, D)``, all classes.
            classes: Indices 0..K-1 of the C classes that are wanted.

        Returns:
            ``(B, C, h, w)``, >= 0.
        """

    def raw_maps(self, net: MapNet, images: Tensor, classes: Sequence[int]) -> Tensor:
        """Raw maps ``(B, heads * C, h, w)``, head by head; all heads share one pass by default."""
        features = net.backbone(images).float()
        made = [self.from_features(name, features, weight, classes) for name, weight in net.heads.items()]
        return torch.cat(made, dim=1)


@dataclass(frozen=True)
class MapNet:
    """A backbone in eval mode and the heads ``(K, D)`` whose maps one pass through it makes.

    Args:
        backbone: Gives the features.
        heads: Weight by name of the maps, such as ``cam`` and ``recam``; all of one shape.
        variant: How a map is made from features and a weight.
    """

    backbone: Backbone
    heads: Mapping[str, Tensor]
    variant: NetworkVariant

    @property
    def normalisation(self) -> Normalisation:
        """Input normalisation of the backbone."""
        return Normalisation(self.backbone.mean, self.backbone.std)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(iter(self.heads.values())).device


@dataclass(frozen=True)
class NetworkMaps:
    """The :class:`recamlabel.maps.base.MapSource` of a network variant: maps over scales and flips."""

    net: MapNet
    config: MapsConfig
    amp: bool = False

    def maps(
        self, images: Sequence[LabelledImage], pixels: list[np.ndarray], classes: list[list[int]]
    ) -> dict[str, list[np.ndarray]]:
        """See :class:`recamlabel.maps.base.MapSource`."""
        return class_maps(pixels, classes, self.net, self.config, self.amp)


def stored_size(height: int, width: int, config: MapsConfig) -> tuple[int, int]:
    """Size of the stored map of an image of ``height x width`` pixels."""
    height, width = working_size(height, width, config.max_side)
    return math.ceil(height / config.stored_stride), math.ceil(width / config.stored_stride)


@torch.no_grad()
def class_maps(
    images: list[np.ndarray], classes: list[list[int]], net: MapNet, config: MapsConfig, amp: bool
) -> dict[str, list[np.ndarray]]:
    """Normalised maps of each image's own classes, for every head of a network.

    Per scale the maps of the image and of its mirror image are summed, resized bilinearly
    to the stored size and summed over scales; then each class is divided by its maximum.

    Args:
        images: B images ``(H, W, 3) uint8`` of one :func:`recamlabel.models.inputs.input_size`.
        classes: Class indices 0..K-1 of each image's labels; may be empty.
        net: Backbone, heads, variant.
        config: Scales, flip, sizes.
        amp: bf16 where the device is quick at it.

    Returns:
        By head name B arrays ``(C_b, h, w) float16`` in [0, 1].
    """
    targets = [stored_size(image.shape[0], image.shape[1], config) for image in images]
    union = sorted({class_index for row in classes for class_index in row})
    if not union:
        return {name: [np.zeros((0, *target), dtype=np.float16) for target in targets] for name in net.heads}
    base = input_size(images[0].shape, config.max_side, net.device)
    pixels = Pixels(images, net.normalisation, net.device)
    rows_of = {target: [row for row, own in enumerate(targets) if own == target] for target in dict.fromkeys(targets)}
    totals: dict[tuple[int, int], Tensor] = {}
    for scale in config.scales:
        size = (max(1, round(base[0] * scale)), max(1, round(base[1] * scale)))
        maps = _maps_at(pixels, size, net, union, config.flip, amp)
        for target, rows in rows_of.items():
            part = maps if len(rows) == len(maps) else maps[rows]
            summand = F.interpolate(part, target, mode="bilinear", align_corners=False)
            totals[target] = totals[target].add_(summand) if target in totals else summand
    normalised: list[np.ndarray] = [np.empty(0)] * len(images)
    for target, rows in rows_of.items():
        made = normalise_by_max(totals[target]).cpu().numpy().astype(np.float16)
        for row, own in zip(rows, made, strict=True):
            normalised[row] = own
    slot_of = {class_index: position for position, class_index in enumerate(union)}
    first_of = dict(zip(net.heads, range(0, len(net.heads) * len(union), len(union)), strict=True))
    return {
        name: [normalised[row][[first + slot_of[index] for index in own]] for row, own in enumerate(classes)]
        for name, first in first_of.items()
    }


def _maps_at(
    pixels: Pixels, size: tuple[int, int], net: MapNet, classes: Sequence[int], flip: bool, amp: bool
) -> Tensor:
    """Raw maps ``(B, C, h, w) float32`` at one input size, mirror images added."""
    inputs, count = pixels.at(*size), len(pixels.images)
    if flip:
        inputs = torch.cat([inputs, inputs.flip(-1)])
    with looking(net.device, amp):
        maps = net.variant.raw_maps(net, inputs.contiguous(memory_format=torch.channels_last), classes).float()
    return maps[:count] + maps[count:].flip(-1) if flip else maps
