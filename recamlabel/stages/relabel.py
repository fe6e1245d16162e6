"""Stage ``relabel`` of a later round: class maps fused with what the segmenter of the round before says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recamlabel.core.arrays import fuse
from recamlabel.core.classes import BACKGROUND_ID
from recamlabel.core.progress import track
from recamlabel.data.passes import batches_by_shape, read_ahead
from recamlabel.segment.predict import restrict
from recamlabel.stages.base import StageContext
from recamlabel.stages.segment import load_predictor
from recamlabel.storage.hdf5 import ShardedWriter, class_ids, open_store


def run_relabel(context: StageContext, first: Path, previous: StageContext) -> Mapping[str, Any]:
    """Write the round's maps, under the name that its other stages look for.

    Args:
        context: Of the new round.
        first: The first round's file of maps.
        previous: Of the round before, whose segmenter is trained.
    """
    predictor, catalog = load_predictor(previous), context.catalog
    source = context.config.refine.source
    weight = context.config.segmenter.relabel_weight
    attributes = {**context.provenance(), "segmenter": previous.run.key_of("segmenter")}
    with (
        open_store(first) as maps,
        ShardedWriter(context.run.path / context.maps_file, context.key, attributes) as writer,
        track("relabel", len(catalog.images), start=len(writer.done)) as advance,
    ):
        todo = [image for image in catalog.images if image.id not in writer.done]
        for group, pixels in read_ahead(batches_by_shape(catalog, todo, context.batch_pixels), threads=2):
            found = predictor.probabilities(pixels) if any(image.present for image in group) else [None] * len(group)
            for image, probabilities in zip(group, found, strict=True):
                stored = {name: group[image.id] for name, group in maps.items() if image.id in group}
                ids = class_ids(stored[source])
                arrays = {name: item[()] for name, item in stored.items()}
                if ids:
                    arrays[source] = fuse(arrays[source], restrict(probabilities, [BACKGROUND_ID, *ids])[1:], weight)
                attrs = {"class_ids": np.array(ids, dtype=np.int32)}
                writer.add(image.id, {f"{name}/{image.id}": (array, attrs) for name, array in arrays.items()})
            advance(len(group))
        writer.finish()
    return {}
