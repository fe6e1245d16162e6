"""Stage ``joined``: the class maps and the local maps in one, where local heads recognise what the whole image does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recamlabel.core.arrays import resize_maps
from recamlabel.core.progress import track
from recamlabel.models.cam import PEAK_EPS
from recamlabel.stages.cost import Cost
from recamlabel.stages.graph import Stage
from recamlabel.stages.local import LOCAL_GROUP, read_scale
from recamlabel.stages.map_files import to_store
from recamlabel.stages.view import View
from recamlabel.storage.hdf5 import ShardedWriter, class_ids, open_store
from recamlabel.storage.places import FINE_FILE, JOINED_FILE, LOCAL_FILE, MAPS_FILE


def run_joined(view: View) -> Mapping[str, Any]:
    """Write ``joined.h5``: the refined source's maps, with the local ones where they are let take part."""
    source = view.config.refine.source
    scale, least = read_scale(view), view.config.local.weight
    weight = share_of_local(least, scale["whole_share"]) if scale.get("admitted") else 0.0
    with (
        open_store(view.run.path / (FINE_FILE if "fine" in view.planned else MAPS_FILE)) as file,
        open_store(view.run.path / LOCAL_FILE) as other,
        ShardedWriter(view.run.path / JOINED_FILE, view.key, {**view.provenance(), "weight": weight}) as writer,
    ):
        todo = writer.todo(view.catalog.images)
        with track("joined", len(writer.done) + len(todo), start=len(writer.done)) as advance:
            for image in todo:
                stored = file[f"{source}/{image.id}"]
                maps, ids = stored[()], class_ids(stored)
                if weight and ids:
                    maps = joined(maps, other[f"{LOCAL_GROUP}/{image.id}"][()], weight)
                writer.add(image.id, to_store({source: maps}, image.id, ids))
                advance()
        writer.finish()
    return {"weight": weight}


def share_of_local(weight: float, whole_share: float) -> float:
    """``1 - (1 - w) r``: all of it where the whole image tells nothing, the setting's share where it tells as much.

    Args:
        weight: w, ``local.weight``.
        whole_share: r in [0, 1], :class:`recamlabel.stages.local_choice.Admission`.

    Example:
        >>> share_of_local(0.25, 1.0), share_of_local(0.25, 0.5), share_of_local(0.25, 0.0)
        (0.25, 0.625, 1.0)
    """
    return 1 - (1 - weight) * whole_share


def joined(maps: NDArray[np.float16], local: NDArray[np.float16], weight: float) -> NDArray[np.float16]:
    """``(1 - w) m + w l`` on the finer of both grids, then each class divided by its maximum.

    Both have their peak at 1, but seldom at the same place: without it, how far below 1 the sum stays would differ from
    image to image, and one background level would not do for all.

    Args:
        maps: ``(C, h, w)`` in [0, 1].
        local: ``(C, h', w')`` in [0, 1], of the same classes.
        weight: w.

    Returns:
        ``(C, max(h, h'), max(w, w')) float16`` in [0, 1].

    Example:
        >>> joined(np.array([[[1.0, 0.5]]], np.float16), np.array([[[0.0, 1.0]]], np.float16), 0.5).tolist()
        [[[0.66650390625, 1.0]]]
    """
    height, width = (max(sides) for sides in zip(maps.shape[1:], local.shape[1:], strict=True))
    both = [resize_maps(part.astype(np.float32), height, width) for part in (maps, local)]
    mixed = (1 - weight) * both[0] + weight * both[1]
    peak = mixed.max(axis=(1, 2), keepdims=True)
    result: NDArray[np.float16] = (mixed / np.maximum(peak, PEAK_EPS)).astype(np.float16)
    return result


STAGE = Stage(
    "joined",
    2,
    run_joined,
    "class maps and local maps in one",
    needs=("maps", "fine", "local"),
    reads=("refine.source", "local.weight"),
    makes=(JOINED_FILE,),
    wanted=lambda scope: scope.config.local.enabled and scope.config.probe.enabled,
    shared=True,
    per_image=True,
    cost=lambda scope: Cost(fixed=1e-3 * len(scope.catalog.images)),
)
