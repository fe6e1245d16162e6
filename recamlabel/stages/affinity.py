"""Stage ``affinity``: the affinity net that a random walk asks for boundaries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from recamlabel.core import ranks
from recamlabel.refine import learns_affinity
from recamlabel.refine.config import AffinityConfig
from recamlabel.stages.cost import Cost, crop_pixels, crops_read
from recamlabel.stages.graph import Scope, Stage, but
from recamlabel.stages.networks import AFFINITY_WEIGHTS, new_affinity
from recamlabel.stages.refine import WALK_SETTINGS
from recamlabel.stages.seeds import SEED_SETTINGS, SEEDS_FILE
from recamlabel.stages.training import make_batches, run_training, save_trained
from recamlabel.stages.view import View
from recamlabel.storage.hdf5 import StoredArrays
from recamlabel.training.objectives.affinity import AffinityObjective

MEAN_BATCHES = 25
# What the affinity net costs beside a whole backbone's training.
HEAD_SHARE = 0.5
# Its own stream of chance: the other stages use 2 * seed and 2 * seed + 1.
AFFINITY_OFFSET = 1 << 32
# -log(1/2), for pairs of equal and of different classes alike: an affinity that knows nothing.
GUESS = math.log(2)


def run_affinity(view: View) -> Mapping[str, Any]:
    """The affinity net, from the confident seeds of the training images."""
    config = view.config.affinity
    torch.manual_seed(view.config.seed + 2)
    net = new_affinity(view)
    ignore_id = view.catalog.dataset.classes.ignore_id
    seeds = StoredArrays(view.run.path / SEEDS_FILE)
    batches = make_batches(view, config, net.backbone, offset=AFFINITY_OFFSET, seeds=seeds)
    last = run_training(view, AffinityObjective(net, config, ignore_id), batches, config, GUESS, "boundary")
    if ranks.is_first():  # whose network is kept
        few = (batches[step].to(view.device).images for step in range(min(MEAN_BATCHES, len(batches))))
        net.head.measure_displacement_mean(net.features(images) for images in few)
    save_trained(view, AFFINITY_WEIGHTS, net.head)
    return last


def _cost(scope: Scope) -> Cost:
    schedule = scope.config.affinity
    # The backbone is frozen; what is trained is small, but works at a quarter of the crop's size.
    pixels = crop_pixels(scope, schedule)
    return Cost(forward=pixels, training=HEAD_SHARE * pixels, read=crops_read(scope, schedule))


STAGE = Stage(
    "affinity",
    2,
    run_affinity,
    "affinity net learnt from the seeds",
    needs=("seeds",),
    reads=(
        *but(AffinityConfig, "affinity", *WALK_SETTINGS, *SEED_SETTINGS),
        "backbone.name",
        "backbone.output_stride",
        "backbone.weights",
        "augment",
        "seed",
        "data.train_splits",
    ),
    makes=(AFFINITY_WEIGHTS,),
    wanted=lambda scope: learns_affinity(scope.config.refine),
    facts=lambda scope: {"training": scope.training, "weights": scope.weights},
    shared=True,
    cost=_cost,
)
