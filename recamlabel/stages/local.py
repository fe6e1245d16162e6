"""Stage ``local``: at which size, depth and pooling each class is recognised best, and the maps of such heads."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recamlabel.adapters.base import LabelledImage
from recamlabel.core import ranks
from recamlabel.core.progress import say, track
from recamlabel.data.batches import Normalisation
from recamlabel.data.passes import image_pass
from recamlabel.gate.crossval import canonical_order
from recamlabel.maps.config import LocalConfig
from recamlabel.maps.local import Projection, cross_fit, fit_projection, held_out_precision, local_maps
from recamlabel.models.backbones import Backbone
from recamlabel.models.inputs import run_in_tiles, scaled_size
from recamlabel.stages.cost import Cost, megapixels
from recamlabel.stages.features import pretrained
from recamlabel.stages.gate import read_gate
from recamlabel.stages.graph import Scope, Stage, but
from recamlabel.stages.learnt import LOCAL_WEIGHTS, fold_of, load_heads, save_heads
from recamlabel.stages.local_choice import (
    DEPTHS,
    TOO_FEW,
    Admission,
    Tried,
    admission,
    choose_setting,
    ladder,
    searched,
)
from recamlabel.stages.map_files import to_store
from recamlabel.stages.probe import choose, deal
from recamlabel.stages.view import View
from recamlabel.storage.atomic import write_text
from recamlabel.storage.hdf5 import ShardedWriter
from recamlabel.storage.places import LOCAL_FILE, WORK

SCALE_FILE = f"{WORK}/scale.json"
METRICS_SECTION = "scale"
# Positions of each image, and images, that the principal components are computed from. From 16 images they leave out
# what tells the classes that these do not show: on MSRC-17 0.55 average precision, 0.91 from 64, 0.93 from 300.
DRAWN, PROJECTED = 100, 64
# Seconds of one fit.
FIT = 8.0
# Of the file.
LOCAL_GROUP = "local"


def run_local(view: View) -> Mapping[str, Any]:
    """Choose the size and the depth; write ``local.h5``, ``scale.json`` and the heads."""
    backbone = view.once("pretrained", partial(pretrained, view))
    if view.origin:
        _write_all(view, backbone, load_heads(view))
        return {}
    # The search is the first process's, where there are several; the maps of all images are everyone's.
    tried, chosen, verdict = ranks.of_first(lambda: _search(view, backbone))
    taking_part = chosen if verdict is not None and verdict.admitted else None
    if ranks.is_first():
        save_heads(view, taking_part)
    _write_all(view, backbone, taking_part)
    if ranks.is_first():
        tree = {"stage_key": view.key, **report(view.catalog.dataset.classes.names, tried, chosen, verdict)}
        write_text(view.run.path / SCALE_FILE, json.dumps(tree, indent=1, ensure_ascii=False))
        view.run.update_metrics(METRICS_SECTION, tree, stage="local")
    return {} if chosen is None or verdict is None else {"side": chosen.side, "admitted": verdict.admitted}


def _search(view: View, backbone: Backbone) -> tuple[list[Tried], Tried | None, Admission | None]:
    """What was tried, the best of it, and whether that takes part."""
    images = sample(view)
    labels = view.catalog.dataset.labels(images)
    both = (labels == 1).any(axis=0) & (labels == 0).any(axis=0)
    tried: list[Tried] = []
    if both.any() and len(images) >= 2 * view.config.local.folds:
        for side in sides(view, images):
            tried += attempt(view, backbone, images, side)
            if searched(tried):
                break
    chosen = choose_setting(tried) if tried else None
    verdict = None if chosen is None else admission(chosen, gate_precisions(view))
    say(f"local: {TOO_FEW if verdict is None else verdict.line}")
    return tried, chosen, verdict


def gate_precisions(view: View) -> list[tuple[float, float]]:
    """By class the gate's average precision on the training images and that of guessing; NaN where there is none."""
    tree = read_gate(view.run, random_too=True)
    known = {one["name"]: (one["ap"], one["chance"]) for one in tree.get("classes", ()) if one["ap"] is not None}
    return [known.get(name, (math.nan, math.nan)) for name in view.catalog.dataset.classes.names]


