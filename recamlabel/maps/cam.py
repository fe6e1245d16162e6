"""CAM: Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016 (docs/method.md, 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recamlabel.maps.base import MapRequest
from recamlabel.maps.multiscale import MapNet, NetworkMaps, NetworkVariant
from recamlabel.models.cam import class_activation


class Cam(NetworkVariant):
    """``relu(W_k . f)``."""

    def from_features(self, name: str, features: Tensor, weight: Tensor, classes: Sequence[int]) -> Tensor:
        """See :class:`NetworkVariant`."""
        return class_activation(features, weight, keep=torch.as_tensor(list(classes)))


def cam(request: MapRequest) -> NetworkMaps:
    """Class activation maps."""
    return NetworkMaps(MapNet(request.backbone, request.heads, Cam()), request.config, request.amp)
