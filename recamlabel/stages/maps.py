"""Stage ``maps``: class maps of the classifier (``cam``) and of the re-activated network (``recam``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recamlabel.core import ranks
from recamlabel.maps.base import MapSource
from recamlabel.maps.precomputed import PrecomputedMaps
from recamlabel.stages.agreement import METRICS_SECTION, RECAM_FILE, settle, settled
from recamlabel.stages.cost import Cost
from recamlabel.stages.graph import Scope, Stage
from recamlabel.stages.map_files import map_cost, map_settings, map_source, write_maps
from recamlabel.stages.networks import BACKBONE, RECAM, classifier_head, recam_head
from recamlabel.stages.view import View
from recamlabel.storage.places import CAMS_FILE, MAPS_FILE


def run_maps(view: View) -> Mapping[str, Any]:
    """Maps of the classifier (``cam``) and of the re-activated network (``recam``)."""
    config = view.config
    learnt, second = recam_head(view)
    sources: list[MapSource]
    if config.maps.variant != "cam":
        stored = PrecomputedMaps(view.run.path / CAMS_FILE, view.catalog.dataset.classes, config.maps)
        # A file has no weight to re-activate: the re-activated maps are plain CAM with the new weight. Other variants
        # make theirs with it: of `patchmemory` it shares the distance among the classes.
        sources = [stored, view.once("recam maps", lambda: map_source(view, learnt, second, fallback="cam"))]
    else:
        backbone, first = classifier_head(view)
        # One pass makes both where the re-activation left the backbone as it was.
        shared = config.recam.backbone_lr_factor == 0
        both = (backbone, first), (backbone if shared else learnt, second)
        if view.origin:
            second = {"recam": settled(view, second["recam"], first["cam"])}
        else:
            second = {"recam": ranks.of_first(lambda: settle(view, *both).cpu()).to(view.device)}
        sources = (
            [map_source(view, backbone, first | second)]
            if shared
            else [map_source(view, backbone, first), map_source(view, learnt, second)]
        )
    return write_maps(view, MAPS_FILE, sources, ("classifier", "recam"))


def _reads(scope: Scope) -> tuple[str, ...]:
    plain = (
        ("recam.min_agreement", "gate.weak_positives", "data.train_splits")
        if scope.config.maps.variant == "cam"
        else ()
    )
    return (*BACKBONE, *RECAM, "recam.combine", "recam.backbone_lr_factor", *plain, *map_settings(scope.config))


def _cost(scope: Scope) -> Cost:
    config = scope.config
    shared = config.recam.backbone_lr_factor == 0 or config.maps.variant != "cam"
    return map_cost(scope).times(1 if shared else 2)


STAGE = Stage(
    "maps",
    3,
    run_maps,
    "class maps of both heads over scales and flips",
    needs=("classifier", "cams", "recam"),
    reads=_reads,
    makes=lambda scope: (MAPS_FILE, RECAM_FILE) if scope.config.maps.variant == "cam" else (MAPS_FILE,),
    sections=(METRICS_SECTION,),
    facts=lambda scope: {"images": scope.images},
    shared=True,
    per_image=True,
    cost=_cost,
)
