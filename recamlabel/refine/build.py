"""Refined scores of a whole data set into ``scores.h5``, one process per core."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.arrays import resize_maps, to_uint8
from recamlabel.config import RefineConfig
from recamlabel.data.catalog import Catalog
from recamlabel.data.decode import read_image
from recamlabel.errors import RecamlabelError
from recamlabel.progress import Advance
from recamlabel.refine import REFINERS
from recamlabel.storage.hdf5 import ShardedWriter


@dataclass(frozen=True)
class RefineTask:
    """What a worker needs for one image; small enough to send to another process."""

    image_id: str
    path: Path
    maps: NDArray[np.float16]
    class_ids: tuple[int, ...]
    method: str
    config: RefineConfig


def refine_image(task: RefineTask) -> NDArray[np.uint8]:
    """Scores ``(C, H', W') uint8`` (255 = 1.0) of one image, at most ``max_side`` pixels long.

    Method ``none`` keeps the maps' own size: there is nothing to gain from more pixels.
    """
    if task.method == "none" or not task.class_ids:
        return to_uint8(task.maps)
    image = shrink(read_image(task.path), task.config.max_side)
    maps = resize_maps(task.maps, *image.shape[:2])
    return to_uint8(REFINERS[task.method](image, maps, task.config))


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
    """
    tasks = (
        RefineTask(
            image.id, image.path, item[()], tuple(int(number) for number in item.attrs["class_ids"]), method, config
        )
        for image in catalog.images
        if image.id not in writer.done and (item := maps[f"{config.source}/{image.id}"])
    )
    for task, scores in _guarded(_run(tasks, workers if method != "none" else 1)):
        attributes = {"class_ids": np.array(task.class_ids, dtype=np.int32)}
        writer.add(task.image_id, {f"scores/{task.image_id}": (scores, attributes)})
        advance()


def _guarded(results: Iterator[tuple[RefineTask, NDArray[np.uint8]]]) -> Iterator[tuple[RefineTask, NDArray[np.uint8]]]:
    """Explain the one failure that a pool reports without a cause."""
    try:
        yield from results
    except BrokenProcessPool:
        raise RecamlabelError(
            "refine: a worker process died (out of memory, killed, or a script without "
            "`if __name__ == '__main__':` around its call of fit); run it again with --set runtime.workers=1"
        ) from None


def _run(tasks: Iterator[RefineTask], workers: int) -> Iterator[tuple[RefineTask, NDArray[np.uint8]]]:
    if workers <= 1:
        for task in tasks:
            yield task, refine_image(task)
        return
    # Spawned, not forked: a fork of a process whose torch threads have run can hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: deque[tuple[RefineTask, Future[NDArray[np.uint8]]]] = deque()
        for task in tasks:
            waiting.append((task, pool.submit(refine_image, task)))
            if len(waiting) >= 4 * workers:
                yield _oldest(waiting)
        while waiting:
            yield _oldest(waiting)


def _oldest(waiting: deque[tuple[RefineTask, Future[NDArray[np.uint8]]]]) -> tuple[RefineTask, NDArray[np.uint8]]:
    task, future = waiting.popleft()
    return task, future.result()
