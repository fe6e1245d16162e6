"""Stage 2: softmax re-activation from the converged classifier (METHOD 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from recamlabel.config import RecamConfig
from recamlabel.data.batches import Batch
from recamlabel.models.cam import class_logits
from recamlabel.models.combine import combine_weights
from recamlabel.models.losses import masked_multilabel_loss
from recamlabel.models.recam import ReCamHead
from recamlabel.training.objectives.classifier import ClassifierNet


class RecamNet(nn.Module):
    """A classifier and the softmax head FC2 on top of it.

    Args:
        classifier: The converged classifier; trained on, in place.
        background: False where every pixel belongs to a labelled class.
        config: Where FC2 starts and how the two weights are combined.
    """

    def __init__(self, classifier: ClassifierNet, config: RecamConfig, background: bool = True) -> None:
        super().__init__()
        self.classifier = classifier
        classes, channels = classifier.head.weight.shape
        fc1, extra = classifier.head.weight, config.background and background
        self.head = ReCamHead(classes, channels, config.head_init, fc1, extra)
        self.combine = config.combine

    def map_weight(self) -> Tensor:
        """The ``(K, D)`` weight of the ReCAM maps."""
        return combine_weights(self.classifier.head.weight, self.head.weight, self.combine)


class RecamObjective:
    """``L = L_bce + loss_weight * L_sce``; FC2 learns fast, backbone and FC1 slowly or not at all."""

    name = "recam"

    def __init__(self, net: RecamNet, config: RecamConfig) -> None:
        self.module, self.config = net, config

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
        bce = masked_multilabel_loss(class_logits(features, fc1), batch.labels)
        sce, accuracy = self.module.head(
            features,
            fc1,
            batch.labels,
            maps=None if batch.masks is None else batch.masks.float(),
            label_smoothing=self.config.label_smoothing,
            competing=self.config.competing,
        )
        return bce + self.config.loss_weight * sce, {"loss_bce": bce, "loss_sce": sce, "accuracy": accuracy}
