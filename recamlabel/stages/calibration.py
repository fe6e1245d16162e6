"""Stage ``calibration``: what the candidate background levels are worth, without any true mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recamlabel.adapters.base import LabelledImage
from recamlabel.core.arrays import from_uint8, resize_maps
from recamlabel.core.devices import to_device
from recamlabel.core.progress import track
from recamlabel.data.batches import Normalisation, resize
from recamlabel.masks.calibrate import LevelEvidence
from recamlabel.masks.criterion import appearance, candidate_levels, kept_alone, separation
from recamlabel.models.inputs import run_network, working_size
from recamlabel.models.networks import ClassifierNet
from recamlabel.refine import stepped
from recamlabel.stages.cost import PIXEL_WORK, Cost, megapixels
from recamlabel.stages.graph import Scope, Stage
from recamlabel.stages.networks import BACKBONE, load_classifier
from recamlabel.stages.refine import SCORES_FILE
from recamlabel.stages.view import View
from recamlabel.storage.decode import read_image
from recamlabel.storage.hdf5 import class_ids, open_store

LEVELS_FILE = "levels.h5"
# Images whose separation is measured, and those that the classifier is asked about: means over so many
# are steady, and a data set of a hundred thousand does not wait for them.
SEPARATION_IMAGES = 2000
KEPT_IMAGES = 64


def run_calibration(view: View) -> Mapping[str, Any]:
    """Separation and kept confidence of the refined masks at every candidate level."""
    config, path = view.config, view.run.path
    steps = stepped(config.refine.method)
    levels = candidate_levels(config.refine.levels if steps else [], steps)
    labelled = [image for image in view.catalog.images if image.present] if config.data.background else []
    net = load_classifier(view)
    to_device(net, view.device).eval()
    asked = {image.id for image in spread(labelled, KEPT_IMAGES)}
    apart, kept = [], []
    chosen = spread(labelled, SEPARATION_IMAGES)
    with open_store(path / SCORES_FILE) as scores, track("calibration", len(chosen)) as advance:
        for image in chosen:
            stored = scores[f"scores/{image.id}"]
            pixels, soft = read_image(image.path), from_uint8(stored[()])
            if image.id in asked:
                kept.append(_kept(view, net, pixels, soft, class_ids(stored), levels))
            apart.append(separation(appearance(resize(pixels, *soft.shape[1:])), soft, levels))
            advance()
    rows = [np.reshape(part, (-1, len(levels))) for part in (apart, kept)]
    LevelEvidence(np.array(levels), *rows).save(path / LEVELS_FILE, {"stage_key": view.key})
    return {"asked": len(kept)}


def spread(images: Sequence[LabelledImage], count: int) -> list[LabelledImage]:
    """At most ``count`` images, evenly over the data set.

    Example:
        >>> spread(range(10), 3)
        [0, 3, 6]
    """
    if len(images) <= count:
        return list(images)
    return [images[position * len(images) // count] for position in range(count)]


def _kept(
    view: View,
    net: ClassifierNet,
    pixels: NDArray[np.uint8],
    soft: NDArray[np.float32],
    ids: Sequence[int],
    levels: Sequence[float],
) -> NDArray[np.float64]:
    """Mean over the labels of the classifier's confidence in each, ``(L,)``."""
    size = working_size(pixels.shape[0], pixels.shape[1], view.config.augment.resize_max)
    small = resize(pixels, *size)
    scores = resize_maps(soft, *size)
    normalisation = Normalisation(net.backbone.mean, net.backbone.std)
    confidences = []
    for class_id, pictures in zip(ids, kept_alone(small, scores, levels), strict=True):
        first, place = different(pictures)
        asked = [pictures[index] for index in first]
        logits = run_network(net, asked, size, normalisation, view.device, view.config.runtime.amp)
        confidences.append(logits[:, class_id - 1].float().sigmoid().double().cpu().numpy()[place])
    mean: NDArray[np.float64] = np.mean(confidences, axis=0)
    return mean


def different(pictures: Sequence[NDArray[np.uint8]]) -> tuple[list[int], list[int]]:
    """Where a picture is not the one before it, and which of those each one is.

    A class often keeps its region from one level to the next; the network need not look at the same picture again.

    Example:
        >>> one, two = np.zeros((1, 1, 3), np.uint8), np.ones((1, 1, 3), np.uint8)
        >>> different([one, one, two])
        ([0, 2], [0, 0, 1])
    """
    first: list[int] = []
    place = []
    for index, picture in enumerate(pictures):
        if not first or not np.array_equal(picture, pictures[index - 1]):
            first.append(index)
        place.append(len(first) - 1)
    return first, place


def _reads(scope: Scope) -> tuple[str, ...]:
    levels = ("refine.levels",) if stepped(scope.config.refine.method) else ()
    return (*BACKBONE, "refine.method", "augment.resize_max", "data.background", *levels)


def _cost(scope: Scope) -> Cost:
    config, images = scope.config, max(1, len(scope.catalog.images))
    steps = stepped(config.refine.method)
    levels = len(candidate_levels(config.refine.levels if steps else [], steps))
    asked, apart = (min(1.0, count / images) for count in (KEPT_IMAGES, SEPARATION_IMAGES))
    return Cost(
        forward=megapixels(scope, config.augment.resize_max) * asked * scope.labels * levels,
        read=megapixels(scope) * apart + PIXEL_WORK * megapixels(scope, config.refine.max_side) * apart,
    )


STAGE = Stage(
    "calibration",
    2,
    run_calibration,
    "what every background level is worth, without masks",
    needs=("classifier", "refine"),
    reads=_reads,
    makes=(LEVELS_FILE,),
    cost=_cost,
)
