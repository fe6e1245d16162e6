"""Pooled features of the pretrained network: what the gate judges labels by, and where the classifier's head starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recamlabel.config import Config
from recamlabel.core.devices import autocast, to_device
from recamlabel.core.progress import track
from recamlabel.data.batches import Normalisation
from recamlabel.data.passes import batches_by_shape, read_ahead
from recamlabel.models.backbones import Backbone
from recamlabel.models.inputs import scaled_inputs, working_size
from recamlabel.models.weights import load_backbone_weights, weights_identity
from recamlabel.stages.base import StageContext
from recamlabel.storage.hdf5 import ShardedWriter, open_store
from recamlabel.storage.run_folder import stage_key

FEATURES_FILE = "features.h5"


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


def make_features(context: StageContext) -> None:
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
                for image, row in zip(group, pooled(context, backbone, pixels), strict=True):
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
def pooled(context: StageContext, backbone: Backbone, pixels: list[np.ndarray]) -> NDArray[np.float32]:
    """Global average of a backbone's last features, ``(B, D) float32``, of B images ``(H, W, 3)`` of one size."""
    height, width = pixels[0].shape[:2]
    size = working_size(height, width, context.config.maps.max_side)
    inputs = scaled_inputs(pixels, *size, Normalisation(backbone.mean, backbone.std)).to(context.device)
    with autocast(context.device, context.config.runtime.amp):
        features = backbone(inputs.contiguous(memory_format=torch.channels_last))
    pooled: NDArray[np.float32] = features.float().mean(dim=(2, 3)).cpu().numpy()
    return pooled


def read_features(context: StageContext, ids: Sequence[str]) -> NDArray[np.float32]:
    """The stored features ``(N, D) float32`` of N image ids, in their order."""
    with open_store(context.run.path / FEATURES_FILE) as file:
        return np.stack([file[image_id][()] for image_id in ids])
