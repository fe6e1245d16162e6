"""The maps of a whole data set into ``maps.h5``, images of one size in one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from recamlabel.core.progress import Advance
from recamlabel.data.catalog import Catalog
from recamlabel.data.passes import batches_by_shape, read_ahead
from recamlabel.maps.base import MapSource
from recamlabel.storage.hdf5 import ShardedWriter


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
