"""Stage ``recam``: the softmax re-activation of the converged classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recamlabel.maps.stored import MapStore
from recamlabel.models.losses import rare_class_weights
from recamlabel.models.networks import RecamNet
from recamlabel.models.recam import balanced_weights, softmax_labels
from recamlabel.stages.cost import Cost, crop_pixels, crops_read, steps_of
from recamlabel.stages.crops import CACHED_STEP, cached, is_cached
from recamlabel.stages.graph import Scope, Stage, but
from recamlabel.stages.networks import BACKBONE, RECAM_WEIGHTS, load_classifier
from recamlabel.stages.training import make_batches, run_training, save_trained
from recamlabel.stages.view import View
from recamlabel.storage.places import CAMS_FILE
from recamlabel.training.config import RecamConfig
from recamlabel.training.objectives.recam import RecamObjective


def run_recam(view: View) -> Mapping[str, Any]:
    """Re-activate from the converged classifier; its masks are the maps of ``maps.variant``.

    Plain CAM is computed on every training crop, as published; the maps of other variants are read
    from ``cams.h5`` and cut like the crop.
    """
    torch.manual_seed(view.config.seed + 1)
    net = RecamNet(load_classifier(view), view.config.recam, view.config.data.background)
    plain = view.config.maps.variant == "cam"
    masks = None if plain else MapStore(view.run.path / CAMS_FILE, len(view.catalog.dataset.classes))
    batches = make_batches(view, view.config.recam, net.classifier.backbone, offset=1, masks=masks)
    labels = view.catalog.dataset.labels(view.catalog.training_images(view.config.data.train_splits))
    # The classifier goes on learning what it learnt, where it learns at all.
    weights = rare_class_weights(labels, view.config.classifier.rare_weight)
    rivals = net.head.weight.shape[0]
    balance = view.config.recam.class_balance
    balanced = balanced_weights(labels, rivals > labels.shape[1], balance) if balance else None
    classifier, batches = cached(view, net.classifier, batches)
    objective = RecamObjective(net.on(classifier), view.config.recam, weights, balanced)
    # Of equally likely classes, which is what the softmax head starts from; fewer of them where not all compete.
    guess = math.log(rivals) if rivals > 1 and view.config.recam.competing == "all" else None
    if guess is not None and balanced is not None:
        guess *= weight_of_a_pair(labels, balanced)
    facts = run_training(view, objective, batches, view.config.recam, guess, "loss_sce")
    save_trained(view, RECAM_WEIGHTS, net)
    return facts


def weight_of_a_pair(labels: NDArray[np.integer], weights: NDArray[np.floating]) -> float:
    """Mean weight of an image's labels, over the images that have any: the loss of guessing grows with it.

    Example:
        >>> weight_of_a_pair(np.array([[1, 1], [1, 0]]), np.array([1.0, 3.0]))
        1.5
    """
    present = softmax_labels(labels, len(weights) > labels.shape[1])
    rows = present[present.any(axis=1)]
    return float((rows @ weights / rows.sum(axis=1)).mean()) if len(rows) else 1.0


def _cost(scope: Scope) -> Cost:
    schedule = scope.config.recam
    pixels, read = crop_pixels(scope, schedule), crops_read(scope, schedule)
    if is_cached(scope.config):
        return Cost(fixed=CACHED_STEP * steps_of(scope, schedule))
    # Where the backbone is kept, nothing goes back through it.
    return Cost(forward=pixels, read=read) if schedule.backbone_lr_factor == 0 else Cost(training=pixels, read=read)


STAGE = Stage(
    "recam",
    4,
    run_recam,
    "softmax re-activation of the classifier",
    needs=("classifier", "cams", "crops"),
    reads=(
        *BACKBONE,
        *but(RecamConfig, "recam", "combine", "min_agreement"),
        "classifier.rare_weight",
        "augment",
        "seed",
        "maps.variant",
        "data.background",
        "data.train_splits",
    ),
    makes=(RECAM_WEIGHTS,),
    facts=lambda scope: {"training": scope.training},
    shared=True,
    cost=_cost,
)