def sample(view: View) -> list[LabelledImage]:
    """Training images to fit to, rare classes first, whose order depends on their ids alone."""
    chosen = choose(view)[: view.config.local.images]
    return [chosen[position] for position in canonical_order([image.id for image in chosen])]


def sides(view: View, images: Sequence[LabelledImage]) -> list[int]:
    """Long sides to try, ascending: from 320 pixels in steps of 1.6 to the images' own size."""
    if view.config.local.sides:
        return sorted(set(view.config.local.sides))
    return ladder(typical_side(view, images))


def typical_side(view: View, images: Sequence[LabelledImage]) -> int:
    """Median long side in pixels."""
    return int(np.median([max(view.catalog.shapes[image.id]) for image in images]))


def attempt(view: View, backbone: Backbone, images: Sequence[LabelledImage], side: int) -> list[Tried]:
    """Fit every depth at one size."""
    config, seed = view.config.local, view.config.seed
    folds = deal(images, config.folds)
    projections = _projections(view, backbone, images, side)
    held: dict[str, dict[str, Tensor]] = {depth: {} for depth in projections}
    for image, features in _features(view, backbone, images, side, f"local: {side} pixels"):
        for depth, projection in projections.items():
            held[depth][image.id] = projection(features[depth])
    labels = view.catalog.dataset.labels(images)
    fold_of = np.array([folds[image.id] for image in images])
    tried = []
    # Less deep features are tried with the largest share alone: they see too little for a few places to tell.
    pairs = [(depth, share) for depth in projections for share in sorted(config.shares, reverse=True)]
    pairs = [pair for pair in pairs if pair[0] == DEPTHS[-1] or pair[1] == max(config.shares)]
    with track("local: fit", len(pairs), unit="fits", more=True) as advance:
        for depth, share in pairs:
            rows = [held[depth][image.id] for image in images]
            heads = cross_fit(rows, labels, fold_of, share, seed)
            logits = np.stack([heads.logits(row, fold) for row, fold in zip(rows, fold_of, strict=True)])
            precisions = held_out_precision(labels, logits, seed)
            tried.append(Tried(side, depth, share, projections[depth], heads, precisions, folds))
            advance()
    return tried


def _projections(view: View, backbone: Backbone, images: Sequence[LabelledImage], side: int) -> dict[str, Projection]:
    """By depth, from a few positions of the first images."""
    random = np.random.default_rng(view.config.seed)
    rows: dict[str, list[Tensor]] = {}
    for _, features in _features(view, backbone, images[:PROJECTED], side, "local: components"):
        for depth, maps in features.items():
            flat = maps.flatten(1)
            places = torch.from_numpy(random.integers(flat.shape[1], size=DRAWN))
            rows.setdefault(depth, []).append(flat[:, places].T.cpu())
    components = view.config.local.components
    return {depth: fit_projection(torch.cat(parts), components, view.config.seed) for depth, parts in rows.items()}


def _features(
    view: View, backbone: Backbone, images: Sequence[LabelledImage], side: int, what: str
) -> Iterator[tuple[LabelledImage, dict[str, Tensor]]]:
    """Each image with its features ``(D, h, w)`` by depth."""
    normalisation, device = Normalisation(backbone.mean, backbone.std), view.device

    def enlarged(shape: tuple[int, int]) -> float:
        height, width = scaled_size(shape, side, device)
        return height * width / (shape[0] * shape[1])

    def alike(shape: tuple[int, int]) -> tuple[int, int]:
        return shape if device.type == "cpu" else scaled_size(shape, side, device)

    for group, pixels in image_pass(view.catalog, images, what, view.batch_pixels, enlarged=enlarged, alike=alike):
        size = scaled_size(pixels[0].shape, side, device)
        ask, stride = partial(both_depths, backbone), view.config.backbone.output_stride
        made = run_in_tiles(ask, pixels, size, stride, normalisation, device, view.config.runtime.amp)
        for image, features in zip(group, made, strict=True):
            last, middle = features[: backbone.channels], features[backbone.channels :]
            yield image, ({DEPTHS[0]: middle} if len(middle) else {}) | {DEPTHS[-1]: last}


