"""Stages ``refine`` and ``masks``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from recamlabel.core.arrays import map_histogram
from recamlabel.core.progress import say, track
from recamlabel.masks.calibrate import Calibration, LevelEvidence, calibrate, otsu_level
from recamlabel.masks.quality import read_quality, review_order
from recamlabel.masks.render import RenderJob, ignore_limit, render_masks
from recamlabel.refine import walks
from recamlabel.refine.build import build_scores
from recamlabel.refine.edges import EdgeWalk
from recamlabel.segment.predict import stored_support
from recamlabel.stages.base import StageContext
from recamlabel.stages.calibration import LEVELS_FILE
from recamlabel.storage.atomic import write_text
from recamlabel.storage.hdf5 import ShardedWriter, open_store

if TYPE_CHECKING:
    from recamlabel.evaluation.calibration import KnownLevel


NO_EFFECT = "of no effect: there is no background"


def run_refine(context: StageContext) -> Mapping[str, Any]:
    """Refine the maps into scores."""
    config = context.config.refine
    total = len(context.catalog.images)
    with ShardedWriter(
        context.run.path / "scores.h5", context.key, {**context.provenance(), "method": config.method}
    ) as writer:
        with (
            open_store(context.run.path / context.maps_file) as maps,
            track(f"refine ({config.method})", total, start=len(writer.done)) as advance,
            ExitStack() as stack,
        ):
            walk = None
            if walks(config.method):
                edges = stack.enter_context(open_store(context.run.path / "edges.h5"))
                walk = EdgeWalk(edges, context.config.affinity, context.device)
            build_scores(
                context.catalog,
                maps,
                config.method,
                config,
                writer,
                advance,
                context.workers,
                walk,
                context.config.data.background,
            )
        writer.finish()
    return {"method": config.method}


def run_masks(context: StageContext) -> Mapping[str, Any]:
    """Choose the background level where it is ``auto``, then render the masks."""
    config, run = context.config, context.run
    images = [image.id for image in context.catalog.images]
    with open_store(run.path / "scores.h5") as scores, open_store(run.path / context.maps_file) as maps:
        chosen = calibrate(LevelEvidence.load(run.path / LEVELS_FILE))
        plain = otsu_level([map_histogram(maps[f"cam/{name}"][()]) for name in images])
        level = _choose(context, scores, chosen)
        job = RenderJob(
            context.catalog,
            scores,
            maps,
            config.refine.source,
            level.threshold,
            plain,
            config.masks.ignore,
            config.data.background,
        )
        workers = max(1, context.workers)
        with track("evidence", len(images)) as advance:
            limit = ignore_limit(job, advance, workers)
        attributes = {
            **context.provenance(),
            "threshold": level.threshold,
            "ignore_id": context.catalog.dataset.classes.ignore_id,
            "ignore_limit": limit,
        }
        with track("masks", len(images)) as advance:
            pixels = render_masks(job, run.path, context.key, attributes, limit, advance, workers)
    section = {**chosen.to_json(), "used": level.threshold, "used_origin": level.origin}
    run.update_metrics("threshold", {**section, "known": level.known.to_json()} if level.known else section)
    say(_summary(level, chosen, pixels))
    return {"threshold": level.threshold, "threshold_origin": level.origin, "pixels": pixels}


@dataclass(frozen=True)
class Level:
    """The background level of the masks, where it is from, and the reviewed masks that were asked.

    ``free``: chosen without masks.
    """

    threshold: float
    origin: str
    free: bool
    known: KnownLevel | None = None


def _choose(context: StageContext, scores: h5py.File, chosen: Calibration) -> Level:
    """The level set by hand, else the one chosen without masks, unless reviewed masks overrule it."""
    config = context.config
    if config.masks.threshold != "auto":
        level = Level(float(config.masks.threshold), "set by hand", free=False)
    elif (known := _known(context, scores)) is None:
        level = Level(chosen.threshold, chosen.origin, free=True)
    elif known.interval[0] <= chosen.threshold <= known.interval[1]:
        origin = f"{chosen.origin}; {len(known.images)} reviewed masks agree"
        level = Level(chosen.threshold, origin, True, known)
    else:
        level = Level(known.threshold, known.origin, False, known)
    return level if config.data.background else replace(level, origin=NO_EFFECT, free=False)


def _known(context: StageContext, scores: h5py.File) -> KnownLevel | None:
    """The level from reviewed masks, where they are to be used.

    They are no fair sample: the most doubtful masks are reviewed first, and those want a level of their own
    (0.30 instead of 0.40 on MSRC-17). So they overrule the choice without masks only where it lies outside
    their interval.
    """
    if not context.config.review.use:
        return None
    from recamlabel.stages.reviewed import reviewed_level

    return reviewed_level(context, scores)


def _summary(level: Level, chosen: Calibration, pixels: Mapping[str, int]) -> str:
    low, high = chosen.interval
    other = (
        f", 90 % interval {low:.2f} to {high:.2f}" if level.free else f"; chosen without masks: {chosen.threshold:.2f}"
    )
    share = pixels["ignored"] / max(1, sum(pixels.values()))
    head = f"masks: background level {level.threshold:.2f} ({level.origin}{other})"
    return f"{head}; {share:.1%} of the pixels withheld (ignore)"


def run_quality(context: StageContext) -> Mapping[str, Any]:
    """Final quality scores: the segmenter's support joins what the masks stage knew."""
    run, table = context.run, context.catalog.dataset.classes
    known = read_quality(run.path)
    path = run.path / "segmenter.h5"
    if context.config.segmenter.enabled:
        with open_store(path) as file:
            known = {name: quality.with_support(*stored_support(file, name)) for name, quality in known.items()}
    if any(run.state.stages.get(name, {}).get("useless") for name in ("classifier", "recam")):
        # Gone on with because of --force: nothing that such a network says is worth a score.
        known = {name: replace(quality, score=0.0) for name, quality in known.items()}
    order = review_order({image.id: known[image.id] for image in context.catalog.images})
    images = {name: known[name].to_json(table) for name in order}
    lists = {kind: {name: one[kind] for name, one in images.items() if one[kind]} for kind in ("missing", "kept")}
    tree = {"order": order, **lists, "images": images}
    write_text(run.path / "quality.json", json.dumps(tree, ensure_ascii=False, indent=1))
    scores = [quality.score for quality in known.values()]
    counts = {kind: sum(map(len, names.values())) for kind, names in lists.items()}
    _tell_objects(counts, len(lists["missing"]), sum(len(image.present) for image in context.catalog.images))
    return {"mean": round(float(np.mean(scores)), 4), **counts}


def _tell_objects(counts: Mapping[str, int], images: int, labelled: int) -> None:
    """Say how many labelled objects have no pixel, and where the maps say little of most of them."""
    missing, kept = counts["missing"], counts["kept"]
    if missing:
        objects, have = ("object", "has") if missing == 1 else ("objects", "have")
        say(
            f"quality: {missing} labelled {objects} in {images} {'image' if images == 1 else 'images'} {have} no pixel "
            "in the mask: certainly wrong, and first in the review"
        )
    if kept + missing > labelled / 2:
        say(
            f"warning: {kept + missing} of {labelled} labelled objects have no pixel above the background level: the "
            "class maps say little here. Longer schedules (recam.min_steps, classifier.min_steps), or "
            "`recamlabel masks RUN --threshold` at a lower level, may help"
        )
