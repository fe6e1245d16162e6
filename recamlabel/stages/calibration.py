"""Stage ``calibration``: what the candidate background levels are worth, without any true mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recamlabel.adapters.base import LabelledImage
from recamlabel.core.arrays import from_uint8, resize_maps
from recamlabel.core.devices import to_device
from recamlabel.core.progress import track
from recamlabel.data.batches import Normalisation, resize
from recamlabel.masks.calibrate import Answers, LevelEvidence, answers
from recamlabel.masks.criterion import candidate_levels
from recamlabel.models.inputs import run_network, working_size
from recamlabel.models.networks import ClassifierNet
from recamlabel.refine import stepped
from recamlabel.stages.cost import Cost, megapixels
from recamlabel.stages.graph import Scope, Stage
from recamlabel.stages.networks import BACKBONE, load_classifier
from recamlabel.stages.view import View
from recamlabel.storage.decode import read_image
from recamlabel.storage.hdf5 import class_ids, open_store
from recamlabel.storage.places import SCORES_FILE

LEVELS_FILE = "work/levels.h5"
# Images that the classifier is asked about: means over so many are steady, and a data set of a hundred thousand does
# not wait for them.
ASKED_IMAGES = 64
# Pictures of one image at a time.
PICTURES = 8


def run_calibration(view: View) -> Mapping[str, Any]:
    """What the classifier says to the refined masks at every candidate level."""
    config, path = view.config, view.run.path
    steps = stepped(config.refine.method)
    levels = candidate_levels(config.refine.levels if steps else [], steps)
    labelled = [image for image in view.catalog.images if image.present] if config.data.background else []
    net = load_classifier(view)
    to_device(net, view.device).eval()
    rows: list[Answers] = []
    chosen = spread(labelled, ASKED_IMAGES)
    with open_store(path / SCORES_FILE) as scores, track("calibration", len(chosen)) as advance:
        for image in chosen:
            stored = scores[f"scores/{image.id}"]
            rows += _answers(view, net, read_image(image.path), from_uint8(stored[()]), class_ids(stored), levels)
            advance()
    LevelEvidence.of(levels, rows).save(path / LEVELS_FILE, {"stage_key": view.key})
    return {"asked": len(chosen)}


def spread(images: Sequence[LabelledImage], count: int) -> list[LabelledImage]:
    """At most ``count`` images, evenly over the data set.

    Example:
        >>> spread(range(10), 3)
        [0, 3, 6]
    """
    if len(images) <= count:
        return list(images)
    return [images[position * len(images) // count] for position in range(count)]


def _answers(
    view: View,
    net: ClassifierNet,
    pixels: NDArray[np.uint8],
    soft: NDArray[np.float32],
    ids: Sequence[int],
    levels: Sequence[float],
) -> Iterator[Answers]:
    size = working_size(pixels.shape[0], pixels.shape[1], view.config.maps.max_side)
    small = resize(pixels, *size)
    own = np.array(ids) - 1
    normalisation = Normalisation(net.backbone.mean, net.backbone.std)

    def ask(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Confidence in the image's own classes, ``(n, C)``."""
        first, place = different(pictures)
        asked = [pictures[index] for index in first]
        logits = [
            run_network(net, asked[start : start + PICTURES], size, normalisation, view.device, view.config.runtime.amp)
            for start in range(0, len(asked), PICTURES)
        ]
        found: NDArray[np.float64] = torch.cat(logits).float().sigmoid().double().cpu().numpy()[place][:, own]
        return found

    return answers(small, resize_maps(soft, *size), levels, ask)


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
    return (*BACKBONE, "refine.method", "maps.max_side", "data.background", *levels)


def _cost(scope: Scope) -> Cost:
    config, images = scope.config, max(1, len(scope.catalog.images))
    steps = stepped(config.refine.method)
    levels = len(candidate_levels(config.refine.levels if steps else [], steps))
    asked = min(1.0, ASKED_IMAGES / images)
    return Cost(
        forward=megapixels(scope, config.maps.max_side) * asked * (2 * scope.labels * levels + 2),
        read=megapixels(scope) * asked,
    )


STAGE = Stage(
    "calibration",
    3,
    run_calibration,
    "what every background level is worth, without masks",
    needs=("classifier", "refine"),
    reads=_reads,
    makes=(LEVELS_FILE,),
    cost=_cost,
)
