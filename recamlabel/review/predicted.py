"""What `recamlabel predict` leaves to look at: an overlay of every mask, and a page of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recamlabel import __version__
from recamlabel.core.classes import BACKGROUND_ID, ClassTable
from recamlabel.core.colours import class_colours
from recamlabel.review.page.html import template
from recamlabel.review.page.thumbnails import mask_overlay, thumbnail
from recamlabel.storage.atomic import write_text

OVERLAYS, PAGE = "overlays", "index.html"
# Longer side of an overlay, and how many the page has: a browser opens it on a phone.
SIDE, PAGE_IMAGES = 1024, 400
QUALITY = 85


@dataclass(frozen=True)
class Shown:
    """One overlay on the page.

    Attributes:
        id: Image id.
        width, height: Of the overlay, in pixels.
        found: ``(class id, name, share of the pixels in percent)``, the largest first.
    """

    id: str
    width: int
    height: int
    found: tuple[tuple[int, str, float], ...]


@dataclass
class PredictionPage:
    """Takes the masks one by one; :meth:`finish` writes the page.

    Args:
        table: The classes.
        origin: What made the masks, in words.

    Example:
        >>> from tempfile import mkdtemp
        >>> folder, page = Path(mkdtemp()), PredictionPage(ClassTable(("cat",)), "runs/one")
        >>> page.add(folder, "a", np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.uint8))
        >>> page.finish(folder).name, sorted(path.name for path in (folder / "overlays").iterdir())
        ('index.html', ['a.jpg'])
    """

    table: ClassTable
    origin: str
    rows: list[Shown] = field(default_factory=list)
    images: int = 0

    def add(self, folder: Path, image_id: str, pixels: NDArray[np.uint8], mask: NDArray[np.integer]) -> None:
        """Write the overlay of one mask below ``folder``."""
        small = thumbnail(pixels, SIDE)
        path = folder / OVERLAYS / f"{image_id}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask_overlay(small, mask, self.table)).save(path, quality=QUALITY)
        self.images += 1
        if len(self.rows) < PAGE_IMAGES:
            self.rows.append(Shown(image_id, small.shape[1], small.shape[0], self._found(mask)))

    def _found(self, mask: NDArray[np.integer]) -> tuple[tuple[int, str, float], ...]:
        counts = np.bincount(mask.ravel(), minlength=len(self.table) + 1)[: len(self.table) + 1]
        order = [int(number) for number in np.argsort(-counts) if number != BACKGROUND_ID and counts[number]]
        return tuple((number, self.table.name_of(number), 100 * counts[number] / mask.size) for number in order)

    def finish(self, folder: Path) -> Path:
        """Write the page; its pictures are the overlays beside it."""
        colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in class_colours(self.table)]
        text = template("predicted.html.j2").render(
            rows=self.rows,
            images=self.images,
            origin=self.origin,
            classes=[(number, self.table.name_of(number)) for number in range(1, len(self.table) + 1)],
            colours=colours,
            empty=sum(not row.found for row in self.rows),
            version=__version__,
        )
        write_text(folder / PAGE, text)
        return folder / PAGE
