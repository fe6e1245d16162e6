"""Stage ``refine``: class maps to scores."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from recamlabel.core.progress import track
from recamlabel.refine import REFINERS, walks
from recamlabel.refine.build import build_scores
from recamlabel.refine.edges import EdgeWalk
from recamlabel.stages.cost import LATTICE, Cost, megapixels
from recamlabel.stages.edges import EDGES_FILE
from recamlabel.stages.graph import Scope, Stage
from recamlabel.stages.view import View
from recamlabel.storage.hdf5 import ShardedWriter, open_store
from recamlabel.storage.places import SCORES_FILE

# Of the random walk, for each label and megapixel of the image (benchmarks/random_walk.py).
WALK_SECONDS = 1.0
WALK_SETTINGS = ("walk_radius", "floor", "beta", "log2_steps")


def run_refine(view: View) -> Mapping[str, Any]:
    """Refine the maps into scores."""
    config = view.config.refine
    with ShardedWriter(view.run.path / SCORES_FILE, view.key, {**view.provenance(), "method": config.method}) as writer:
        total = len(writer.done) + len(writer.todo(view.catalog.images))
        with (
            open_store(view.run.path / view.maps_file) as maps,
            track(f"refine ({config.method})", total, start=len(writer.done)) as advance,
            ExitStack() as stack,
        ):
            walk = None
            if walks(config.method):
                edges = stack.enter_context(open_store(view.run.path / EDGES_FILE))
                walk = EdgeWalk(edges, view.config.affinity, view.device)
            build_scores(
                view.catalog,
                maps,
                config.method,
                config,
                writer,
                advance,
                view.workers,
                walk,
                view.device,
            )
        writer.finish()
    return {"method": config.method}


def _reads(scope: Scope) -> tuple[str, ...]:
    method = scope.config.refine.method
    crf = ("refine.levels", "refine.max_side", "refine.smooth", "refine.crf") if REFINERS.find(method).run else ()
    walk = tuple(f"affinity.{name}" for name in WALK_SETTINGS) if walks(method) else ()
    return ("refine.method", "refine.source", "data.background", *crf, *walk)


def _cost(scope: Scope) -> Cost:
    config, pixels = scope.config.refine, megapixels(scope, scope.config.refine.max_side)
    refiner = REFINERS.find(config.method)
    walk = Cost(fixed=WALK_SECONDS * pixels * scope.labels) if refiner.walks else Cost()
    if refiner.run is None:
        return walk
    return walk + Cost(refine=pixels * (scope.labels * len(config.levels) + LATTICE), read=megapixels(scope))


STAGE = Stage(
    "refine",
    4,
    run_refine,
    "class maps to scores: dense CRF, random walk",
    needs=("maps", "probe", "spread", "saliency", "edges", "relabel"),
    reads=_reads,
    makes=(SCORES_FILE,),
    shared=True,
    per_image=True,
    cost=_cost,
)
