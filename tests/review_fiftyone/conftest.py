"""Fixtures of the tests with a real FiftyOne."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from export_by_hand import scattered_mask
from review_by_hand import SHAPES, Review, run_to_review

from recamlabel.review.fiftyone.session import connect
from recamlabel.storage.hdf5 import ShardedWriter


@pytest.fixture
def review(fiftyone_database: str, tmp_path: Path) -> Iterator[Review]:
    """A run that is not exported yet, and a data set name of its own."""
    run, masks = run_to_review(tmp_path)
    link = connect(run, f"review-{uuid.uuid4().hex[:8]}")
    yield Review(run, masks, link)
    if link.exists():
        link.fiftyone.delete_dataset(link.name)


@pytest.fixture
def other_masks() -> Callable[[Review], dict[str, np.ndarray]]:
    """Makes the run's masks anew, as a fit with other settings would."""

    def change(review: Review) -> dict[str, np.ndarray]:
        masks = {name: scattered_mask(70 + place, shape) for place, (name, shape) in enumerate(SHAPES.items())}
        with ShardedWriter(review.run.path / "masks.h5", "other", {}, resume=False) as writer:
            for name, mask in masks.items():
                writer.add(name, {name: (mask, {})})
            writer.finish()
        review.run.finish("masks", "other-masks-key", 1.0, ["masks.h5"], threshold=0.7)
        for stage, file in (("segmentation", "segmenter.h5"), ("quality", "quality.json")):
            review.run.finish(stage, f"other-{stage}-key", 1.0, [file])
        review.masks = masks
        return masks

    return change
