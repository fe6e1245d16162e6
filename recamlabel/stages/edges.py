"""Stage ``edges``: boundary probabilities of every image, for the random walk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from recamlabel.core.devices import to_device
from recamlabel.data.passes import Group, Made, store_pass
from recamlabel.models.networks import AffinityFeatures
from recamlabel.models.weights import load_strict, read_weights
from recamlabel.refine import walks
from recamlabel.refine.edges import boundary_maps
from recamlabel.stages.cost import one_pass
from recamlabel.stages.graph import Stage
from recamlabel.stages.networks import AFFINITY_WEIGHTS, new_affinity
from recamlabel.stages.view import View
from recamlabel.storage.hdf5 import ShardedWriter

EDGES_FILE = "work/edges.h5"


def run_edges(view: View) -> Mapping[str, Any]:
    """Boundary probabilities of every image."""
    config = view.config
    net = view.once("affinity", partial(_trained, view))
    attributes = {**view.provenance(), "model_keys": {"affinity": view.learnt.key_of("affinity")}}

    def make(group: Group, pixels: list[np.ndarray]) -> Iterator[Made]:
        edges = boundary_maps(pixels, net, config.maps, config.runtime.amp)
        return ({image.id: (edge, {})} for image, edge in zip(group, edges, strict=True))

    with ShardedWriter(view.run.path / EDGES_FILE, view.key, attributes) as writer:
        store_pass(view.catalog, writer, "edges", view.batch_pixels, make, alike=view.alike(config.maps.max_side))
    return {}


def _trained(view: View) -> AffinityFeatures:
    net = new_affinity(view)
    path = view.learnt.path / AFFINITY_WEIGHTS
    load_strict(net.head, read_weights(path), origin=str(path))
    to_device(net.head, view.device).eval()
    return net


STAGE = Stage(
    "edges",
    2,
    run_edges,
    "boundary probabilities of every image",
    needs=("affinity",),
    reads=("backbone.name", "backbone.output_stride", "backbone.weights", "maps.max_side", "maps.stored_stride"),
    makes=(EDGES_FILE,),
    wanted=lambda scope: walks(scope.config.refine.method),
    facts=lambda scope: {"images": scope.images, "weights": scope.weights},
    shared=True,
    per_image=True,
    cost=lambda scope: one_pass(scope).times(2),
)
