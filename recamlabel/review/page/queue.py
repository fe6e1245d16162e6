"""In what order a person looks at the masks: the doubtful ones first, but not twenty that are alike.

Order of ``quality.json``, with two changes. First every class gets a look: the worst mask of each class, worst class
first. Then, up to :data:`DIVERSE` places, the image of

    argmax_i  (1 - score_i) - WEIGHT * max_{j chosen} similarity(i, j)

follows (maximal marginal relevance: Carbonell & Goldstein 1998, equation 1), with the cosine of the images' centred
features, negative ones as 0. Without features, images with one label set are alike. The rest keeps its order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recamlabel.adapters.base import LabelledImage
from recamlabel.review.page.tables import QualityScores
from recamlabel.storage.hdf5 import open_store
from recamlabel.storage.places import FEATURES_FILE
from recamlabel.storage.run_folder import RunFolder

DIVERSE, CANDIDATES, WEIGHT = 200, 1000, 0.3


def review_queue(run: RunFolder, images: Sequence[LabelledImage], quality: QualityScores) -> list[LabelledImage]:
    """All images, the one to look at first in front."""
    rank = {name: position for position, name in enumerate(quality.order)}
    ranked = sorted(images, key=lambda image: rank.get(image.id, len(rank)))
    head = ranked[:CANDIDATES]
    doubt = np.array([_doubt(quality, image.id) for image in head])
    first = _each_class(head)
    order = diverse_order(doubt, _similarities(run, head), first, DIVERSE)
    return [head[place] for place in order] + ranked[CANDIDATES:]


def diverse_order(
    doubt: NDArray[np.floating], alike: NDArray[np.floating], first: Sequence[int], places: int
) -> list[int]:
    """An order of N images, most doubtful first, in which the first ones are not alike.

    Args:
        doubt: ``(N,)``, from 0.
        alike: ``(N, N)`` similarities in [0, 1].
        first: Images that stand in front in any case.
        places: How many places are filled so; the rest follows in the order given.

    Returns:
        Every number from 0 to N - 1 once.

    Example:
        >>> alike = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> diverse_order(np.array([0.9, 0.8, 0.7]), alike, [], 3)
        [0, 2, 1]
    """
    order = list(first[:places])
    left = np.ones(len(doubt), dtype=bool)
    left[order] = False
    nearest = alike[:, order].max(axis=1) if order else np.zeros(len(doubt))
    while left.any() and len(order) < places:
        best = int(np.where(left, doubt - WEIGHT * nearest, -np.inf).argmax())
        order.append(best)
        left[best] = False
        nearest = np.maximum(nearest, alike[:, best])
    return [*order, *np.flatnonzero(left).tolist()]


def _doubt(quality: QualityScores, image_id: str) -> float:
    """In [0, 1], and 1 more where a labelled class is missing: that mask is certainly wrong."""
    row = quality.images.get(image_id, {})
    return 1 - float(row.get("score", 1.0)) + bool(row.get("missing"))


def _each_class(images: Sequence[LabelledImage]) -> list[int]:
    """Places of images that show each class once, the first one with a class that was not shown yet."""
    shown: set[str] = set()
    chosen = []
    for place, image in enumerate(images):
        if image.present - shown:
            chosen.append(place)
            shown |= image.present
    return chosen


def _similarities(run: RunFolder, images: Sequence[LabelledImage]) -> NDArray[np.float32]:
    """``(N, N)`` in [0, 1]: of the features of the gate, where they are there and current, else of the labels."""
    path = run.artifact(FEATURES_FILE)
    if path is not None and path.is_file() and len(images) > 1:
        with open_store(path) as file:
            if all(image.id in file for image in images):
                rows = np.stack([np.asarray(file[image.id][()], dtype=np.float32).ravel() for image in images])
                return _cosines(rows - rows.mean(axis=0))
    labels = {image.present: number for number, image in enumerate(images)}
    own = np.array([labels[image.present] for image in images])
    return np.asarray(own[:, None] == own[None, :], dtype=np.float32)


def _cosines(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    cosines: NDArray[np.float32] = np.clip(unit @ unit.T, 0.0, 1.0)
    return cosines
