"""The affinity net on a frozen ImageNet backbone, taught by confident seeds (docs/method.md, 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from recamlabel.data.batches import Batch
from recamlabel.errors import RecamlabelError
from recamlabel.models.affinity import affinity_losses
from recamlabel.models.affinity_pairs import pair_paths
from recamlabel.models.networks import AffinityFeatures
from recamlabel.refine.config import AffinityConfig


class AffinityObjective:
    """Losses over pixel pairs; the displacement branch learns ``displacement_lr_factor`` times as fast."""

    name = "affinity"

    def __init__(self, net: AffinityFeatures, config: AffinityConfig, ignore_id: int) -> None:
        self.net, self.module, self.config, self.ignore_id = net, net.head, config, ignore_id
        self.paths = pair_paths(config.radius)

    @property
    def network(self) -> None:
        """The backbone is frozen and the losses choose among pairs: nothing of one shape."""
        return None

    @property
    def frozen(self) -> bool:
        """See :class:`recamlabel.training.loop.Objective`."""
        return False

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
