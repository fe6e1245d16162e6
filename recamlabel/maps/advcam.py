"""AdvCAM: Lee et al., "Anti-Adversarially Manipulated Attributions", CVPR 2021 (arXiv 2103.08896).

The image climbs the class's logit in small steps, and the maps along the way are added, so that
regions light up that the classifier did not need (equations 3 to 7). The regularisation keeps what is
bright already from growing on its own account.

One step costs a backward pass per class: some ten times the cost of CAM with the default steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from recamlabel.maps.base import MapRequest
from recamlabel.maps.multiscale import MapNet, NetworkMaps, NetworkVariant
from recamlabel.models.cam import class_activation, class_logits, normalise_by_max

STEP_SIZE = 0.008  # xi of the paper
BRIGHT = 0.5  # tau of the paper
REGULARISATION = 7.0  # lambda of the paper


class AdvCam(NetworkVariant):
    """The sum of the class's CAM over the images along the climb.

    Args:
        steps: Climbing steps (the paper uses 27); 0 is plain CAM.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def from_features(self, name: str, features: Tensor, weight: Tensor, classes: Sequence[int]) -> Tensor:
        """CAM: one term of the sum."""
        return class_activation(features, weight, keep=torch.as_tensor(list(classes)))

    def raw_maps(self, net: MapNet, images: Tensor, classes: Sequence[int]) -> Tensor:
        """See :class:`NetworkVariant`; each class of each head has a climb of its own."""
        # As in training, bf16 does not pay on a CPU where there are gradients.
        exact = torch.autocast("cpu", enabled=False) if images.device.type == "cpu" else nullcontext()
        with exact:
            climbs = [self._climb(net, weight, images, number) for weight in net.heads.values() for number in classes]
        return torch.cat(climbs, dim=1)

    def _climb(self, net: MapNet, weight: Tensor, images: Tensor, number: int) -> Tensor:
        features = net.backbone(images).float()
        total = self.from_features("", features, weight, [number])
        first, moving = normalise_by_max(total), images
        for _ in range(self.steps):
            moving = moving + STEP_SIZE * self._direction(net, weight, moving, number, first)
            total = total + self.from_features("", net.backbone(moving).float(), weight, [number])
        return total

    @staticmethod
    def _direction(net: MapNet, weight: Tensor, images: Tensor, number: int, first: Tensor) -> Tensor:
        """Gradient of ``y_k - sum of the other logits - lambda |M (CAM - CAM_0)|_1`` in the images."""
        with torch.enable_grad():
            images = images.detach().requires_grad_()
            features = net.backbone(images).float()
            logits = class_logits(features, weight)
            maps = normalise_by_max(class_activation(features, weight[number : number + 1]))
            bright = (maps.detach() > BRIGHT).to(maps.dtype)
            cost = (bright * (maps - first).abs()).sum()
            aim = 2 * logits[:, number].sum() - logits.sum() - REGULARISATION * cost
            return torch.autograd.grad(aim, images)[0]


def advcam(request: MapRequest) -> NetworkMaps:
    """AdvCAM with ``maps.advcam_steps`` steps."""
    variant = AdvCam(request.config.advcam_steps)
    return NetworkMaps(MapNet(request.backbone, request.heads, variant), request.config, request.amp)
