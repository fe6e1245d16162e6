"""Stage ``confidence``: how sure the classifier is of each class of each image, for the review in FiftyOne."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recamlabel.core.devices import autocast, to_device
from recamlabel.core.progress import track
from recamlabel.data.batches import Normalisation
from recamlabel.data.passes import batches_by_shape, read_ahead
from recamlabel.models.inputs import scaled_inputs, working_size
from recamlabel.models.networks import ClassifierNet
from recamlabel.stages.graph import Stage
from recamlabel.stages.networks import BACKBONE, load_classifier
from recamlabel.stages.view import View
from recamlabel.storage.hdf5 import ShardedWriter

CONFIDENCE_FILE = "review/confidence.h5"


def run_confidence(view: View) -> Mapping[str, Any]:
    """Write ``review/confidence.h5`` by one pass at scale 1, a tenth of what the maps cost."""
    path = view.run.path / CONFIDENCE_FILE
    path.parent.mkdir(exist_ok=True)
    net = load_classifier(view)
    to_device(net, view.device).eval()
    images = view.catalog.images
    with ShardedWriter(path, view.key, view.provenance()) as writer:
        todo = [image for image in images if image.id not in writer.done]
        with track("classifier confidence", len(images), start=len(writer.done)) as advance:
            for group, pixels in read_ahead(batches_by_shape(view.catalog, todo, view.batch_pixels), 2):
                for image, row in zip(group, _probabilities(view, net, pixels), strict=True):
                    writer.add(image.id, {image.id: (row, {})})
                advance(len(group))
        writer.finish()
    return {}


@torch.no_grad()
def _probabilities(view: View, net: ClassifierNet, pixels: list[np.ndarray]) -> NDArray[np.float32]:
    """``(B, K) float32`` of images of one size."""
    height, width = pixels[0].shape[:2]
    size = working_size(height, width, view.config.maps.max_side)
    inputs = scaled_inputs(pixels, *size, Normalisation(net.backbone.mean, net.backbone.std)).to(view.device)
    with autocast(view.device, view.config.runtime.amp):
        logits = net(inputs.contiguous(memory_format=torch.channels_last))
    probabilities: NDArray[np.float32] = logits.float().sigmoid().cpu().numpy()
    return probabilities


STAGE = Stage(
    "confidence",
    2,
    run_confidence,
    "the classifier's confidence, for the review",
    needs=("classifier",),
    reads=(*BACKBONE, "maps.max_side"),
    makes=(CONFIDENCE_FILE,),
    facts=lambda scope: {"pixels": scope.pixels},
    on_demand=True,
)
