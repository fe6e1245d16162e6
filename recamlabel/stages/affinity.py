"""Stages ``affinity`` and ``edges``: what a random walk needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from recamlabel.core.devices import to_device
from recamlabel.core.progress import say, track
from recamlabel.models.backbones import Backbone
from recamlabel.models.networks import AffinityFeatures
from recamlabel.models.weights import load_backbone_weights, load_strict, read_weights
from recamlabel.refine import seed_crf
from recamlabel.refine.edges import build_edges
from recamlabel.refine.seeds import SeedRule, build_seeds
from recamlabel.stages.base import StageContext, make_batches, run_training, save_trained
from recamlabel.storage.hdf5 import ShardedWriter, StoredArrays, open_store
from recamlabel.storage.run_folder import stage_key
from recamlabel.training.objectives.affinity import AffinityObjective

AFFINITY_WEIGHTS = "weights/affinity.safetensors"
MEAN_BATCHES = 25
# Its own stream of chance: the other stages use 2 * seed and 2 * seed + 1.
AFFINITY_OFFSET = 1 << 32
# -log(1/2), for pairs of equal and of different classes alike: an affinity that knows nothing.
GUESS = math.log(2)


def run_affinity(context: StageContext) -> Mapping[str, Any]:
    """Confident seeds of the training images, then the affinity net that learns from them."""
    config = context.config.affinity
    _make_seeds(context)
    torch.manual_seed(context.config.seed + 2)
    net = _new_affinity(context)
    ignore_id = context.catalog.dataset.classes.ignore_id
    seeds = StoredArrays(context.run.path / "seeds.h5")
    batches = make_batches(context, config, net.backbone, offset=AFFINITY_OFFSET, seeds=seeds)
    last = run_training(context, AffinityObjective(net, config, ignore_id), batches, config, GUESS, "boundary")
    few = (batches[step].to(context.device).images for step in range(min(MEAN_BATCHES, len(batches))))
    net.head.measure_displacement_mean(net.features(images) for images in few)
    save_trained(context, AFFINITY_WEIGHTS, net.head)
    return last


def _make_seeds(context: StageContext) -> None:
    """``seeds.h5``, unless it is there for the same rule and maps: another schedule needs no other seeds."""
    config, refine = context.config.affinity, context.config.refine
    table = context.catalog.dataset.classes
    rule = SeedRule(config.fg_level, config.bg_level, refine.max_side, seed_crf(refine), table.ignore_id)
    images = context.catalog.training_images(context.config.data.train_splits)
    inputs = {
        "maps": context.run.key_of("probe" if context.config.probe.enabled else "maps"),
        "images": context.catalog.fingerprint(images),
    }
    key = stage_key("seeds", 1, [rule.settings(), refine.source], inputs)
    path = context.run.path / "seeds.h5"
    if path.exists():
        with open_store(path) as file:
            if file.attrs.get("stage_key") == key:
                return
    if rule.crf is None:
        say("affinity: seeds are made from the maps' levels alone, because pydensecrf2 is not installed")
    with (
        ShardedWriter(path, key, {**context.provenance(), "stage_key": key}) as writer,
        open_store(context.run.path / context.maps_file) as maps,
    ):
        with track("seeds", len(images), start=len(writer.done)) as advance:
            build_seeds(images, table, maps[refine.source], rule, writer, advance, context.workers)
        writer.finish()


def run_edges(context: StageContext) -> Mapping[str, Any]:
    """Boundary probabilities of every image."""
    config = context.config
    net = _new_affinity(context)
    path = context.run.path / AFFINITY_WEIGHTS
    load_strict(net.head, read_weights(path), origin=str(path))
    to_device(net.head, context.device).eval()
    attributes = {**context.provenance(), "model_keys": {"affinity": context.run.key_of("affinity")}}
    total = len(context.catalog.images)
    with ShardedWriter(context.run.path / "edges.h5", context.key, attributes) as writer:
        with track("edges", total, start=len(writer.done)) as advance:
            amp, pixels = config.runtime.amp, context.batch_pixels
            build_edges(context.catalog, net, config.maps, writer, advance, amp=amp, max_pixels=pixels)
        writer.finish()
    return {}


def _new_affinity(context: StageContext) -> AffinityFeatures:
    """A backbone with its ImageNet weights on the device, and a fresh affinity net for it."""
    config = context.config.backbone
    backbone = Backbone(config.name, config.output_stride)
    load_backbone_weights(backbone, config.weights)
    to_device(backbone, context.device)
    return AffinityFeatures(backbone)
