"""Stage 1: the multi-label classifier whose weights make the class maps (docs/method.md, 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recamlabel.core.ranks import batch_total
from recamlabel.data.batches import Batch
from recamlabel.models.backbones import Backbone
from recamlabel.models.losses import masked_multilabel_loss
from recamlabel.models.networks import ClassifierNet
from recamlabel.training.config import ClassifierConfig


class ClassifierObjective:
    """BCE over the known labels; the head learns ``head_lr_factor`` times as fast as the backbone.

    Args:
        net: The classifier, trained in place.
        config: Rates.
        positive_weights: ``(K,)`` weights of the present labels in the loss; None: 1 each.
    """

    name = "classifier"

    def __init__(
        self, net: ClassifierNet, config: ClassifierConfig, positive_weights: NDArray[np.floating] | None = None
    ) -> None:
        self.module, self.config = net, config
        self.positive_weights = None if positive_weights is None else torch.from_numpy(positive_weights)

    @property
    def network(self) -> ClassifierNet | None:
        """All of it; None where batches hold features already."""
        return self.module if isinstance(self.module.backbone, Backbone) else None

    @property
    def frozen(self) -> bool:
        """It learns."""
        return False

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Backbone at ``lr``, FC1 at ``lr * head_lr_factor``."""
        backbone = self.module.backbone
        learnt = isinstance(backbone, Backbone)
        return [
            *(backbone.rate_groups(self.config.lr, self.config.layer_decay) if learnt else []),
            {"params": list(self.module.head.parameters()), "lr": self.config.lr * self.config.head_lr_factor},
        ]

    def loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """BCE; logs the share of known labels whose sign is right."""
        logits = self.module(batch.images)
        known = batch.labels >= 0
        with torch.no_grad():
            right = ((logits > 0) == (batch.labels > 0)) & known
            accuracy = right.sum() / batch_total(known.sum())
        return masked_multilabel_loss(logits, batch.labels, self.positive_weights), {"accuracy": accuracy}
