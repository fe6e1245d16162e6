"""Stage ``fine``: the class maps with the objects' ends of larger inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recamlabel.config import Config
from recamlabel.maps.cam import Cam
from recamlabel.maps.fine import FineMaps, fine_config
from recamlabel.maps.multiscale import MapNet
from recamlabel.stages.base import FINE_FILE, MAPS_FILE, StageContext
from recamlabel.stages.maps import classifier_head, recam_head, write_maps
from recamlabel.storage.hdf5 import open_store


def looks_again(config: Config) -> bool:
    """Whether the probe starts from finer maps. Other variants than CAM have maps that no larger input explains."""
    return config.probe.enabled and bool(config.probe.fine_sides) and config.maps.variant == "cam"


def run_fine(context: StageContext) -> Mapping[str, Any]:
    """Write ``fine.h5``: as the refined source's group of ``maps.h5``, sharpened."""
    config = context.config
    model, load = ("classifier", classifier_head) if config.refine.source == "cam" else ("recam", recam_head)
    net = MapNet(*load(context), Cam())
    with open_store(context.run.path / MAPS_FILE) as usual:
        source = FineMaps(net, config.maps, config.probe.fine_sides, usual, config.runtime.amp)
        sides = config.probe.fine_sides
        return write_maps(
            context, FINE_FILE, [source], (model,), lambda shape: fine_config(config.maps, shape, sides).scales
        )
