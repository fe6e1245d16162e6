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
from recamlabel.stages.graph import Scope, Stage
from recamlabel.stages.networks import PREDICTOR, load_predictor, predictor_cost
from recamlabel.stages.view import View
from recamlabel.storage.hdf5 import ShardedWriter, class_ids, open_store
from recamlabel.storage.places import FUSED_FILE, MAPS_FILE, SALIENT_FILE


def run_relabel(view: View) -> Mapping[str, Any]:
    """Write the round's maps, under the name that its other stages look for."""
    assert view.first is not None and view.previous is not None
    predictor = load_predictor(replace(view, run=view.previous))
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
                stored = {name: group[image.id] for name, group in maps.items() if image.id in group}
                ids = class_ids(stored[source])
                arrays = {name: item[()] for name, item in stored.items()}
                if ids:
                    own = restrict(probabilities, [*([BACKGROUND_ID] if background else []), *ids])[-len(ids) :]
                    arrays[source] = fuse(arrays[source], own, weight)
                attrs = {"class_ids": np.array(ids, dtype=np.int32)}
                yield {f"{name}/{image.id}": (array, attrs) for name, array in arrays.items()}

        store_pass(view.catalog, writer, "relabel", view.batch_pixels, make)
    return {}


def _file(scope: Scope) -> str:
    if scope.config.refine.saliency:
        return SALIENT_FILE
    return FUSED_FILE if scope.config.probe.enabled else MAPS_FILE


STAGE = Stage(
    "relabel",
    2,
    run_relabel,
    "later rounds: maps fused with the segmenter before",
    needs=("maps", "probe", "saliency"),
    reads=(*PREDICTOR, "segmenter.relabel_weight", "refine.source", "data.background"),
    makes=lambda scope: (_file(scope),),
    wanted=lambda scope: scope.round > 1,
    facts=lambda scope: {"previous": scope.previous},
    cost=predictor_cost,
)