def both_depths(backbone: Backbone, pixels: Tensor) -> Tensor:
    """The last features and behind them the deepest others of the same grid, ``(B, D + D', h, w)``."""
    last, pyramid = backbone.all_depths(pixels)
    alike = [part for part in pyramid[:-1] if part.shape[2:] == last.shape[2:]]
    return torch.cat([last, *alike[-1:]], dim=1)


def _write_all(view: View, backbone: Backbone, chosen: Tried | None) -> None:
    """Write ``local.h5``, with no map in it where the heads take no part."""
    with ShardedWriter(view.run.path / LOCAL_FILE, view.key, view.provenance()) as writer:
        if chosen is not None:
            _write(view, backbone, chosen, writer)
        writer.finish()


def _write(view: View, backbone: Backbone, chosen: Tried, writer: ShardedWriter) -> None:
    """The maps of every image's own classes, from heads that have not seen it."""
    table = view.catalog.dataset.classes
    todo = writer.todo(view.catalog.images)
    for image, features in _features(view, backbone, todo, chosen.side, "local"):
        ids = table.ids_of(image.present)
        projected = chosen.projection(features[chosen.depth])
        values = chosen.heads.values(projected, [class_id - 1 for class_id in ids], fold_of(view, chosen.folds, image))
        maps = local_maps(values) if ids else np.zeros((0, *projected.shape[1:]), dtype=np.float16)
        writer.add(image.id, to_store({LOCAL_GROUP: maps}, image.id, ids))


def report(
    names: Sequence[str], tried: Sequence[Tried], chosen: Tried | None, verdict: Admission | None
) -> dict[str, Any]:
    """What was tried and taken, as JSON: average precisions by size and depth."""
    rows = [
        {
            "side": one.side,
            "depth": one.depth,
            "share": one.share,
            "mean_ap": round(one.mean[0], 4),
            "error": round(one.mean[1], 4),
            "ap": {name: _rounded(part.value) for name, part in zip(names, one.precisions, strict=True)},
        }
        for one in tried
    ]
    return {
        "side": None if chosen is None else chosen.side,
        "depth": None if chosen is None else chosen.depth,
        "share": None if chosen is None else chosen.share,
        "mean_ap": None if chosen is None else round(chosen.mean[0], 4),
        "admitted": verdict is not None and verdict.admitted,
        "whole_share": 1.0 if verdict is None else verdict.whole_share,
        "line": TOO_FEW if verdict is None else verdict.line,
        "tried": rows,
    }


def read_scale(view: View) -> dict[str, Any]:
    """``scale.json``; empty where the stage is not in the run."""
    path = view.learnt.artifact(SCALE_FILE)
    tree: dict[str, Any] = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
    return tree


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def _reads(scope: Scope) -> tuple[str, ...]:
    settings = but(LocalConfig, "local", "enabled", "weight")
    backbone = ("backbone.name", "backbone.output_stride", "backbone.weights")
    return (*backbone, *settings, "probe.images", "data.background", "data.train_splits", "seed")


def _cost(scope: Scope) -> Cost:
    sizes = scope.config.local.sides or ladder(max(side for shape in scope.sizes for side in shape))
    share = min(1.0, scope.config.local.images / max(1, len(scope.catalog.images)))
    looked = sum(megapixels(scope, side) for side in sizes)
    fits = len(sizes) * (1 + len(scope.config.local.shares))
    return Cost(forward=share * looked + megapixels(scope, sizes[-1]), read=megapixels(scope) * 2, fixed=FIT * fits)


STAGE = Stage(
    "local",
    3,
    run_local,
    "at which size a class is recognised, and maps of single places",
    peeks=("gate",),
    reads=_reads,
    makes=(LOCAL_FILE, SCALE_FILE, LOCAL_WEIGHTS),
    sections=(METRICS_SECTION,),
    wanted=lambda scope: scope.config.local.enabled and scope.config.probe.enabled,
    facts=lambda scope: {"images": scope.images, "training": scope.training, "weights": scope.weights},
    shared=True,
    per_image=True,
    cost=_cost,
)
