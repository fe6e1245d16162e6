"""The affinity net on a frozen ImageNet backbone, taught by confident seeds (METHOD 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recamlabel.config import AffinityConfig
from recamlabel.data.batches import Batch
from recamlabel.errors import RecamlabelError
from recamlabel.models.affinity import DISPLACEMENT_CHANNELS, AffinityNet, affinity_losses
from recamlabel.models.affinity_pairs import pair_paths
from recamlabel.models.backbones import Backbone

PROBE_SIDE = 64


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


class AffinityObjective:
    """Losses over pixel pairs; the displacement branch learns ``displacement_lr_factor`` times as fast."""

    name = "affinity"

    def __init__(self, net: AffinityFeatures, config: AffinityConfig, ignore_id: int) -> None:
        self.net, self.module, self.config, self.ignore_id = net, net.head, config, ignore_id
        self.paths = pair_paths(config.radius)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Boundary branch at ``lr``, displacement branch at ``lr * displacement_lr_factor``."""
        named = list(self.module.named_parameters())
        edge = [value for name, value in named if name.startswith("edge")]
        other = [value for name, value in named if not name.startswith("edge")]
        return [
            {"params": edge, "lr": self.config.lr},
            {"params": other, "lr": self.config.lr * self.config.displacement_lr_factor},
        ]

    def loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Total loss; logs its parts. 0 where a batch has no pair of sure pixels."""
        if batch.seeds is None:
            raise RecamlabelError("the affinity net is trained on seeds, but the batch has none")
        edge, displacement = self.module(self.net.features(batch.images))
        seeds = F.interpolate(batch.seeds[:, None].float(), size=edge.shape[2:], mode="nearest")[:, 0].long()
        losses = affinity_losses(edge, displacement, seeds, self.paths, self.ignore_id)
        figures = losses._asdict()
        # Of the boundary branch alone: the displacements have no level that guessing reaches.
        figures["boundary"] = ((losses.pos_bg + losses.pos_fg) / 2 + losses.neg) / 2
        return figures.pop("total"), figures
