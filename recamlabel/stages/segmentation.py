"""Stage ``segmentation``: the segmenter's own masks of all images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.adapters.base import LabelledImage
from recamlabel.core.arrays import from_uint8
from recamlabel.core.devices import Halving
from recamlabel.core.pool import map_in_order
from recamlabel.core.progress import track
from recamlabel.data.passes import batches_by_shape, read_ahead
from recamlabel.masks.evidence import iou, support
from recamlabel.refine.config import CrfConfig
from recamlabel.segment.masks import MaskTask, make_mask, smoothing
from recamlabel.segment.predict import Predictor, decide, restrict
from recamlabel.stages.cost import LATTICE, Cost, megapixels
from recamlabel.stages.graph import Scope, Stage, but
from recamlabel.stages.networks import PREDICTOR, load_predictor, predictor_cost
from recamlabel.stages.view import View
from recamlabel.storage.hdf5 import ShardedWriter, open_store
from recamlabel.storage.places import SCORES_FILE

SEGMENTATION_FILE = "segmenter.h5"


def run_segmentation(view: View) -> Mapping[str, Any]:
    """The segmenter's own masks of all images, which know nothing of an image's labels."""
    predictor, crf = load_predictor(view), smoothing(view.config.segmenter.predict)
    attributes = {**view.provenance(), "model_keys": {"segmenter": view.learnt.key_of("segmenter")}}
    opinions: dict[str, dict[str, Any]] = {}
    with (
        open_store(view.run.path / "masks.h5") as masks,
        open_store(view.run.path / SCORES_FILE) as scores,
        ShardedWriter(view.run.path / SEGMENTATION_FILE, view.key, attributes) as writer,
    ):
        todo = writer.todo(view.catalog.images)

        def tasks() -> Iterator[MaskTask]:
            for image, probabilities in _answers(view, predictor, todo):
                shape, dtype = view.catalog.shapes[image.id], view.catalog.dataset.classes.mask_dtype
                opinions[image.id] = _opinion(view, probabilities, image, masks, scores)
                yield MaskTask(image.id, image.path, probabilities, shape, dtype, crf, view.config.data.background)

        with track("segmentation", len(writer.done) + len(todo), start=len(writer.done)) as advance:
            for task, mask in map_in_order(make_mask, tasks(), view.workers if crf else 1, "segmentation", view.device):
                writer.add(task.image_id, {task.image_id: (mask, opinions.pop(task.image_id))})
                advance()
        writer.finish()
    return {}


def _answers(
    view: View, predictor: Predictor, images: list[LabelledImage]
) -> Iterator[tuple[LabelledImage, NDArray[np.float32]]]:
    halving = Halving("segmentation")
    alike = view.alike(predictor.max_side)
    for group, pixels in read_ahead(batches_by_shape(view.catalog, images, view.batch_pixels, alike=alike)):
        answers = chain.from_iterable(halving(predictor.probabilities, pixels))
        yield from zip(group, answers, strict=True)


def _opinion(
    view: View, probabilities: NDArray[np.float32], image: LabelledImage, masks: h5py.File, scores: h5py.File
) -> dict[str, Any]:
    """What the segmenter, told the image's labels, thinks of its pseudo mask, class by class."""
    table, background = view.catalog.dataset.classes, view.config.data.background
    own, ids = table.ids_of(image.present), table.candidates(image.present)
    pseudo, shape = masks[image.id][()], view.catalog.shapes[image.id]
    restricted = decide(probabilities, shape, table.mask_dtype, own, background=background) if own else np.zeros(shape)
    decided = pseudo != table.ignore_id
    overlap = [iou((restricted == class_id) & decided, (pseudo == class_id) & decided) for class_id in ids]
    level = float(masks.attrs["threshold"])
    own_scores = from_uint8(scores[f"scores/{image.id}"][()])
    whole, classes = support(restrict(probabilities, ids), own_scores, level, background)
    return {
        "agreement_ids": np.array(ids, dtype=np.int32),
        "agreement": np.array(overlap, dtype=np.float32),
        "support": whole,
        "class_support": np.array(classes, dtype=np.float32),
    }


def _reads(scope: Scope) -> tuple[str, ...]:
    # Probabilities come with their own doubt: gt_prob is for labels.
    names = but(CrfConfig, "segmenter.predict.crf", "gt_prob")
    crf = names if smoothing(scope.config.segmenter.predict) else ()
    return (*PREDICTOR, "segmenter.predict.smooth", *crf, "data.background")


def _cost(scope: Scope) -> Cost:
    config = scope.config.segmenter.predict
    # Smoothed at half of the inputs' size.
    small = megapixels(scope, config.max_side) / 4 if smoothing(config) else 0.0
    return predictor_cost(scope) + Cost(refine=small * (scope.labels + LATTICE))


STAGE = Stage(
    "segmentation",
    4,
    run_segmentation,
    "the segmenter's masks of all images",
    needs=("refine", "masks", "segmenter"),
    reads=_reads,
    makes=(SEGMENTATION_FILE,),
    wanted=lambda scope: scope.config.segmenter.enabled,
    facts=lambda scope: {"images": scope.images},
    shared=True,
    per_image=True,
    cost=_cost,
)
