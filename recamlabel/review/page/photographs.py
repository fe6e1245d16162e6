"""The photographs of a run as the pages show them, and which of them are not those the masks were made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from recamlabel.adapters.base import LabelledImage
from recamlabel.data.catalog import Catalog
from recamlabel.data.changed import ChangedImage, Kind, changed_images
from recamlabel.errors import DatasetError
from recamlabel.review.decisions.file import count, named
from recamlabel.review.page.thumbnails import Picture, thumbnail
from recamlabel.storage.decode import read_image

PLAIN_GREY = 200
WORDS: dict[Kind, str] = {"gone": "gone or unreadable", "size": "of another size", "content": "another picture"}


class Photographs:
    """Reads the photographs of a run; those that have changed since are known by id.

    Args:
        catalog: The run's images, with their sizes and hashes.
        images: Those that are shown; None for all.
    """

    def __init__(self, catalog: Catalog, images: Sequence[LabelledImage] | None = None) -> None:
        self.catalog = catalog
        self.paths = {image.id: image.path for image in catalog.images}
        self.changed: dict[str, ChangedImage] = {change.id: change for change in changed_images(catalog, images)}

    def small(self, image_id: str, side: int) -> Picture:
        """A photograph ``(H, W, 3)``, at most ``side`` pixels long.

        Plain grey, with the sides that the masks have, where the photograph has gone or has another size now: no
        mask is ever stretched over a picture that it was not made from.
        """
        change = self.changed.get(image_id)
        if change is None or change.kind == "content":
            try:
                return thumbnail(read_image(self.paths[image_id]), side)
            except DatasetError:
                if change is None:
                    raise
        return _plain(self.catalog.shapes[image_id], side)

    def warning(self) -> str:
        """One line about all that have changed; empty where none has."""
        return changed_line(list(self.changed.values()))


def changed_line(changes: Sequence[ChangedImage]) -> str:
    """One line about photographs that have changed, and what to do; empty where there is none."""
    if not changes:
        return ""
    kinds = Counter(change.kind for change in changes)
    parts = ", ".join(f"{kinds[kind]} {words}" for kind, words in WORDS.items() if kinds[kind])
    verb = "is not the one" if len(changes) == 1 else "are not those"
    return (
        f"{count(len(changes), 'photograph')} {verb} that the masks were made from ({parts}): "
        f"{named([change.id for change in changes])}. Put the old files back, or run `recamlabel fit` again"
    )


def _plain(shape: tuple[int, int], side: int) -> Picture:
    height, width = shape
    scale = min(1.0, side / max(height, width))
    return np.full((max(1, round(height * scale)), max(1, round(width * scale)), 3), PLAIN_GREY, dtype=np.uint8)
