"""Stage ``gate``: what the labels allow to be learnt, from pretrained features and no mask."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recamlabel.config import Config
from recamlabel.data.batches import Normalisation
from recamlabel.devices import autocast
from recamlabel.maps.build import batches_by_shape, read_ahead
from recamlabel.maps.multiscale import scaled_inputs, working_size
from recamlabel.masks.gate import assess
from recamlabel.models.backbones import Backbone
from recamlabel.progress import say, track
from recamlabel.stages.base import StageContext
from recamlabel.storage.atomic import write_text
from recamlabel.storage.hdf5 import ShardedWriter, open_store
from recamlabel.training.loop import to_device
from recamlabel.training.weights import load_backbone_weights, weights_identity
from recamlabel.workspace import stage_key

GATE_FILE = "gate.json"
FEATURES_FILE = "features.h5"
METRICS_SECTION = "gate"
SHOWN = 20


def gate_features(config: Config) -> dict[str, Any]:
    """Everything of the settings that the pooled features depend on."""
    weights = weights_identity(config.backbone.weights)
    return {
        "backbone": config.backbone.name,
        "output_stride": config.backbone.output_stride,
        "weights": weights,
        # Without weights the features are whatever the seed draws.
        "seed": config.seed if weights == "none" else None,
        "max_side": config.maps.max_side,
    }


def run_gate(context: StageContext) -> Mapping[str, Any]:
    """Judge every class; write ``gate.json``, section ``gate`` of the metrics, and a line for each doubt.

    The features are those of the backbone with its *pretrained* weights, not of the trained
    classifier: that one has seen all labels, so a wrong label would look right to it.
    """
    _make_features(context)
    config, catalog = context.config, context.catalog
    dataset = catalog.dataset
    chosen = {image.id for image in catalog.training_images(config.data.train_splits)}
    training = np.array([image.id in chosen for image in catalog.images], dtype=bool)
    ids = [image.id for image in catalog.images]
    random = config.backbone.weights == "none"
    gate = assess(
        _read_features(context, ids),
        dataset.labels(),
        training,
        ids,
        dataset.classes.names,
        config.gate,
        random_features=random,
    )
    tree = {"stage_key": context.key, **gate.to_json()}
    write_text(context.run.path / GATE_FILE, json.dumps(tree, indent=1, ensure_ascii=False))
    context.run.update_metrics(METRICS_SECTION, tree)
    lines = gate.lines()
    for line in lines[:SHOWN]:
        say(f"gate: {line}")
    if len(lines) > SHOWN:
        say(f"gate: {len(lines) - SHOWN} more classes are not ok; report.html lists all")
    verdicts = [one.verdict for one in gate.classes]
    return {name.replace(" ", "_"): verdicts.count(name) for name in ("ok", "weak", "do not trust")} | {
        "doubtful_labels": len(gate.doubtful),
        "missing_labels": len(gate.missing),
    }


def _make_features(context: StageContext) -> None:
    """``features.h5``, unless it is there for the same images and weights: corrected labels need no second pass."""
    images = {image.id: context.catalog.hashes[image.id] for image in context.catalog.images}
    key = stage_key("features", 1, gate_features(context.config), images)
    path = context.run.path / FEATURES_FILE
    if path.exists():
        with open_store(path) as file:
            if file.attrs.get("stage_key") == key:
                return
    backbone = _pretrained(context)
    with ShardedWriter(path, key, {**context.provenance(), "stage_key": key}) as writer:
        todo = [image for image in context.catalog.images if image.id not in writer.done]
        groups = batches_by_shape(context.catalog, todo, context.batch_pixels)
        with track("gate features", len(images), start=len(writer.done)) as advance:
            for group, pixels in read_ahead(groups, 2):
                for image, row in zip(group, _pooled(context, backbone, pixels), strict=True):
                    writer.add(image.id, {image.id: (row, {})})
                advance(len(group))
        writer.finish()


def _pretrained(context: StageContext) -> Backbone:
    config = context.config.backbone
    torch.manual_seed(context.config.seed)
    backbone = Backbone(config.name, config.output_stride)
    load_backbone_weights(backbone, config.weights)
    to_device(backbone, context.device).eval()
    return backbone


@torch.no_grad()
def _pooled(context: StageContext, backbone: Backbone, pixels: list[np.ndarray]) -> NDArray[np.float32]:
    """Global average of the last features, ``(B, D) float32``, of images of one size."""
    height, width = pixels[0].shape[:2]
    size = working_size(height, width, context.config.maps.max_side)
    inputs = scaled_inputs(pixels, *size, Normalisation(backbone.mean, backbone.std)).to(context.device)
    with autocast(context.device, context.config.runtime.amp):
        features = backbone(inputs.contiguous(memory_format=torch.channels_last))
    pooled: NDArray[np.float32] = features.float().mean(dim=(2, 3)).cpu().numpy()
    return pooled


def _read_features(context: StageContext, ids: list[str]) -> NDArray[np.float32]:
    with open_store(context.run.path / FEATURES_FILE) as file:
        return np.stack([file[image_id][()] for image_id in ids])
