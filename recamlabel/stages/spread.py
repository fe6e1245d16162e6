"""Stage ``spread``: the class maps spread along the similarity of each image's patches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from recamlabel.core.devices import to_device
from recamlabel.data.batches import Normalisation
from recamlabel.data.passes import Group, Made, store_pass
from recamlabel.models.inputs import input_size, run_network
from recamlabel.refine.patches import MOST_PATCHES, spread_maps
from recamlabel.stages.cost import one_pass
from recamlabel.stages.graph import Scope, Stage
from recamlabel.stages.map_files import stored_maps, to_store
from recamlabel.stages.networks import BACKBONE, load_classifier
from recamlabel.stages.view import View, maps_file
from recamlabel.storage.hdf5 import ShardedWriter, open_store
from recamlabel.storage.places import SPREAD_FILE

AFTER = ("spread", "saliency")


def run_spread(view: View) -> Mapping[str, Any]:
    """Write the maps that are refined: the source's spread along the patches, all else as it was."""
    config = view.config
    backbone = load_classifier(view).backbone
    to_device(backbone, view.device).eval()
    source, side = config.refine.source, config.maps.max_side
    ask = partial(
        run_network,
        backbone,
        normalisation=Normalisation(backbone.mean, backbone.std),
        device=view.device,
        amp=config.runtime.amp,
    )

    def size_of(shape: tuple[int, int]) -> tuple[int, int]:
        return fewer_patches(input_size(shape, side, view.device), backbone.output_stride)

    attributes = {**view.provenance(), "weight": config.refine.affinity_weight, "beta": config.refine.affinity_beta}
    with (
        open_store(view.run.path / maps_file({*view.planned} - {*AFTER})) as maps,
        ShardedWriter(view.run.path / SPREAD_FILE, view.key, attributes) as writer,
    ):

        def make(group: Group, pixels: list[np.ndarray]) -> Iterator[Made]:
            features = ask(images=pixels, size=size_of(pixels[0].shape[:2]))
            for image, own in zip(group, features, strict=True):
                arrays, ids = stored_maps(maps, source, image.id)
                found = torch.from_numpy(arrays[source].astype(np.float32)).to(view.device)
                beta, weight = config.refine.affinity_beta, config.refine.affinity_weight
                arrays[source] = spread_maps(found, own.float(), beta, weight).cpu().numpy().astype(np.float16)
                yield to_store(arrays, image.id, ids)

        store_pass(view.catalog, writer, "spread", view.batch_pixels, make, alike=view.alike(side))
    return {}


def fewer_patches(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Input size with at most :data:`recamlabel.refine.patches.MOST_PATCHES` patches of ``stride`` pixels.

    Example:
        >>> fewer_patches((480, 640), 16), fewer_patches((480, 640), 4)
        ((480, 640), (220, 294))
    """
    while -(-size[0] // stride) * -(-size[1] // stride) > MOST_PATCHES:
        scale = min(0.99, 0.995 * (MOST_PATCHES * stride**2 / (size[0] * size[1])) ** 0.5)
        size = max(1, int(size[0] * scale)), max(1, int(size[1] * scale))
    return size


def _wanted(scope: Scope) -> bool:
    return scope.config.refine.affinity == "features"


STAGE = Stage(
    "spread",
    1,
    run_spread,
    "maps spread along the similarity of patches",
    needs=("classifier", "maps", "probe"),
    reads=(
        *BACKBONE,
        "maps.max_side",
        "refine.source",
        "refine.affinity_beta",
        "refine.affinity_weight",
    ),
    makes=(SPREAD_FILE,),
    wanted=_wanted,
    facts=lambda scope: {"images": scope.images},
    shared=True,
    per_image=True,
    cost=one_pass,
)
