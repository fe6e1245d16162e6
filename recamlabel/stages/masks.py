"""Stage ``masks``: the background level, and the masks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.core import ranks
from recamlabel.core.arrays import map_histogram
from recamlabel.core.progress import say, track
from recamlabel.errors import StoreError
from recamlabel.evaluation.calibration import KnownLevel, candidates, known_level
from recamlabel.masks.calibrate import ANYWHERE, Calibration, LevelEvidence, calibrate, otsu_level
from recamlabel.masks.render import RenderJob, ignore_limit, object_sizes, render_masks
from recamlabel.masks.reviewed import ReviewedMasks, ReviewFolder
from recamlabel.stages.calibration import LEVELS_FILE
from recamlabel.stages.cost import PIXEL_WORK, Cost, megapixels
from recamlabel.stages.graph import Scope, Stage
from recamlabel.stages.view import View
from recamlabel.storage.hdf5 import open_store
from recamlabel.storage.places import SCORES_FILE

if TYPE_CHECKING:
    from recamlabel.evaluation.calibration import KnownLevel


# Attributes of masks.h5, for images that come later.
CAM_LEVEL, SIZES = "cam_threshold", "object_sizes"
NO_EFFECT = "of no effect: there is no background"


def run_masks(view: View) -> Mapping[str, Any]:
    """Choose the background level where it is ``auto``, then render the masks."""
    if view.origin:
        return {"pixels": _as_in_the_run(view)}
    run = view.run
    own = len(ranks.share(view.catalog.images))
    with open_store(run.path / SCORES_FILE) as scores, open_store(run.path / view.maps_file) as maps:
        level, plain, chosen = ranks.of_first(lambda: _levels(view, scores, maps))
        job = _job(view, scores, maps, level.threshold, plain)
        if view.catalog.dataset.classes.background:
            with track("sizes", own, more=True) as advance:
                job = replace(job, sizes=object_sizes(job, advance))
        workers = max(1, view.workers)
        with track("evidence", own, more=True) as advance:
            limit = ignore_limit(job, advance, workers)
        attributes = {
            **view.provenance(),
            "threshold": level.threshold,
            "ignore_id": view.catalog.dataset.classes.ignore_id,
            "ignore_limit": limit,
            CAM_LEVEL: plain,
            SIZES: dict(job.sizes or {}),
        }
        with track("masks", own) as advance:
            pixels = render_masks(job, run.path, view.key, attributes, limit, advance, workers)
    section = {**chosen.to_json(), "used": level.threshold, "used_origin": level.origin}
    known = {"known": level.known.to_json()} if level.known else {}
    run.update_metrics("threshold", {**section, **known}, stage="masks")
    say(summary(level, chosen, pixels))
    return {"threshold": level.threshold, "threshold_origin": level.origin, "pixels": pixels}


def _job(view: View, scores: h5py.File, maps: h5py.File, level: float, plain: float) -> RenderJob:
    config = view.config
    # The PNGs' mode is in no key: the indices are the same, and `fit` writes the files anew where it differs.
    png = view.settings.masks.png
    return RenderJob(view.catalog, scores, maps, config.refine.source, level, plain, config.masks.ignore, png)


def _as_in_the_run(view: View) -> dict[str, int]:
    """Masks of images of another data set, with all that was chosen for the run's own."""
    with open_store(view.learnt.need("masks.h5")) as made:
        if SIZES not in made.attrs:
            raise StoreError(
                f"{made.filename}: made by a version that did not keep how large the objects are; delete it and run "
                f"`recamlabel fit {view.learnt.path}`, which makes it again as it was"
            )
        level, limit, plain = (float(made.attrs[name]) for name in ("threshold", "ignore_limit", CAM_LEVEL))
        sizes = {int(name): float(size) for name, size in json.loads(made.attrs[SIZES]).items()}
    attributes = {
        **view.provenance(),
        "threshold": level,
        "ignore_id": view.catalog.dataset.classes.ignore_id,
        "ignore_limit": limit,
        "model_keys": {"masks": view.learnt.key_of("masks")},
    }
    with (
        open_store(view.run.path / SCORES_FILE) as scores,
        open_store(view.run.path / view.maps_file) as maps,
        track("masks", len(view.catalog.images)) as advance,
    ):
        job = _job(view, scores, maps, level, plain)
        if view.catalog.dataset.classes.background:
            job = replace(job, sizes=sizes)
        return render_masks(job, view.run.path, view.key, attributes, limit, advance, max(1, view.workers))


