"""Stage ``segmenter``: the network that learns from the masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recamlabel.data.batches import SeedReader
from recamlabel.masks.quality import read_scores
from recamlabel.masks.rescue import TaughtMasks
from recamlabel.masks.reviewed import ReviewedMasks, ReviewFolder
from recamlabel.models.segmenter import Segmenter
from recamlabel.models.weights import load_backbone_weights, weights_identity
from recamlabel.segment.config import SegmenterConfig
from recamlabel.stages.cost import Cost, crop_pixels, crops_read
from recamlabel.stages.graph import Scope, Stage, but
from recamlabel.stages.local import read_scale, typical_side
from recamlabel.stages.networks import SEGMENTER_WEIGHTS, encoder_source, load_classifier, new_encoder
from recamlabel.stages.training import make_batches, run_training, save_trained
from recamlabel.stages.view import View
from recamlabel.training.objectives.segmenter import SegmenterObjective
from recamlabel.training.watch import entropy

# Its own stream of chance, as the affinity net has.
SEGMENTER_OFFSET = 1 << 33
# What a training step costs beside one of the encoder alone.
WITH_DECODER = 1.4


def run_segmenter(view: View) -> Mapping[str, Any]:
    """Train the segmenter on the masks of the training images."""
    config, run = view.config.segmenter, view.run
    torch.manual_seed(view.config.seed + 3)
    backbone = new_encoder(view)
    source = encoder_source(view.config)
    if source == "classifier":
        backbone.load_state_dict(load_classifier(view).backbone.state_dict())
    else:
        load_backbone_weights(backbone, source)
    table = view.catalog.dataset.classes
    net = Segmenter(config.method, backbone, len(table))
    images = view.catalog.training_images(view.config.data.train_splits)
    names = [image.id for image in images]
    weights = None
    if config.quality_weights:
        scores = read_scores(run.path)
        weights = np.array([scores[name] for name in names], dtype=np.float32)
    masks: SeedReader = TaughtMasks(run.path / "masks.h5", table.ignore_id)
    if view.reviewed:
        masks = ReviewedMasks(run.path, masks)
        weights = review_weights(view, names, np.ones(len(names), np.float32) if weights is None else weights)
    side = side_of(view)
    batches = make_batches(
        view,
        config,
        backbone,
        SEGMENTER_OFFSET,
        seeds=masks,
        weights=weights,
        enlarged=side / view.config.augment.resize_max if side else 1.0,
    )
    objective = SegmenterObjective(net, config, table.ignore_id, len(batches), view.config.data.background)
    # Of crops about the classes the masks' shares are not those of the pixels that are shown.
    last = run_training(view, objective, batches, config, None if side else _guess(view))
    save_trained(view, SEGMENTER_WEIGHTS, net)
    return {**last, "side": side} if side else last


def side_of(view: View) -> int | None:
    """Long side, in pixels, at which the segmenter learns and looks where the usual one is not enough; else None."""
    config, scale, usual = view.config.segmenter, read_scale(view), view.config.maps.max_side
    if config.side != "auto":
        return config.side
    if not scale.get("admitted"):
        return None
    # Larger than they are, images show nothing more.
    side = min(scale["side"], typical_side(view, view.catalog.images))
    return side if side > usual else None


def _guess(view: View) -> float | None:
    """Cross-entropy of giving every pixel the classes' shares of all masks, whatever it looks like."""
    config = view.config.segmenter
    if config.label_smoothing or config.correction < 1:
        return None
    pixels = view.run.state.stages["masks"].get("pixels", {})
    return entropy(count for name, count in pixels.items() if name != "ignored")


def review_weights(view: View, image_ids: list[str], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights of training images: ``review.weight`` where a reviewer accepted or painted the mask.

    Args:
        view: Of the run.
        image_ids: N ids.
        weights: ``(N,)`` as they are without a review.
    """
    kinds = ReviewFolder(view.run.path).kinds()
    settled = np.array([kinds.get(name) in {"accepted", "painted"} for name in image_ids], dtype=bool)
    result: NDArray[np.float32] = np.where(settled, np.float32(view.config.review.weight), weights)
    return result.astype(np.float32)


def _facts(scope: Scope) -> dict[str, str]:
    source = encoder_source(scope.config)
    weights = {} if source == "classifier" else {"encoder_weights": weights_identity(source)}
    reviewed = {"reviewed": scope.reviewed} if scope.reviewed else {}
    return {"training": scope.training, **weights, **reviewed}


def _reads(scope: Scope) -> tuple[str, ...]:
    settings = but(SegmenterConfig, "segmenter", "enabled", "predict", "relabel_weight")
    review = ("review.weight",) if scope.reviewed else ()
    rest = ("augment", "seed", "data.train_splits", "data.background")
    return (*settings, "backbone", "maps.max_side", *rest, *review)


def _cost(scope: Scope) -> Cost:
    schedule = scope.config.segmenter
    return Cost(training=WITH_DECODER * crop_pixels(scope, schedule), read=crops_read(scope, schedule))


STAGE = Stage(
    "segmenter",
    2,
    run_segmenter,
    "segmenter learnt from the masks",
    needs=("classifier", "masks", "local"),
    reads=_reads,
    makes=(SEGMENTER_WEIGHTS,),
    wanted=lambda scope: scope.config.segmenter.enabled,
    facts=_facts,
    shared=True,
    cost=_cost,
)
