"""Stage ``features``: pooled features of the pretrained network, by which the gate judges and where the head starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recamlabel.core.devices import to_device
from recamlabel.data.batches import Normalisation
from recamlabel.data.passes import Group, Made, store_pass
from recamlabel.models.backbones import Backbone
from recamlabel.models.inputs import input_size, run_network
from recamlabel.models.weights import load_backbone_weights
from recamlabel.stages.cost import one_pass
from recamlabel.stages.graph import Scope, Stage
from recamlabel.stages.view import View
from recamlabel.storage.hdf5 import ShardedWriter, open_store
from recamlabel.storage.places import FEATURES_FILE
from recamlabel.storage.rows import RowTable


def run_features(view: View) -> Mapping[str, Any]:
    """Write ``features.h5``."""
    backbone = pretrained(view)

    def make(group: Group, pixels: list[np.ndarray]) -> Iterator[Made]:
        rows = pooled(view, backbone, pixels)
        return ({image.id: (row, {})} for image, row in zip(group, rows, strict=True))

    with ShardedWriter(view.run.path / FEATURES_FILE, view.key, view.provenance()) as writer:
        store_pass(
            view.catalog, writer, "features", view.batch_pixels, make, alike=view.alike(view.config.maps.max_side)
        )
    return {}


def pretrained(view: View) -> Backbone:
    """The backbone with its first weights, in eval mode on the device."""
    config = view.config.backbone
    if config.weights == "none":
        torch.manual_seed(view.config.seed)
    backbone = Backbone(config.name, config.output_stride)
    load_backbone_weights(backbone, config.weights)
    to_device(backbone, view.device).eval()
    return backbone


def pooled(view: View, backbone: Backbone, pixels: list[np.ndarray]) -> NDArray[np.float32]:
    """Global average of a backbone's last features, ``(B, D) float32``, of B images ``(H, W, 3)`` of one size."""
    size = input_size(pixels[0].shape, view.config.maps.max_side, view.device)
    normalisation = Normalisation(backbone.mean, backbone.std)
    features = run_network(backbone, pixels, size, normalisation, view.device, view.config.runtime.amp)
    pooled: NDArray[np.float32] = features.float().mean(dim=(2, 3)).cpu().numpy()
    return pooled


def read_features(view: View, ids: Sequence[str]) -> RowTable:
    """The stored features ``(N, D) float32`` of N image ids, in their order."""
    with open_store(view.run.path / FEATURES_FILE) as file:
        return RowTable((file[image_id][()] for image_id in ids), len(ids), view.run.path)


def _reads(scope: Scope) -> tuple[str, ...]:
    # Without weights the features are whatever the seed draws.
    seed = ("seed",) if scope.config.backbone.weights == "none" else ()
    return ("backbone.name", "backbone.output_stride", "backbone.weights", "maps.max_side", *seed)


STAGE = Stage(
    "features",
    2,
    run_features,
    "pooled features of the pretrained network",
    reads=_reads,
    makes=(FEATURES_FILE,),
    facts=lambda scope: {"pixels": scope.pixels, "weights": scope.weights},
    cache=True,
    shared=True,
    cost=one_pass,
)
