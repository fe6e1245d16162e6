"""Stage ``edges``: boundary probabilities of every image, for the random walk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from recamlabel.core.devices import to_device
from recamlabel.data.passes import Group, Made, store_pass
from recamlabel.models.networks import AffinityFeatures
from recamlabel.models.weights import load_strict, read_weights
from recamlabel.refine import walks
from recamlabel.refine.edges import boundary_maps
from recamlabel.refine.hed import Hed, hed_boundaries, hed_file, load_hed
from recamlabel.stages.cost import Cost, megapixels, one_pass
from recamlabel.stages.graph import Scope, Stage
from recamlabel.stages.networks import AFFINITY_WEIGHTS, new_affinity
from recamlabel.stages.view import View
from recamlabel.storage.digest import content_digest
from recamlabel.storage.hdf5 import ShardedWriter

EDGES_FILE = "work/edges.h5"


# Of HED on one core of a CPU, for each megapixel of its inputs (benchmarks/edges_and_snap.py).
HED_SECONDS = 5.0

Boundaries = Callable[[list[np.ndarray]], list[np.ndarray]]
"""B images of one size to B boundary maps ``(h, w) float16`` in [0, 1]."""


def run_edges(view: View) -> Mapping[str, Any]:
    """Boundary probabilities of every image."""
    # `refine.edges` decides which stages there are; it is in no key, so that walks of earlier runs stay current.
    hed = "affinity" not in view.planned
    boundaries = _by_hed(view) if hed else _by_affinity(view)
    models = {} if hed else {"affinity": view.learnt.key_of("affinity")}

    def make(group: Group, pixels: list[np.ndarray]) -> Iterator[Made]:
        return ({image.id: (edge, {})} for image, edge in zip(group, boundaries(pixels), strict=True))

    alike = view.alike(view.config.maps.max_side)
    attributes = {**view.provenance(), "model_keys": models}
    with ShardedWriter(view.run.path / EDGES_FILE, view.key, attributes) as writer:
        store_pass(view.catalog, writer, "edges", view.batch_pixels, make, alike=alike)
    return {}


def _by_affinity(view: View) -> Boundaries:
    net = view.once("affinity", partial(_trained, view))
    return lambda pixels: boundary_maps(pixels, net, view.config.maps, view.config.runtime.amp)


def _by_hed(view: View) -> Boundaries:
    net = view.once("hed", partial(_hed, view))
    return lambda pixels: hed_boundaries(pixels, net, view.config.maps, view.config.runtime.amp)


def _hed(view: View) -> Hed:
    net = load_hed(hed_file())
    to_device(net, view.device)
    return net


def _reads(scope: Scope) -> tuple[str, ...]:
    own = ("maps.max_side", "maps.stored_stride")
    net = ("backbone.name", "backbone.output_stride", "backbone.weights")
    return own if scope.config.refine.edges == "hed" else (*net, *own)


def _facts(scope: Scope) -> dict[str, str]:
    if scope.config.refine.edges == "hed":
        return {"images": scope.images, "hed": content_digest(hed_file())}
    return {"images": scope.images, "weights": scope.weights}


def _cost(scope: Scope) -> Cost:
    if scope.config.refine.edges == "hed":
        return Cost(fixed=HED_SECONDS * megapixels(scope, scope.config.maps.max_side), read=megapixels(scope))
    return one_pass(scope).times(2)


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
    reads=_reads,
    makes=(EDGES_FILE,),
    wanted=lambda scope: walks(scope.config.refine.method),
    facts=_facts,
    shared=True,
    per_image=True,
    cost=_cost,
)
