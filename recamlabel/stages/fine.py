"""Stage ``fine``: the class maps with the objects' ends of larger inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from recamlabel.config import Config
from recamlabel.maps.build import batches_by_shape, read_ahead
from recamlabel.maps.cam import Cam
from recamlabel.maps.fine import fine_config, sharpened
from recamlabel.maps.multiscale import MapNet, class_maps
from recamlabel.models.backbones import Backbone
from recamlabel.progress import track
from recamlabel.stages.base import FINE_FILE, MAPS_FILE, StageContext, load_classifier, load_recam
from recamlabel.storage.hdf5 import ShardedWriter, class_ids, open_store
from recamlabel.training.loop import to_device


def looks_again(config: Config) -> bool:
    """Whether the probe starts from finer maps. Other variants than CAM have maps that no larger input explains."""
    return config.probe.enabled and bool(config.probe.fine_sides) and config.maps.variant == "cam"


def run_fine(context: StageContext) -> Mapping[str, Any]:
    """Write ``fine.h5``: as the refined source's group of ``maps.h5``, sharpened."""
    catalog, config = context.catalog, context.config
    source, sides = config.refine.source, config.probe.fine_sides
    backbone, weight = _network(context, source)
    net = MapNet(backbone, {source: weight}, Cam())
    attributes = {**context.provenance(), "sides": sides}
    with (
        open_store(context.run.path / MAPS_FILE) as maps,
        ShardedWriter(context.run.path / FINE_FILE, context.key, attributes) as writer,
        track("fine maps", len(catalog.images), start=len(writer.done)) as advance,
    ):
        todo = [image for image in catalog.images if image.id not in writer.done]
        for group, pixels in read_ahead(batches_by_shape(catalog, todo, context.batch_pixels), threads=2):
            stored = [maps[f"{source}/{image.id}"] for image in group]
            rows = [class_ids(item) for item in stored]
            shaped = fine_config(config.maps, catalog.shapes[group[0].id], sides)
            made = class_maps(pixels, [[number - 1 for number in row] for row in rows], net, shaped, config.runtime.amp)
            for image, item, row, fine in zip(group, stored, rows, made[source], strict=True):
                attrs = {"class_ids": np.array(row, dtype=np.int32)}
                writer.add(image.id, {f"{source}/{image.id}": (sharpened(item[()], fine), attrs)})
            advance(len(group))
        writer.finish()
    return {}


def _network(context: StageContext, source: str) -> tuple[Backbone, Tensor]:
    """The network whose maps are refined, and the weight they are made with."""
    if source == "cam":
        classifier = load_classifier(context)
        to_device(classifier, context.device).eval()
        return classifier.backbone, classifier.head.weight.detach()
    recam = load_recam(context)
    to_device(recam, context.device).eval()
    return recam.classifier.backbone, recam.map_weight().detach()
