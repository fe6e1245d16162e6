"""Stage ``cams``: the classifier's maps by another variant than plain CAM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recamlabel.core.progress import say
from recamlabel.maps.patchmemory.source import PatchMemoryMaps
from recamlabel.maps.precomputed import file_identity
from recamlabel.stages.cost import Cost, megapixels
from recamlabel.stages.graph import Scope, Stage
from recamlabel.stages.map_files import map_cost, map_settings, map_source, write_maps
from recamlabel.stages.networks import BACKBONE, classifier_head
from recamlabel.stages.view import View
from recamlabel.storage.places import CAMS_FILE


def run_cams(view: View) -> Mapping[str, Any]:
    """Maps of the classifier by another variant than CAM, which the re-activation then trains with."""
    source = view.once("cams", lambda: map_source(view, *classifier_head(view)))
    facts = {}
    if isinstance(source, PatchMemoryMaps):
        facts = source.findings.facts()
        for line in source.findings.warnings():
            say(f"warning: {line}")
    return {**facts, **write_maps(view, CAMS_FILE, [source], ("classifier",))}


def _reads(scope: Scope) -> tuple[str, ...]:
    return (*BACKBONE, *map_settings(scope.config))


def _cost(scope: Scope) -> Cost:
    variant = scope.config.maps.variant
    if variant == "precomputed":
        return Cost(read=megapixels(scope))
    usual = map_cost(scope)
    # Each step climbs for each label: forward, and backward to the pixels.
    steps = scope.config.maps.advcam_steps if variant == "advcam" else 0
    return usual + Cost(training=usual.forward * steps * max(1.0, scope.labels))


STAGE = Stage(
    "cams",
    2,
    run_cams,
    "class maps by another variant than CAM",
    needs=("classifier",),
    reads=_reads,
    makes=(CAMS_FILE,),
    wanted=lambda scope: scope.config.maps.variant != "cam",
    facts=lambda scope: {"images": scope.images, "file": file_identity(scope.config.maps) or ""},
    shared=True,
    per_image=True,
    cost=_cost,
)
