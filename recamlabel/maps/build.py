"""The maps of a whole data set into ``maps.h5``, images of one size in one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from recamlabel.core.classes import ClassTable
from recamlabel.data.passes import Group, Made
from recamlabel.maps.base import MapSource


def made_maps(
    table: ClassTable, sources: Sequence[MapSource], group: Group, pixels: list[np.ndarray]
) -> Iterator[Made]:
    """The maps of a batch of images as they are stored.

    Args:
        table: The classes.
        sources: What makes the maps; their names (``cam``, ``recam``) are the groups in the file.
        group: B images of one size.
        pixels: Theirs, ``(H, W, 3) uint8``.

    Returns:
        B mappings of ``<name>/<image id>`` to ``float16 (C, h, w)`` with attribute ``class_ids``.
    """
    ids = [table.ids_of(image.present) for image in group]
    rows = [[class_id - 1 for class_id in own] for own in ids]
    made = {name: maps for source in sources for name, maps in source.maps(group, pixels, rows).items()}
    for position, image in enumerate(group):
        attributes = {"class_ids": np.array(ids[position], dtype=np.int32)}
        yield {f"{name}/{image.id}": (maps[position], attributes) for name, maps in made.items()}
