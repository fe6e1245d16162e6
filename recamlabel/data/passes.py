"""These images through that network: batches of one size, decoded ahead, with progress, continued after a kill.

The one loop of every stage that looks at all images: :func:`image_pass` gives the batches, :func:`store_pass` keeps
what is made of them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import Any

import numpy as np

from recamlabel.adapters.base import LabelledImage
from recamlabel.core.devices import Halving, usable_cores
from recamlabel.core.progress import track
from recamlabel.data.catalog import Catalog
from recamlabel.storage.decode import read_image
from recamlabel.storage.hdf5 import ShardedWriter

Group = Sequence[LabelledImage]
Made = Mapping[str, tuple[np.ndarray, Mapping[str, Any]]]
"""What is stored of one image: by dataset name the array and its attributes."""


Alike = Callable[[tuple[int, int]], tuple[int, int]]


def _itself(shape: tuple[int, int]) -> tuple[int, int]:
    return shape


def _as_it_is(shape: tuple[int, int]) -> float:
    return 1.0


def image_pass(
    catalog: Catalog,
    images: Sequence[LabelledImage],
    what: str,
    max_pixels: int,
    *,
    done: int = 0,
    enlarged: Callable[[tuple[int, int]], float] = _as_it_is,
    alike: Alike = _itself,
) -> Iterator[tuple[Group, list[np.ndarray]]]:
    """Batches of images of like size with their pixels ``(H, W, 3) uint8``, decoded ahead, with progress.

    Args:
        catalog: Knows the sizes.
        images: What to read, in this order but for the grouping.
        what: Name of the pass, for the progress.
        max_pixels: Bound on a batch's pixels.
        done: Images that an earlier, interrupted pass has done.
        enlarged: As :func:`batches_by_shape` takes it.
        alike: Likewise.
    """
    with track(what, done + len(images), start=done) as advance:
        for group, pixels in read_ahead(batches_by_shape(catalog, images, max_pixels, enlarged=enlarged, alike=alike)):
            yield group, pixels
            advance(len(group))


def store_pass(
    catalog: Catalog,
    writer: ShardedWriter,
    what: str,
    max_pixels: int,
    make: Callable[[Group, list[np.ndarray]], Iterable[Made]],
    *,
    enlarged: Callable[[tuple[int, int]], float] = _as_it_is,
    alike: Alike = _itself,
) -> None:
    """Store what ``make`` makes of every image that the writer does not have yet, and finish the file.

    Of several processes at the stage each makes what is of its share of the images.

    Args:
        catalog: The images.
        writer: Takes what is made.
        what: Name of the pass, for the progress.
        max_pixels: Bound on a batch's pixels.
        make: From B images of one size and their pixels to B mappings.
        enlarged: As :func:`batches_by_shape` takes it.
        alike: Likewise.
    """
    todo = writer.todo(catalog.images)
    halving = Halving(what)

    def work(items: Sequence[tuple[LabelledImage, np.ndarray]]) -> list[Made]:
        return list(make([image for image, _ in items], [pixels for _, pixels in items]))

    for group, pixels in image_pass(
        catalog, todo, what, max_pixels, done=len(writer.done), enlarged=enlarged, alike=alike
    ):
        every = chain.from_iterable(halving(work, list(zip(group, pixels, strict=True))))
        for image, made in zip(group, every, strict=True):
            writer.add(image.id, made)
    writer.finish()


def batches_by_shape(
    catalog: Catalog,
    images: Sequence[LabelledImage],
    max_pixels: int,
    max_images: int = 16,
    enlarged: Callable[[tuple[int, int]], float] = _as_it_is,
    alike: Alike = _itself,
) -> list[list[LabelledImage]]:
    """Group images of equal or like size into batches of at most ``max_pixels`` pixels (at least one image).

    Args:
        catalog: Knows the sizes.
        images: What to group.
        max_pixels: Bound on the sum of the images' pixels.
        max_images: Bound on their number.
        alike: By height and width; images for which it is the same may be in one batch.
        enlarged: By height and width, how many times more pixels an image's largest network input has.
    """
    by_shape: dict[tuple[int, int], list[LabelledImage]] = {}
    for image in images:
        by_shape.setdefault(alike(catalog.shapes[image.id]), []).append(image)
    batches = []
    for members in by_shape.values():
        height, width = max((catalog.shapes[image.id] for image in members), key=math.prod)
        size = max(1, min(max_images, int(max_pixels / (height * width * enlarged((height, width))))))
        batches += [members[start : start + size] for start in range(0, len(members), size)]
    return batches


def read_ahead(groups: Sequence[Group], threads: int | None = None) -> Iterator[tuple[Group, list[np.ndarray]]]:
    """Decode the next groups while the network works on this one.

    Args:
        groups: Images, in the order in which they are wanted.
        threads: How many images are decoded at a time; None: as many as there are cores.
    """
    threads = threads or usable_cores()
    queue, ahead = iter(groups), deque[tuple[Group, list[Future[np.ndarray]]]]()
    with ThreadPoolExecutor(threads) as pool:
        try:
            waiting = 0
            while True:
                # Groups of one image must not leave threads idle; two groups are read ahead in any case.
                while (len(ahead) < 3 or waiting < threads) and (following := next(queue, None)) is not None:
                    ahead.append((following, [pool.submit(read_image, image.path) for image in following]))
                    waiting += len(following)
                if not ahead:
                    return
                group, futures = ahead.popleft()
                waiting -= len(group)
                yield group, [future.result() for future in futures]
        finally:
            # After an interruption nobody takes what still waits.
            pool.shutdown(wait=False, cancel_futures=True)
