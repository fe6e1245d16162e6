"""Grad-CAM++: Chattopadhay et al., "Grad-CAM++", WACV 2018 (arXiv 1710.11063), equations 10 and 19.

With the exponential of logit k as the score, the pixel weights are
``alpha_c = g_c^2 / (2 g_c^2 + sum(f_c) g_c^3)`` with ``g_c = dy_k / df_c``. Behind global average
pooling ``g_c = W_kc / (h w)`` at every pixel, so that the channel weight ``sum(alpha_c relu(g_c))`` is
``relu(W_kc) / (2 + W_kc mean(f_c))``: no backward pass. (The tests compare with autograd.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recamlabel.maps.base import MapRequest
from recamlabel.maps.multiscale import MapNet, NetworkMaps, NetworkVariant


class GradCamPlusPlus(NetworkVariant):
    """``relu(w_k . f)`` with the image's own channel weights."""

    def from_features(self, name: str, features: Tensor, weight: Tensor, classes: Sequence[int]) -> Tensor:
        """See :class:`NetworkVariant`."""
        rows = weight[list(classes)].relu()
        mean = features.mean(dim=(2, 3))
        # Only positive weights count, and features are >= 0 as a rule; the bound keeps others finite.
        channel = rows[None] / (2 + rows[None] * mean[:, None].clamp(min=0))
        maps = torch.bmm(channel, features.flatten(2)).relu()
        return maps.view(*maps.shape[:2], *features.shape[2:])


def gradcam_pp(request: MapRequest) -> NetworkMaps:
    """Grad-CAM++ of the last features."""
    return NetworkMaps(MapNet(request.backbone, request.heads, GradCamPlusPlus()), request.config, request.amp)
