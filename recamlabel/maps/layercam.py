"""LayerCAM: Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps", TIP 2021.

At the last features, where global average pooling is all that stands between them and the
logit, the gradient of logit k is ``W_k / (h w)`` at every pixel, so equation 4 of the paper,
``relu(sum_c relu(dy_k / df_c) f_c)``, needs no backward pass. (The tests compare with autograd.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recamlabel.maps.base import MapRequest
from recamlabel.maps.multiscale import MapNet, NetworkMaps, NetworkVariant
from recamlabel.models.cam import class_activation


class LayerCam(NetworkVariant):
    """``relu(relu(W_k) . f) / (h w)``."""

    def from_features(self, name: str, features: Tensor, weight: Tensor, classes: Sequence[int]) -> Tensor:
        """See :class:`NetworkVariant`."""
        pixels = features.shape[2] * features.shape[3]
        return class_activation(features, weight.relu() / pixels, keep=torch.as_tensor(list(classes)))


def layercam(request: MapRequest) -> NetworkMaps:
    """LayerCAM of the last features."""
    return NetworkMaps(MapNet(request.backbone, request.heads, LayerCam()), request.config, request.amp)
