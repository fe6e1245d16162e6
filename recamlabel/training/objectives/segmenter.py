"""The segmenter, taught by pseudo masks (METHOD 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recamlabel.classes import BACKGROUND_ID
from recamlabel.config import SegmenterConfig
from recamlabel.data.batches import Batch
from recamlabel.models.segmenter import Segmenter, parameter_groups


class SegmenterObjective:
    """Cross-entropy over the pixels that are not ignored, each image weighted by its mask's quality.

    From the step on at which a share ``correction_start`` of the schedule is done, a pixel whose
    prediction contradicts its label with a probability above ``correction`` takes the predicted
    label, if that is a label of the image: networks learn the clean part of noisy labels first
    (Liu et al., "Adaptive Early-Learning Correction", CVPR 2022).

    Args:
        net: The segmenter, trained in place.
        config: Rates and what is done against noise.
        ignore_id: Mask value of pixels that take no part.
        steps: Optimiser steps of the schedule.
    """

    name = "segmenter"

    def __init__(self, net: Segmenter, config: SegmenterConfig, ignore_id: int, steps: int) -> None:
        self.module, self.config, self.ignore_id = net, config, ignore_id
        self.first_corrected = round(config.correction_start * steps)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Encoder at ``lr``, decoder at ``lr * head_lr_factor``."""
        return [dict(group) for group in parameter_groups(self.module, self.config.lr, self.config.head_lr_factor)]

    def loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Weighted cross-entropy; logs the share of pixels that are right, and that were corrected."""
        assert batch.seeds is not None
        logits = self.module(batch.images).float()
        target = batch.seeds.long()
        known = target != self.ignore_id
        corrected = torch.zeros((), device=logits.device)
        if self.config.correction < 1 and batch.step >= self.first_corrected:
            target, changed = self._correct(logits.detach(), target, known, batch.labels)
            corrected = changed.sum() / known.sum().clamp(min=1)
        losses = F.cross_entropy(
            logits,
            target.masked_fill(~known, BACKGROUND_ID),
            reduction="none",
            label_smoothing=self.config.label_smoothing,
        )
        weight = known.float()
        if batch.weights is not None:
            weight = weight * batch.weights.to(weight)[:, None, None]
        loss = (losses * weight).sum() / weight.sum().clamp(min=1e-6)
        right = ((logits.argmax(dim=1) == target) & known).sum() / known.sum().clamp(min=1)
        return loss, {"accuracy": right, "corrected": corrected}

    def _correct(self, logits: Tensor, target: Tensor, known: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        # A class that may be in the image is a candidate; the background always is.
        possible = F.pad(labels != 0, (1, 0), value=True)[:, :, None, None]
        probability, choice = logits.masked_fill(~possible, -torch.inf).softmax(dim=1).max(dim=1)
        changed = known & (choice != target) & (probability > self.config.correction)
        return torch.where(changed, choice, target), changed
