"""Stage ``edges``: boundary probabilities of every image, for the random walk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recamlabel.core.devices import to_device
from recamlabel.core.progress import track
from recamlabel.models.weights import load_strict, read_weights, weights_identity
from recamlabel.refine import walks
from recamlabel.refine.edges import build_edges
from recamlabel.stages.graph import Stage
from recamlabel.stages.networks import AFFINITY_WEIGHTS, new_affinity
from recamlabel.stages.view import View
from recamlabel.storage.hdf5 import ShardedWriter

EDGES_FILE = "edges.h5"


def run_edges(view: View) -> Mapping[str, Any]:
    """Boundary probabilities of every image."""
    config = view.config
    net = new_affinity(view)
    path = view.run.path / AFFINITY_WEIGHTS
    load_strict(net.head, read_weights(path), origin=str(path))
    to_device(net.head, view.device).eval()
    attributes = {**view.provenance(), "model_keys": {"affinity": view.run.key_of("affinity")}}
    total = len(view.catalog.images)
    with ShardedWriter(view.run.path / EDGES_FILE, view.key, attributes) as writer:
        with track("edges", total, start=len(writer.done)) as advance:
            amp, pixels = config.runtime.amp, view.batch_pixels
            build_edges(view.catalog, net, config.maps, writer, advance, amp=amp, max_pixels=pixels)
        writer.finish()
    return {}


STAGE = Stage(
    "edges",
    2,
    run_edges,
    "boundary probabilities of every image",
    needs=("affinity",),
    reads=("backbone.name", "backbone.output_stride", "backbone.weights", "maps.max_side", "maps.stored_stride"),
    makes=(EDGES_FILE,),
    wanted=lambda scope: walks(scope.config.refine.method),
    facts=lambda scope: {"images": scope.images, "weights": weights_identity(scope.config.backbone.weights)},
)
