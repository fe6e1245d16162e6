"""The trained networks as the stages hand them on: a backbone and its heads."""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor, nn

from recamlabel.models.affinity import DISPLACEMENT_CHANNELS, AffinityNet
from recamlabel.models.backbones import Backbone
from recamlabel.models.cam import CamHead
from recamlabel.models.combine import combine_weights
from recamlabel.models.recam import ReCamHead
from recamlabel.training.config import RecamConfig

PROBE_SIDE = 64


class ClassifierNet(nn.Module):
    """A backbone and FC1.

    Args:
        backbone: Feature extractor with D channels.
        classes: K, at least 1.
    """

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = CamHead(classes, backbone.channels)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` of normalised images ``(B, 3, H, W)``."""
        logits: Tensor = self.head(self.backbone(images).float())
        return logits


class RecamNet(nn.Module):
    """A classifier and the softmax head FC2 on top of it.

    Args:
        classifier: The converged classifier; trained on, in place.
        background: False where every pixel belongs to a labelled class.
        config: Where FC2 starts.
    """

    def __init__(self, classifier: ClassifierNet, config: RecamConfig, background: bool) -> None:
        super().__init__()
        self.classifier = classifier
        classes, channels = classifier.head.weight.shape
        fc1, extra = classifier.head.weight, config.background and background
        self.head = ReCamHead(classes, channels, config.head_init, fc1, extra)

    def on(self, classifier: ClassifierNet) -> RecamNet:
        """The same head on another classifier; what one learns the other has learnt."""
        other = copy(self)
        other._modules = {**self._modules, "classifier": classifier}
        return other

    def map_weight(self, combine: str) -> Tensor:
        """The ``(K, D)`` weight of the ReCAM maps, by a rule of :mod:`recamlabel.models.combine`."""
        return combine_weights(self.classifier.head.weight, self.head.weight, combine)


class AffinityFeatures:
    """A frozen backbone in eval mode and an affinity net for its deepest depths, at most 5.

    Args:
        backbone: With its ImageNet weights; never trained here.

    Attributes:
        head: The affinity net, which is trained and saved.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone.eval().requires_grad_(False)
        device = next(backbone.parameters()).device
        probed = self.features(torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE, device=device))
        self.head = AffinityNet([f.shape[1] for f in probed], [PROBE_SIDE // f.shape[2] for f in probed])

    @torch.no_grad()
    def features(self, images: Tensor) -> list[Tensor]:
        """Depths ``(B, D_i, h_i, w_i)``, shallow to deep, of normalised images ``(B, 3, H, W)``."""
        return self.backbone.pyramid(images)[-len(DISPLACEMENT_CHANNELS) :]
