"""Refined scores of a whole data set into ``scores.h5``, one process per core."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from recamlabel.core.arrays import resize_maps, to_uint8
from recamlabel.core.pool import map_in_order
from recamlabel.core.progress import Advance
from recamlabel.data.catalog import Catalog
from recamlabel.refine import REFINERS
from recamlabel.refine.config import RefineConfig
from recamlabel.refine.outlines.snap import SamSnaps
from recamlabel.refine.windows import WHOLE, refined_side, windows
from recamlabel.storage.decode import read_image
from recamlabel.storage.hdf5 import ShardedWriter, class_ids

if TYPE_CHECKING:
    import torch

# Attribute of an image's scores.
SNAPS = "snaps"
# Scores of one image are held whole: 17 million pixels a class.
LARGEST_SIDE = 4096

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
    background: bool
    whole: bool = False


def refine_image(task: RefineTask) -> NDArray[np.uint8]:
    """Scores ``(C, H', W') uint8`` (255 = 1.0) of one image.

    An image up to ``max_side`` pixels long is refined whole. Of a larger one the windows in which its maps speak of
    anything are (:mod:`recamlabel.refine.windows`), at the size at which they have as many pixels as the whole image
    would have with ``max_side``; outside of them, and where ``task.whole`` asks for the whole, nothing changes.
    Methods without a CRF keep the maps' own size: there is nothing to gain from more pixels.
    """
    run = REFINERS.find(task.method).run
    if run is None or not task.class_ids:
        return to_uint8(task.maps)
    image = read_image(task.path)
    usual, longest = task.config.max_side, max(image.shape[:2])
    parts, side = [WHOLE], min(usual, longest)
    if longest > usual and task.background and not task.whole:
        found = windows(task.maps, min(task.config.levels))
        if (larger := min(LARGEST_SIDE, refined_side(longest, usual, found))) > usual:
            parts, side = found, larger
    sigma = task.config.smooth * min(usual, longest)
    image = shrink(image, side)
    maps = resize_maps(task.maps, *image.shape[:2])
    scores = np.zeros(maps.shape, dtype=np.uint8)
    for part in parts:
        rows, columns = part.cut(*image.shape[:2])
        refined = run(np.ascontiguousarray(image[rows, columns]), maps[:, rows, columns], task.config, task.background)
        scores[:, rows, columns] = to_uint8(smooth(refined, sigma))
    return scores


def smooth(scores: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Scores under a Gaussian, so that a pixel follows its neighbours.

    The CRF's appearance kernel leaves single pixels of fine texture (ripples, leaves) to the wrong label,
    which no object is made of.

    Args:
        scores: ``(C, H, W)``.
        sigma: Standard deviation in pixels; 0 changes nothing.

    Example:
        >>> speck = np.zeros((1, 5, 5), dtype=np.float32)
        >>> speck[0, 2, 2] = 1
        >>> smooth(speck, 1.0)[0, 2, 1:4].round(2).tolist()
        [0.10000000149011612, 0.1599999964237213, 0.10000000149011612]
    """
    if sigma <= 0:
        return scores
    smoothed: NDArray[np.float32] = gaussian_filter(scores, (0, sigma, sigma), mode="nearest")
    return smoothed


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
    device: torch.device | None = None,
    snaps: SamSnaps | None = None,
) -> None:
    """Refine every image that the writer does not have yet; of several processes at it each refines its share.

    Args:
        catalog: Images and labels.
        maps: The open ``maps.h5``; group ``config.source`` is refined.
        method: A name of the registry.
        config: Settings of the refiners.
        writer: Takes ``scores/<image id>``, ``uint8 (C, H', W')`` with attribute ``class_ids``.
        advance: Progress, in images.
        workers: Processes; 1 or less works in this one. The result is the same for any number.
        walk: Applied to the maps beforehand, in this process.
        device: A GPU that the refiner works on; None: processes of the CPU.
        snaps: Applied to the scores afterwards, in this process; attribute ``snaps``: regions asked for and kept.
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
            catalog.dataset.classes.background,
        )
        for image in writer.todo(catalog.images)
        if (item := maps[f"{config.source}/{image.id}"])
    )
    alone = REFINERS.find(method).run is None
    for task, scores in map_in_order(refine_image, tasks, 1 if alone else workers, "refine", device):
        attributes = {"class_ids": np.array(task.class_ids, dtype=np.int32)}
        if snaps is not None:
            snapped = snaps(task.path, task.maps, scores)
            scores, attributes[SNAPS] = to_uint8(snapped.scores), np.array([snapped.asked, snapped.kept], np.int32)
        writer.add(task.image_id, {f"scores/{task.image_id}": (scores, attributes)})
        advance()
