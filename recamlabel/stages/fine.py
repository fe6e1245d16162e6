"""Stage ``fine``: the class maps with the objects' ends of larger inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recamlabel.config import Config
from recamlabel.maps.cam import Cam
from recamlabel.maps.fine import FineMaps, fine_config
from recamlabel.maps.multiscale import MapNet
from recamlabel.stages.agreement import settled
from recamlabel.stages.cost import Cost, megapixels, over_scales
from recamlabel.stages.graph import Scope, Stage
from recamlabel.stages.map_files import write_maps
from recamlabel.stages.networks import BACKBONE, RECAM, classifier_head, recam_head
from recamlabel.stages.view import View
from recamlabel.storage.hdf5 import open_store
from recamlabel.storage.places import FINE_FILE, MAPS_FILE

# The maps of the refined source again, with the objects' ends of larger inputs.


def wants_fine(config: Config) -> bool:
    """Whether the probe starts from finer maps. Other variants than CAM have maps that no larger input explains."""
    return config.probe.enabled and bool(config.probe.fine_sides) and config.maps.variant == "cam"


def run_fine(view: View) -> Mapping[str, Any]:
    """Write ``fine.h5``: as the refined source's group of ``maps.h5``, sharpened."""
    config = view.config
    model = "classifier" if config.refine.source == "cam" else "recam"
    backbone, head = classifier_head(view)
    if model == "recam":
        plain = head["cam"]
        backbone, head = recam_head(view)
        head = {"recam": settled(view, head["recam"], plain)}
    net = MapNet(backbone, head, Cam())
    with open_store(view.run.path / MAPS_FILE) as usual:
        source = FineMaps(net, config.maps, config.probe.fine_sides, usual, config.runtime.amp)
        sides = config.probe.fine_sides
        return write_maps(
            view, FINE_FILE, [source], (model,), lambda shape: fine_config(config.maps, shape, sides).scales
        )


def _reads(scope: Scope) -> tuple[str, ...]:
    head = (*RECAM, "recam.combine") if scope.config.refine.source == "recam" else ()
    maps = ("maps.variant", "maps.max_side", "maps.stored_stride")
    return (*BACKBONE, *head, *maps, "probe.fine_sides", "refine.source")


def _cost(scope: Scope) -> Cost:
    config = scope.config

    def enlarged(shape: tuple[int, int]) -> float:
        return over_scales(fine_config(config.maps, shape, config.probe.fine_sides).scales, flip=False)

    return Cost(forward=megapixels(scope, config.maps.max_side, enlarged), read=megapixels(scope))


STAGE = Stage(
    "fine",
    4,
    run_fine,
    "where objects end, from larger inputs",
    needs=("maps",),
    reads=_reads,
    makes=(FINE_FILE,),
    wanted=lambda scope: wants_fine(scope.config),
    shared=True,
    per_image=True,
    cost=_cost,
)
