"""The maps of a whole data set into ``maps.h5``, images of one size in one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np

from recamlabel.adapters.base import LabelledImage
from recamlabel.data.catalog import Catalog
from recamlabel.data.decode import read_image
from recamlabel.maps.base import MapSource
from recamlabel.progress import Advance
from recamlabel.storage.hdf5 import ShardedWriter

Group = Sequence[LabelledImage]


def batches_by_shape(
    catalog: Catalog,
    images: Sequence[LabelledImage],
    max_pixels: int,
    max_images: int = 16,
    enlarged: Callable[[tuple[int, int]], float] = lambda shape: 1.0,
) -> list[list[LabelledImage]]:
    """Group images of equal size into batches of at most ``max_pixels`` pixels (at least one image).

    Args:
        catalog: Knows the sizes.
        images: What to group.
        max_pixels: Bound on the sum of the images' pixels.
        max_images: Bound on their number.
        enlarged: By height and width, how many times more pixels an image's largest network input has.
    """
    by_shape: dict[tuple[int, int], list[LabelledImage]] = {}
    for image in images:
        by_shape.setdefault(catalog.shapes[image.id], []).append(image)
    batches = []
    for (height, width), members in by_shape.items():
        size = max(1, min(max_images, int(max_pixels / (height * width * enlarged((height, width))))))
        batches += [members[start : start + size] for start in range(0, len(members), size)]
    return batches


def build_maps(
    catalog: Catalog,
    sources: Sequence[MapSource],
    writer: ShardedWriter,
    advance: Advance,
    *,
    max_pixels: int,
    decode_threads: int = 2,
    enlarged: Callable[[tuple[int, int]], float] = lambda shape: 1.0,
) -> None:
    """Compute and store the maps of every image that the writer does not have yet.

    Args:
        catalog: Images, labels and sizes.
        sources: What makes the maps; their names (``cam``, ``recam``) are the groups in the file.
        writer: Takes ``<name>/<image id>`` datasets, ``float16 (C, h, w)`` with attribute ``class_ids``.
        advance: Progress, in images.
        max_pixels: Pixels of one batch's largest inputs.
        decode_threads: Threads that read ahead.
        enlarged: As :func:`batches_by_shape` takes it.
    """
    table = catalog.dataset.classes
    todo = [image for image in catalog.images if image.id not in writer.done]
    for group, pixels in read_ahead(batches_by_shape(catalog, todo, max_pixels, enlarged=enlarged), decode_threads):
        ids = [table.ids_of(image.present) for image in group]
        rows = [[number - 1 for number in own] for own in ids]
        made = {name: maps for source in sources for name, maps in source.maps(group, pixels, rows).items()}
        for position, image in enumerate(group):
            attributes = {"class_ids": np.array(ids[position], dtype=np.int32)}
            writer.add(image.id, {f"{name}/{image.id}": (maps[position], attributes) for name, maps in made.items()})
        advance(len(group))


def read_ahead(groups: list[list[LabelledImage]], threads: int) -> Iterator[tuple[Group, list[np.ndarray]]]:
    """Decode the next groups while the network works on this one."""
    with ThreadPoolExecutor(threads) as pool:
        queue = iter(groups)
        ahead = [(group, [pool.submit(read_image, image.path) for image in group]) for group in islice(queue, 2)]
        while ahead:
            group, futures = ahead.pop(0)
            following = next(queue, None)
            if following is not None:
                ahead.append((following, [pool.submit(read_image, image.path) for image in following]))
            yield group, [future.result() for future in futures]
