"""Stage 2: softmax re-activation from the converged classifier (docs/method.md, 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recamlabel.data.batches import Batch
from recamlabel.models.backbones import Backbone
from recamlabel.models.cam import class_logits
from recamlabel.models.losses import masked_multilabel_loss
from recamlabel.models.networks import RecamNet
from recamlabel.training.config import RecamConfig


class RecamObjective:
    """``L = L_bce + loss_weight * L_sce``; FC2 learns fast, backbone and FC1 slowly or not at all.

    Args:
        net: The classifier with its softmax head, trained in place.
        config: Rates and the form of the softmax.
        positive_weights: ``(K,)`` of the BCE, as the classifier was trained with; None: 1 each.
        class_weights: Of the softmax, :func:`recamlabel.models.recam.balanced_weights`; None: 1 each.
    """

    name = "recam"

    def __init__(
        self,
        net: RecamNet,
        config: RecamConfig,
        positive_weights: NDArray[np.floating] | None = None,
        class_weights: NDArray[np.floating] | None = None,
    ) -> None:
        self.module, self.config = net, config
        self.class_weights = None if class_weights is None else torch.from_numpy(class_weights)
        self.positive_weights = None if positive_weights is None else torch.from_numpy(positive_weights)

    @property
    def network(self) -> Backbone | None:
        """The backbone: FC1 and FC2 see its features; None where batches hold those already."""
        backbone = self.module.classifier.backbone
        return backbone if isinstance(backbone, Backbone) else None

    @property
    def frozen(self) -> bool:
        """Whether only FC2 learns."""
        return self.config.backbone_lr_factor == 0

    def parameter_groups(self) -> list[dict[str, Any]]:
        """FC2 at ``lr``, the rest at ``lr * backbone_lr_factor``, or not at all where that is 0."""
        groups: list[dict[str, Any]] = [{"params": list(self.module.head.parameters()), "lr": self.config.lr}]
        if not self.frozen:
            slow = [parameter for parameter in self.module.classifier.parameters() if parameter.requires_grad]
            groups.append({"params": slow, "lr": self.config.lr * self.config.backbone_lr_factor})
        return groups

    def loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Joint loss; logs both parts and the softmax head's accuracy over (image, label) pairs."""
        classifier = self.module.classifier
        # Without a gradient the backbone costs a quarter.
        with torch.set_grad_enabled(not self.frozen):
            features = classifier.backbone(batch.images).float()
        fc1 = classifier.head.weight.detach() if self.frozen else classifier.head.weight
        bce = masked_multilabel_loss(class_logits(features, fc1), batch.labels, self.positive_weights)
        sce, accuracy = self.module.head(
            features,
            fc1,
            batch.labels,
            maps=None if batch.masks is None else batch.masks.float(),
            label_smoothing=self.config.label_smoothing,
            competing=self.config.competing,
            width=batch.most_labels,
            class_weights=None if self.class_weights is None else self.class_weights.to(features, non_blocking=True),
        )
        return bce + self.config.loss_weight * sce, {"loss_bce": bce, "loss_sce": sce, "accuracy": accuracy}
