"""The segmenter, taught by pseudo masks (docs/method.md, 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recamlabel.core.classes import BACKGROUND_ID
from recamlabel.core.ranks import batch_total, own_chance
from recamlabel.data.batches import Batch
from recamlabel.models.segmenter import Segmenter, parameter_groups
from recamlabel.segment.config import SegmenterConfig
from recamlabel.training.cutmix import draw_boxes, paste


class SegmenterObjective:
    """Cross-entropy over the pixels that are not ignored, each image weighted by its mask's quality.

    From the step on at which a share ``correction_start`` of the schedule is done, a pixel whose
    prediction contradicts its label with a probability above ``correction`` takes the predicted
    label, if that is a label of the image: networks learn the clean part of noisy labels first
    (Liu et al., "Adaptive Early-Learning Correction", CVPR 2022).

    With ``cutmix``, that share of the crops has a box of another crop pasted in, labels and weights with it:
    a network that sees objects outside their usual surroundings learns less of the labels' errors by heart.

    Args:
        net: The segmenter, trained in place.
        config: Rates and what is done against noise.
        ignore_id: Mask value of pixels that take no part.
        steps: Optimiser steps of the schedule.
        background: False: the first class takes no part, and no pixel is ever taught or corrected to be it.
    """

    name = "segmenter"

    def __init__(self, net: Segmenter, config: SegmenterConfig, ignore_id: int, steps: int, background: bool) -> None:
        self.module, self.config, self.ignore_id = net, config, ignore_id
        self.first = 0 if background else 1
        self.first_corrected = round(config.correction_start * steps)

    @property
    def network(self) -> Segmenter:
        """All of it."""
        return self.module

    @property
    def frozen(self) -> bool:
        """It learns."""
        return False

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Encoder at ``lr``, decoder at ``lr * head_lr_factor``."""
        return [dict(group) for group in parameter_groups(self.module, self.config.lr, self.config.head_lr_factor)]

    def loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Weighted cross-entropy; logs the share of pixels that are right, and that were corrected."""
        assert batch.seeds is not None
        images, target = batch.images, batch.seeds.long()
        # A class that may be in the image is a candidate; the background, where there is one, always is.
        possible = F.pad(batch.labels != 0, (1, 0), value=True)[:, self.first :, None, None]
        weights = torch.ones_like(target[:, :1, :1], dtype=torch.float32)
        if batch.weights is not None:
            weights = weights * batch.weights.to(weights)[:, None, None]
        if self.config.cutmix:
            count, height, width = target.shape
            boxes = draw_boxes(batch.total or count, height, width, self.config.cutmix)
            boxes = boxes[batch.slots or slice(None)].to(target.device, non_blocking=True)
            images, target, possible, weights = (paste(part, boxes) for part in (images, target, possible, weights))
        own_chance()
        logits = self.module(images).float()[:, self.first :]
        taught = (target != self.ignore_id) & (target >= self.first)
        target = target - self.first
        corrected = torch.zeros((), device=logits.device)
        if self.config.correction < 1 and batch.step >= self.first_corrected:
            target, changed = self._correct(logits.detach(), target, taught, possible)
            corrected = changed.sum() / batch_total(taught.sum())
        losses = F.cross_entropy(
            logits,
            target.masked_fill(~taught, BACKGROUND_ID),
            reduction="none",
            label_smoothing=self.config.label_smoothing,
        )
        weight = taught * weights
        loss = (losses * weight).sum() / batch_total(weight.sum(), least=1e-6)
        right = ((logits.argmax(dim=1) == target) & taught).sum() / batch_total(taught.sum())
        return loss, {"accuracy": right, "corrected": corrected}

    def _correct(self, logits: Tensor, target: Tensor, known: Tensor, possible: Tensor) -> tuple[Tensor, Tensor]:
        probability, choice = logits.masked_fill(~possible, -torch.inf).softmax(dim=1).max(dim=1)
        changed = known & (choice != target) & (probability > self.config.correction)
        return torch.where(changed, choice, target), changed
