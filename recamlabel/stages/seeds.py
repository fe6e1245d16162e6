"""Stage ``seeds``: confident labels of the training images' pixels, for the affinity net."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recamlabel.core.progress import track
from recamlabel.refine import learns_affinity
from recamlabel.refine.seeds import SeedRule, build_seeds
from recamlabel.stages.cost import LATTICE, Cost, megapixels
from recamlabel.stages.graph import Scope, Stage
from recamlabel.stages.view import View
from recamlabel.storage.hdf5 import ShardedWriter, open_store

SEEDS_FILE = "work/seeds.h5"
SEED_SETTINGS = ("fg_level", "bg_level")


def run_seeds(view: View) -> Mapping[str, Any]:
    """Write ``seeds.h5``."""
    config, refine = view.config.affinity, view.config.refine
    table = view.catalog.dataset.classes
    rule = SeedRule(config.fg_level, config.bg_level, refine.max_side, refine.crf, table.ignore_id)
    images = view.catalog.training_images(view.config.data.train_splits)
    with (
        ShardedWriter(view.run.path / SEEDS_FILE, view.key, view.provenance()) as writer,
        open_store(view.run.path / view.maps_file) as maps,
    ):
        total = len(writer.done) + len(writer.todo(images))
        with track("seeds", total, start=len(writer.done)) as advance:
            build_seeds(images, table, maps[refine.source], rule, writer, advance, view.workers, view.device)
        writer.finish()
    return {}


def _cost(scope: Scope) -> Cost:
    share = len(scope.catalog.training_images(scope.config.data.train_splits)) / max(1, len(scope.catalog.images))
    pixels = megapixels(scope, scope.config.refine.max_side) * share
    return Cost(refine=2 * pixels * (scope.labels + LATTICE))  # once for each of the two levels


STAGE = Stage(
    "seeds",
    1,
    run_seeds,
    "confident pixels of the training images",
    needs=("maps", "probe", "spread", "saliency"),
    reads=(
        *(f"affinity.{name}" for name in SEED_SETTINGS),
        "refine.source",
        "refine.max_side",
        "refine.crf",
        "data.train_splits",
    ),
    makes=(SEEDS_FILE,),
    wanted=lambda scope: learns_affinity(scope.config.refine),
    facts=lambda scope: {"training": scope.training},
    cache=True,
    shared=True,
    cost=_cost,
)
