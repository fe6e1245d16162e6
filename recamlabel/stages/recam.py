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
from recamlabel.models.recam import prior_offsets
from recamlabel.stages.cost import Cost, crop_pixels, crops_read
from recamlabel.stages.graph import Scope, Stage, but
from recamlabel.stages.networks import BACKBONE, RECAM_WEIGHTS, load_classifier
from recamlabel.stages.training import make_batches, run_training, save_trained
from recamlabel.stages.view import View
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
    masks = None if plain else MapStore(view.run.path / "cams.h5", len(view.catalog.dataset.classes))
    batches = make_batches(view, view.config.recam, net.classifier.backbone, offset=1, masks=masks)
    labels = view.catalog.dataset.labels(view.catalog.training_images(view.config.data.train_splits))
    # The classifier goes on learning what it learnt, where it learns at all.
    weights = rare_class_weights(labels, view.config.classifier.rare_weight)
    correction = view.config.recam.prior_correction
    rivals = net.head.weight.shape[0]
    offsets = prior_offsets(labels, rivals > labels.shape[1], correction) if correction else None
    objective = RecamObjective(net, view.config.recam, weights, offsets)
    # Of equally likely classes, which is what the softmax head starts from; fewer of them where not all compete. With
    # the classes' frequencies given to the softmax it starts below.
    guess = math.log(rivals) if rivals > 1 and view.config.recam.competing == "all" else None
    if guess is not None and offsets is not None:
        guess = frequency_entropy(prior_offsets(labels, rivals > labels.shape[1], 1.0), offsets)
    facts = run_training(view, objective, batches, view.config.recam, guess, "loss_sce")
    save_trained(view, RECAM_WEIGHTS, net)
    return facts


def frequency_entropy(log_shares: NDArray[np.floating], offsets: NDArray[np.floating]) -> float:
    """Cross-entropy ``-sum_k pi_k log softmax_k(o)`` of a softmax that knows nothing but its offsets o.

    Example:
        >>> round(frequency_entropy(np.log([0.5, 0.5]), np.zeros(2)), 4)  # log 2
        0.6931
    """
    shares = np.exp(log_shares - np.logaddexp.reduce(log_shares))
    return float(-(shares * (offsets - np.logaddexp.reduce(offsets))).sum())


def _cost(scope: Scope) -> Cost:
    schedule = scope.config.recam
    pixels, read = crop_pixels(scope, schedule), crops_read(scope, schedule)
    # Where the backbone is kept, nothing goes back through it.
    return Cost(forward=pixels, read=read) if schedule.backbone_lr_factor == 0 else Cost(training=pixels, read=read)


STAGE = Stage(
    "recam",
    4,
    run_recam,
    "softmax re-activation of the classifier",
    needs=("classifier", "cams"),
    reads=(
        *BACKBONE,
        *but(RecamConfig, "recam", "combine"),
        "classifier.rare_weight",
        "augment",
        "seed",
        "maps.variant",
        "data.background",
        "data.train_splits",
    ),
    makes=(RECAM_WEIGHTS,),
    facts=lambda scope: {"training": scope.training},
    cost=_cost,
)
