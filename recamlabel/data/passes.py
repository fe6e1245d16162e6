"""These images through that network: batches of one size, decoded ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np

from recamlabel.adapters.base import LabelledImage
from recamlabel.data.catalog import Catalog
from recamlabel.storage.decode import read_image

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
