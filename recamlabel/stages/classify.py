"""Stages ``classifier`` and ``recam``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from recamlabel.maps.stored import MapStore
from recamlabel.stages.base import (
    CLASSIFIER_WEIGHTS,
    RECAM_WEIGHTS,
    StageContext,
    load_classifier,
    make_batches,
    new_classifier,
    run_training,
    save_trained,
)
from recamlabel.training.objectives.classifier import ClassifierObjective
from recamlabel.training.objectives.recam import RecamNet, RecamObjective
from recamlabel.training.weights import load_backbone_weights


def run_classifier(context: StageContext) -> Mapping[str, Any]:
    """Train the classifier from ImageNet weights."""
    config = context.config
    torch.manual_seed(config.seed)
    net = new_classifier(context)
    load_backbone_weights(net.backbone, config.backbone.weights)
    batches = make_batches(context, config.classifier, net.backbone, offset=0)
    last = run_training(context, ClassifierObjective(net, config.classifier), batches, config.classifier)
    save_trained(context, CLASSIFIER_WEIGHTS, net)
    return last


def run_recam(context: StageContext) -> Mapping[str, Any]:
    """Re-activate from the converged classifier; its masks are the maps of ``maps.variant``.

    Plain CAM is computed on every training crop, as published; the maps of other variants are read
    from ``cams.h5`` and cut like the crop.
    """
    torch.manual_seed(context.config.seed + 1)
    net = RecamNet(load_classifier(context), context.config.recam, context.config.data.background)
    plain = context.config.maps.variant == "cam"
    masks = None if plain else MapStore(context.run.path / "cams.h5", len(context.catalog.dataset.classes))
    batches = make_batches(context, context.config.recam, net.classifier.backbone, offset=1, masks=masks)
    last = run_training(context, RecamObjective(net, context.config.recam), batches, context.config.recam)
    save_trained(context, RECAM_WEIGHTS, net)
    return last
