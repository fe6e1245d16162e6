"""Stage ``relabel`` of a later round: class maps fused with what the segmenter of the round before says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from recamlabel.core.arrays import fuse
from recamlabel.core.classes import BACKGROUND_ID
from recamlabel.data.passes import Group, Made, store_pass
from recamlabel.segment.predict import restrict
from recamlabel.stages import probe, saliency, spread
from recamlabel.stages.graph import Stage
from recamlabel.stages.map_files import stored_maps, to_store
from recamlabel.stages.networks import PREDICTOR, load_predictor, predictor_cost
from recamlabel.stages.view import View, maps_file
from recamlabel.storage.hdf5 import ShardedWriter, open_store


def run_relabel(view: View) -> Mapping[str, Any]:
    """Write the round's maps, under the name that its other stages look for."""
    assert view.first is not None and view.previous is not None
    # Of a round before, also where the images are another data set's.
    before = view.origin and replace(view.origin, run=view.previous)
    predictor = load_predictor(replace(view, run=view.previous, origin=before))
    source = view.config.refine.source
    weight, background = view.config.segmenter.relabel_weight, view.config.data.background
    attributes = {**view.provenance(), "segmenter": view.previous.key_of("segmenter")}
    with (
        open_store(view.first.path / view.maps_file) as maps,
        ShardedWriter(view.run.path / view.maps_file, view.key, attributes) as writer,
    ):

        def make(group: Group, pixels: list[np.ndarray]) -> Iterator[Made]:
            known = predictor.probabilities(pixels) if any(image.present for image in group) else [None] * len(group)
            for image, probabilities in zip(group, known, strict=True):
                arrays, ids = stored_maps(maps, source, image.id)
                if ids:
                    own = restrict(probabilities, [*([BACKGROUND_ID] if background else []), *ids])[-len(ids) :]
                    arrays[source] = fuse(arrays[source], own, weight)
                yield to_store(arrays, image.id, ids)

        store_pass(view.catalog, writer, "relabel", view.batch_pixels, make)
    return {}


STAGE = Stage(
    "relabel",
    2,
    run_relabel,
    "later rounds: maps fused with the segmenter before",
    needs=("maps", "probe", "spread", "saliency"),
    reads=(*PREDICTOR, "segmenter.relabel_weight", "refine.source", "data.background"),
    makes=lambda scope: (
        maps_file([one.name for one in (probe.STAGE, spread.STAGE, saliency.STAGE) if one.wanted(scope)]),
    ),
    wanted=lambda scope: scope.round > 1,
    facts=lambda scope: {"previous": scope.previous},
    shared=True,
    per_image=True,
    cost=predictor_cost,
)