@dataclass(frozen=True)
class Level:
    """The background level of the masks, where it is from, and the reviewed masks that were asked.

    ``free``: chosen without masks.
    """

    threshold: float
    origin: str
    free: bool
    known: KnownLevel | None = None


def _levels(view: View, scores: h5py.File, maps: h5py.File) -> tuple[Level, float, Calibration]:
    """The background level of the masks, that of plain CAM, and what was chosen without masks."""
    chosen = calibrate(LevelEvidence.load(view.run.path / LEVELS_FILE), view.config.seed)
    plain = otsu_level(map_histogram(maps[f"cam/{image.id}"][()]) for image in view.catalog.images)
    return _choose(view, scores, chosen), plain, chosen


def _choose(view: View, scores: h5py.File, chosen: Calibration) -> Level:
    """The level set by hand, else the one chosen without masks, unless reviewed masks overrule it."""
    config = view.config
    if config.masks.threshold != "auto":
        level = Level(float(config.masks.threshold), "set by hand", free=False)
    elif (known := _known(view, scores)) is None:
        level = Level(chosen.threshold, chosen.origin, free=True)
    elif known.interval[0] <= chosen.threshold <= known.interval[1]:
        origin = f"{chosen.origin}; {len(known.images)} reviewed masks agree"
        level = Level(chosen.threshold, origin, True, known)
    else:
        level = Level(known.threshold, known.origin, False, known)
    return level if config.data.background else replace(level, origin=NO_EFFECT, free=False)


def _known(view: View, scores: h5py.File) -> KnownLevel | None:
    """The level from reviewed masks, where they are to be used.

    They are no fair sample: the most doubtful masks are reviewed first, and those want a level of their own
    (0.30 instead of 0.40 on MSRC-17). So they overrule the choice without masks only where it lies outside
    their interval.
    """
    return reviewed_level(view, scores) if view.reviewed else None


def summary(level: Level, chosen: Calibration, pixels: Mapping[str, int]) -> str:
    low, high = chosen.interval
    if not level.free:
        other = f"; chosen without masks: {chosen.threshold:.2f}"
    else:
        other = "" if chosen.interval == ANYWHERE else f", 90 % interval {low:.2f} to {high:.2f}"
    share = pixels["ignored"] / max(1, sum(pixels.values()))
    head = f"masks: background level {level.threshold:.2f} ({level.origin}{other})"
    return f"{head}; {share:.1%} of the pixels withheld"


# Fewer say less than the criterion that needs none.
ENOUGH = 5


def reviewed_level(view: View, scores: h5py.File) -> KnownLevel | None:
    """The background level from accepted and painted masks; None where there are fewer than five with a label."""
    run, table = view.run, view.catalog.dataset.classes
    kinds = ReviewFolder(run.path).kinds()
    labelled = [image.id for image in view.catalog.images if image.present]
    names = [name for name in labelled if kinds.get(name) in {"accepted", "painted"}]
    if len(names) < ENOUGH or not view.config.data.background:
        return None
    stored = ReviewedMasks(run.path)

    def masks() -> Iterator[tuple[str, NDArray[np.integer]]]:
        for name in names:
            yield name, stored(name)

    return known_level(scores, masks(), candidates(run), len(table) + 1, table.ignore_id, view.config.seed)


def _facts(scope: Scope) -> dict[str, str]:
    overruled = scope.config.masks.threshold == "auto" and scope.config.data.background
    return {"reviewed": scope.reviewed} if overruled and scope.settled >= ENOUGH else {}


def _cost(scope: Scope) -> Cost:
    return Cost(read=PIXEL_WORK * megapixels(scope))


STAGE = Stage(
    "masks",
    10,
    run_masks,
    "background level; masks as HDF5 and PNG",
    needs=("refine", "calibration"),
    reads=("masks.threshold", "masks.ignore", "data.background", "refine.source", "seed"),
    makes=("masks.h5", "masks"),
    sections=("threshold",),
    facts=_facts,
    shared=True,
    per_image=True,
    cost=_cost,
)
