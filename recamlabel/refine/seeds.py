"""Confident seeds of the training images into ``seeds.h5``, one process per core (docs/method.md, 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.adapters.base import LabelledImage
from recamlabel.core.arrays import resize_maps
from recamlabel.core.classes import BACKGROUND_ID, ClassTable
from recamlabel.core.pool import map_in_order
from recamlabel.core.progress import Advance
from recamlabel.refine.build import shrink
from recamlabel.refine.config import CrfConfig
from recamlabel.refine.crf import confident_seeds
from recamlabel.storage.decode import read_image
from recamlabel.storage.hdf5 import ShardedWriter, class_ids

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SeedRule:
    """How seeds are made, whatever the image.

    Attributes:
        fg_level: A class is sure above it.
        bg_level: The background is sure below it, at most ``fg_level``.
        max_side: Seeds are at most this long.
        crf: Settings of the dense CRF.
        ignore_id: Id of "not sure".
    """

    fg_level: float
    bg_level: float
    max_side: int
    crf: CrfConfig
    ignore_id: int

    def settings(self) -> list[Any]:
        """What a stage key holds of the rule."""
        return [self.fg_level, self.bg_level, self.max_side, self.crf.model_dump(), self.ignore_id]


@dataclass(frozen=True)
class SeedTask:
    """What a worker needs for one image; ``complete`` says that a pixel without a class is background for sure."""

    image_id: str
    path: Path
    maps: NDArray[np.float16]
    class_ids: tuple[int, ...]
    complete: bool
    rule: SeedRule


def make_seeds(task: SeedTask) -> NDArray[np.integer[Any]]:
    """Seeds ``(H, W)`` of one image, at most ``max_side`` long: class ids, 0 and the ignore id.

    An image without a label is all background. Where a class of the image is unknown, or where there is no
    background, nothing is sure to be it.
    """
    rule = task.rule
    image = shrink(read_image(task.path), rule.max_side)
    maps = resize_maps(task.maps, *image.shape[:2])
    levels = {"fg_threshold": rule.fg_level, "bg_threshold": rule.bg_level}
    seeds = confident_seeds(image, maps, task.class_ids, params=rule.crf, ignore_id=rule.ignore_id, **levels)
    if not task.complete:
        seeds[seeds == BACKGROUND_ID] = rule.ignore_id
    return seeds


def build_seeds(
    images: Sequence[LabelledImage],
    table: ClassTable,
    maps: h5py.Group,
    rule: SeedRule,
    writer: ShardedWriter,
    advance: Advance,
    workers: int,
    device: torch.device | None = None,
) -> None:
    """Make the seeds of every image that the writer does not have yet; of several processes each its share.

    Args:
        images: The training images.
        table: The classes.
        maps: Group of the open ``maps.h5`` with a dataset per image.
        rule: How.
        writer: Takes ``<image id>``, ``uint8`` or ``uint16 (H, W)``.
        advance: Progress, in images.
        workers: Processes; the result is the same for any number.
        device: A GPU that the CRF works on; None: processes of the CPU.
    """
    everything = set(table.names)
    tasks = (
        SeedTask(
            image.id,
            image.path,
            item[()],
            tuple(class_ids(item)),
            table.background and image.present | image.absent >= everything,
            rule,
        )
        for image in writer.todo(images)
        if (item := maps[image.id])
    )
    for task, seeds in map_in_order(make_seeds, tasks, workers, "affinity", device):
        writer.add(task.image_id, {task.image_id: (seeds, {})})
        advance()
