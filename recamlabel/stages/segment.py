"""Stages ``segmenter`` (training) and ``segmentation`` (its masks of all images)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from recamlabel.adapters.base import LabelledImage
from recamlabel.config import Config
from recamlabel.core.arrays import from_uint8
from recamlabel.core.classes import BACKGROUND_ID
from recamlabel.core.devices import to_device
from recamlabel.core.pool import map_in_order
from recamlabel.core.progress import track
from recamlabel.data.batches import SeedReader
from recamlabel.data.passes import batches_by_shape, read_ahead
from recamlabel.masks.evidence import iou, support
from recamlabel.masks.quality import read_scores
from recamlabel.masks.rescue import TaughtMasks
from recamlabel.masks.reviewed import ReviewedMasks
from recamlabel.models.backbones import Backbone
from recamlabel.models.config import BackboneConfig
from recamlabel.models.segmenter import Segmenter
from recamlabel.models.weights import load_backbone_weights, load_strict, read_weights
from recamlabel.segment.masks import MaskTask, make_mask, smoothing
from recamlabel.segment.predict import Predictor, decide, restrict
from recamlabel.stages.base import StageContext, load_classifier, make_batches, run_training, save_trained
from recamlabel.storage.hdf5 import ShardedWriter, open_store
from recamlabel.training.objectives.segmenter import SegmenterObjective
from recamlabel.training.watch import entropy

SEGMENTER_WEIGHTS = "weights/segmenter.safetensors"
# Its own stream of chance, as the affinity net has.
SEGMENTER_OFFSET = 1 << 33


def run_segmenter(context: StageContext) -> Mapping[str, Any]:
    """Train the segmenter on the masks of the training images."""
    config, run = context.config.segmenter, context.run
    torch.manual_seed(context.config.seed + 3)
    backbone = _encoder(context)
    source = encoder_source(context.config)
    if source == "classifier":
        backbone.load_state_dict(load_classifier(context).backbone.state_dict())
    else:
        load_backbone_weights(backbone, source)
    table = context.catalog.dataset.classes
    net = Segmenter(config.method, backbone, len(table))
    images = context.catalog.training_images(context.config.data.train_splits)
    names = [image.id for image in images]
    weights = None
    if config.quality_weights:
        scores = read_scores(run.path)
        weights = np.array([scores[name] for name in names], dtype=np.float32)
    masks: SeedReader = TaughtMasks(run.path / "masks.h5", table.ignore_id)
    if context.config.review.use:
        from recamlabel.stages.reviewed import review_weights

        masks = ReviewedMasks(run.path, masks)
        weights = review_weights(context, names, np.ones(len(names), np.float32) if weights is None else weights)
    batches = make_batches(context, config, backbone, SEGMENTER_OFFSET, seeds=masks, weights=weights)
    objective = SegmenterObjective(net, config, table.ignore_id, len(batches))
    last = run_training(context, objective, batches, config, _guess(context))
    save_trained(context, SEGMENTER_WEIGHTS, net)
    return last


def _guess(context: StageContext) -> float | None:
    """Cross-entropy of giving every pixel the classes' shares of all masks, whatever it looks like."""
    config = context.config.segmenter
    if config.label_smoothing or config.correction < 1:
        return None
    pixels = context.run.state.stages["masks"].get("pixels", {})
    return entropy(count for name, count in pixels.items() if name != "ignored")


def run_segmentation(context: StageContext) -> Mapping[str, Any]:
    """The segmenter's own masks of all images, which know nothing of an image's labels."""
    predictor, crf = load_predictor(context), smoothing(context.config.segmenter.predict)
    attributes = {**context.provenance(), "model_keys": {"segmenter": context.run.key_of("segmenter")}}
    opinions: dict[str, dict[str, Any]] = {}
    with (
        open_store(context.run.path / "masks.h5") as masks,
        open_store(context.run.path / "scores.h5") as scores,
        ShardedWriter(context.run.path / "segmenter.h5", context.key, attributes) as writer,
    ):
        todo = [image for image in context.catalog.images if image.id not in writer.done]

        def tasks() -> Iterator[MaskTask]:
            for image, found in _answers(context, predictor, todo):
                shape, dtype = context.catalog.shapes[image.id], context.catalog.dataset.classes.mask_dtype
                opinions[image.id] = _opinion(context, found, image, masks, scores)
                yield MaskTask(image.id, image.path, found, shape, dtype, crf, context.config.data.background)

        with track("segmentation", len(context.catalog.images), start=len(writer.done)) as advance:
            for task, mask in map_in_order(make_mask, tasks(), context.workers if crf else 1, "segmentation"):
                writer.add(task.image_id, {task.image_id: (mask, opinions.pop(task.image_id))})
                advance()
        writer.finish()
    return {}


def _answers(
    context: StageContext, predictor: Predictor, images: list[LabelledImage]
) -> Iterator[tuple[LabelledImage, NDArray[np.float32]]]:
    for group, pixels in read_ahead(batches_by_shape(context.catalog, images, context.batch_pixels), threads=2):
        yield from zip(group, predictor.probabilities(pixels), strict=True)


def _opinion(
    context: StageContext, found: NDArray[np.float32], image: LabelledImage, masks: h5py.File, scores: h5py.File
) -> dict[str, Any]:
    """What the segmenter, told the image's labels, thinks of its pseudo mask, class by class."""
    table, background = context.catalog.dataset.classes, context.config.data.background
    own = table.ids_of(image.present)
    ids = [BACKGROUND_ID, *own] if background else list(own)
    pseudo, shape = masks[image.id][()], context.catalog.shapes[image.id]
    restricted = decide(found, shape, table.mask_dtype, own, background=background) if own else np.zeros(shape)
    known = pseudo != table.ignore_id
    overlap = [iou((restricted == number) & known, (pseudo == number) & known) for number in ids]
    level = float(masks.attrs["threshold"])
    own_scores = from_uint8(scores[f"scores/{image.id}"][()])
    whole, classes = support(restrict(found, ids), own_scores, level, background)
    return {
        "agreement_ids": np.array(ids, dtype=np.int32),
        "agreement": np.array(overlap, dtype=np.float32),
        "support": whole,
        "class_support": np.array(classes, dtype=np.float32),
    }


def load_predictor(context: StageContext) -> Predictor:
    """The run's trained segmenter, ready to be asked."""
    config = context.config.segmenter
    net = Segmenter(config.method, _encoder(context), len(context.catalog.dataset.classes))
    path = context.run.path / SEGMENTER_WEIGHTS
    load_strict(net, read_weights(path), origin=str(path))
    to_device(net, context.device).eval()
    return Predictor(net, config.predict, context.device, context.config.runtime.amp)


def encoder_source(config: Config) -> str:
    """Where the encoder's first weights are from: ``classifier``, or what ``backbone.weights`` may be.

    Example:
        >>> from recamlabel.config import load_config
        >>> encoder_source(load_config("quick")), encoder_source(load_config(assignments=["backbone.weights=none"]))
        ('embedded', 'classifier')
    """
    source = config.segmenter.encoder_weights
    if source != "backbone":
        return source
    # Random weights are no start where trained ones are at hand.
    return "classifier" if config.backbone.weights == "none" else config.backbone.weights


def _encoder(context: StageContext) -> Backbone:
    base, config = context.config.backbone, context.config.segmenter
    settings: BackboneConfig = base.model_copy(update={"name": config.encoder or base.name})
    return Backbone(settings.name, settings.output_stride, settings.frozen_stages)
