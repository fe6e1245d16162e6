"""Refined scores of a whole data set into ``scores.h5``, one process per core."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.arrays import resize_maps, to_uint8
from recamlabel.config import RefineConfig
from recamlabel.data.catalog import Catalog
from recamlabel.data.decode import read_image
from recamlabel.pool import map_in_order
from recamlabel.progress import Advance
from recamlabel.refine import REFINERS, keep_maps
from recamlabel.storage.hdf5 import ShardedWriter, class_ids

Walk = Callable[[str, NDArray[np.float16]], NDArray[np.float16]]
"""``(image id, maps (C, h, w)) -> maps of the same shape`` after the random walk."""


@dataclass(frozen=True)
class RefineTask:
    """What a worker needs for one image; small enough to send to another process."""

    image_id: str
    path: Path
    maps: NDArray[np.float16]
    class_ids: tuple[int, ...]
    method: str
    config: RefineConfig
    background: bool = True


def refine_image(task: RefineTask) -> NDArray[np.uint8]:
    """Scores ``(C, H', W') uint8`` (255 = 1.0) of one image, at most ``max_side`` pixels long.

    Methods without a CRF keep the maps' own size: there is nothing to gain from more pixels.
    """
    if REFINERS[task.method] is keep_maps or not task.class_ids:
        return to_uint8(task.maps)
    image = shrink(read_image(task.path), task.config.max_side)
    maps = resize_maps(task.maps, *image.shape[:2])
    return to_uint8(REFINERS[task.method](image, maps, task.config, task.background))


def shrink(image: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """The image, scaled down so that its longer side is at most ``max_side``."""
    from PIL import Image

    scale = max_side / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def build_scores(
    catalog: Catalog,
    maps: h5py.File,
    method: str,
    config: RefineConfig,
    writer: ShardedWriter,
    advance: Advance,
    workers: int,
    walk: Walk | None = None,
    background: bool = True,
) -> None:
    """Refine every image that the writer does not have yet.

    Args:
        catalog: Images and labels.
        maps: The open ``maps.h5``; group ``config.source`` is refined.
        method: A name of the registry.
        config: Settings of the refiners.
        writer: Takes ``scores/<image id>``, ``uint8 (C, H', W')`` with attribute ``class_ids``.
        advance: Progress, in images.
        workers: Processes; 1 or less works in this one. The result is the same for any number.
        background: False where every pixel belongs to a labelled class.
        walk: Applied to the maps beforehand, in this process.
    """

    def walked(image_id: str, stored: NDArray[np.float16]) -> NDArray[np.float16]:
        return walk(image_id, stored) if walk else stored

    tasks = (
        RefineTask(
            image.id,
            image.path,
            walked(image.id, item[()]),
            tuple(class_ids(item)),
            method,
            config,
            background,
        )
        for image in catalog.images
        if image.id not in writer.done and (item := maps[f"{config.source}/{image.id}"])
    )
    alone = REFINERS[method] is keep_maps
    for task, scores in map_in_order(refine_image, tasks, 1 if alone else workers, "refine"):
        attributes = {"class_ids": np.array(task.class_ids, dtype=np.int32)}
        writer.add(task.image_id, {f"scores/{task.image_id}": (scores, attributes)})
        advance()
