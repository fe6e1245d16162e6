"""Stage ``confidence``: how sure the classifier is of each class of each image, for the review in FiftyOne."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recamlabel.core.devices import to_device
from recamlabel.data.batches import Normalisation
from recamlabel.data.passes import Group, Made, store_pass
from recamlabel.models.inputs import input_size, run_network
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

    def make(group: Group, pixels: list[np.ndarray]) -> Iterator[Made]:
        rows = _probabilities(view, net, pixels)
        return ({image.id: (row, {})} for image, row in zip(group, rows, strict=True))

    with ShardedWriter(path, view.key, view.provenance()) as writer:
        store_pass(
            view.catalog,
            writer,
            "classifier confidence",
            view.batch_pixels,
            make,
            alike=view.alike(view.config.maps.max_side),
        )
    return {}


def _probabilities(view: View, net: ClassifierNet, pixels: list[np.ndarray]) -> NDArray[np.float32]:
    """``(B, K) float32`` of images of one size."""
    size = input_size(pixels[0].shape, view.config.maps.max_side, view.device)
    normalisation = Normalisation(net.backbone.mean, net.backbone.std)
    logits = run_network(net, pixels, size, normalisation, view.device, view.config.runtime.amp)
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
