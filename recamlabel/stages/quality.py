"""Stage ``quality``: quality scores and the order of review."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import h5py
import numpy as np

from recamlabel.core.classes import BACKGROUND_ID
from recamlabel.core.progress import say
from recamlabel.masks.quality import read_quality, review_order
from recamlabel.segment.predict import stored_support
from recamlabel.stages.cost import Cost
from recamlabel.stages.gate import read_gate
from recamlabel.stages.graph import Stage
from recamlabel.stages.view import View
from recamlabel.storage.atomic import write_text
from recamlabel.storage.hdf5 import open_store


def run_quality(view: View) -> Mapping[str, Any]:
    """Final quality scores: the segmenter's support joins what the masks stage knew."""
    run, table = view.run, view.catalog.dataset.classes
    qualities = read_quality(run.path)
    path = run.path / "segmenter.h5"
    normal: dict[str, bool] = {}
    if "segmentation" in view.planned:
        with open_store(path) as file:
            known_empty = filter(view.catalog.dataset.is_normal, view.catalog.images)
            normal = {image.id: _fires(file[image.id], table.ignore_id) for image in known_empty}
            qualities = {name: quality.with_support(*stored_support(file, name)) for name, quality in qualities.items()}
    doubted = distrusted(view)
    qualities = {name: quality.with_distrust(doubted) for name, quality in qualities.items()}
    if any(view.learnt.state.stages.get(name, {}).get("useless") for name in ("classifier", "recam")):
        # Gone on with because of --force: nothing that such a network says is worth a score.
        qualities = {name: replace(quality, score=0.0) for name, quality in qualities.items()}
    order = review_order({image.id: qualities[image.id] for image in view.catalog.images})
    images = {name: qualities[name].to_json(table) for name in order}
    lists = {kind: {name: one[kind] for name, one in images.items() if one[kind]} for kind in ("missing", "kept")}
    fires = [name for name, fired in normal.items() if fired]
    tree = {"order": order, **lists, "normal": {"images": len(normal), "fires": fires}, "images": images}
    write_text(run.path / "quality.json", json.dumps(tree, ensure_ascii=False, indent=1))
    scores = [quality.score for quality in qualities.values()]
    counts = {kind: sum(map(len, names.values())) for kind, names in lists.items()}
    _tell_objects(counts, len(lists["missing"]), sum(len(image.present) for image in view.catalog.images))
    if fires:
        say(f"quality: the segmenter finds something on {len(fires)} of {len(normal)} normal images, where nothing is")
    return {"mean": round(float(np.mean(scores)), 4), **counts, "normal": len(normal), "fires": len(fires)}


def distrusted(view: View) -> set[int]:
    """Ids of the classes that the gate does not trust; none where it judged random features."""
    classes = read_gate(view.first if view.first and not view.origin else view.learnt).get("classes", ())
    names = [one["name"] for one in classes if one["verdict"] == "do not trust"]
    return {view.catalog.dataset.classes.id_of(name) for name in names}


def _fires(mask: h5py.Dataset, ignore_id: int) -> bool:
    """Whether a mask of the segmenter, which sees no label, has a pixel of a class."""
    return bool(np.setdiff1d(np.unique(mask[()]), [BACKGROUND_ID, ignore_id]).size)


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


STAGE = Stage(
    "quality",
    7,
    run_quality,
    "quality scores and the order of review",
    needs=("masks", "segmentation"),
    peeks=("gate", "classifier", "recam"),
    makes=("quality.json",),
    per_image=True,
    cost=lambda scope: Cost(fixed=2e-3 * len(scope.catalog.images)),
)
