"""The next round with what a reviewer decided: used only where ``review.use`` says that there are known masks."""

from __future__ import annotations

from collections.abc import Iterator

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.evaluation.calibration import KnownLevel, candidates, known_level
from recamlabel.masks.reviewed import ReviewedMasks, ReviewFolder
from recamlabel.stages.base import StageContext

# Fewer say less than the criterion that needs none.
ENOUGH = 5


def reviewed_level(context: StageContext, scores: h5py.File) -> KnownLevel | None:
    """The background level from accepted and painted masks; None where there are fewer than five with a label."""
    run, table = context.run, context.catalog.dataset.classes
    kinds = ReviewFolder(run.path).kinds()
    labelled = [image.id for image in context.catalog.images if image.present]
    names = [name for name in labelled if kinds.get(name) in {"accepted", "painted"}]
    if len(names) < ENOUGH or not context.config.data.background:
        return None
    stored = ReviewedMasks(run.path)

    def masks() -> Iterator[tuple[str, NDArray[np.integer]]]:
        for name in names:
            yield name, stored(name)

    return known_level(scores, masks(), candidates(run), len(table) + 1, table.ignore_id, context.config.seed)


def review_weights(context: StageContext, image_ids: list[str], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights of training images: ``review.weight`` where a reviewer accepted or painted the mask.

    Args:
        context: Of the run.
        image_ids: N ids.
        weights: ``(N,)`` as they are without a review.
    """
    kinds = ReviewFolder(context.run.path).kinds()
    settled = np.array([kinds.get(name) in {"accepted", "painted"} for name in image_ids], dtype=bool)
    result: NDArray[np.float32] = np.where(settled, np.float32(context.config.review.weight), weights)
    return result.astype(np.float32)
