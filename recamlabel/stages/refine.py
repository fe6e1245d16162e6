"""Stage ``refine``: class maps to scores."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from recamlabel.core.progress import say, track
from recamlabel.refine import REFINERS, walks
from recamlabel.refine.build import SNAPS, build_scores
from recamlabel.refine.edges import EdgeWalk
from recamlabel.refine.outlines.sam import open_sam, sam_identity
from recamlabel.refine.outlines.snap import SamSnaps
from recamlabel.stages.cost import LATTICE, Cost, megapixels
from recamlabel.stages.edges import EDGES_FILE
from recamlabel.stages.graph import Scope, Stage
from recamlabel.stages.view import View
from recamlabel.storage.hdf5 import ShardedWriter, open_store
from recamlabel.storage.places import SCORES_FILE

# Of the random walk, for each label and megapixel of the image (benchmarks/random_walk.py).
WALK_SECONDS = 1.0
# Of SAM on one core of a CPU, for each image (benchmarks/edges_and_snap.py).
SNAP_SECONDS = 2.2
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
                _snaps(view),
            )
        writer.finish()
    return {"method": config.method, **_snapped(view)}


def _snaps(view: View) -> SamSnaps | None:
    """What moves regions to SAM's outlines, where it is asked for: else the setting is in no key."""
    if "refine.snap" not in view.declared or view.config.refine.snap == "none":
        return None
    return SamSnaps(open_sam(Path(view.config.refine.sam)), view.config.refine.max_side)


def _snapped(view: View) -> dict[str, int]:
    """How many regions were asked for and kept, also said; nothing where none were."""
    if "refine.snap" not in view.declared:
        return {}
    with open_store(view.run.path / SCORES_FILE) as scores:
        counts = [scores[f"scores/{image.id}"].attrs[SNAPS] for image in view.catalog.images]
    asked, kept = (int(value) for value in np.sum(counts, axis=0))
    say(f"refine: SAM agrees with the maps on {kept} of {asked} regions, which take its outlines; the others stay")
    return {"snaps_asked": asked, "snaps_kept": kept}


def _facts(scope: Scope) -> dict[str, str]:
    config = scope.config.refine
    return {"sam": sam_identity(Path(config.sam))} if config.snap == "sam" else {}


def _reads(scope: Scope) -> tuple[str, ...]:
    method = scope.config.refine.method
    crf = ("refine.levels", "refine.max_side", "refine.smooth", "refine.crf") if REFINERS.find(method).run else ()
    walk = tuple(f"affinity.{name}" for name in WALK_SETTINGS) if walks(method) else ()
    snap = ("refine.snap", "refine.sam", "refine.max_side") if scope.config.refine.snap != "none" else ()
    return ("refine.method", "refine.source", "data.background", *crf, *walk, *snap)


def _cost(scope: Scope) -> Cost:
    config, pixels = scope.config.refine, megapixels(scope, scope.config.refine.max_side)
    refiner = REFINERS.find(config.method)
    walk = Cost(fixed=WALK_SECONDS * pixels * scope.labels) if refiner.walks else Cost()
    if config.snap == "sam":
        walk += Cost(fixed=SNAP_SECONDS * len(scope.catalog.images), read=megapixels(scope))
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
    facts=_facts,
    per_image=True,
    cost=_cost,
)
