"""A folder (or archive) of index PNGs: a class id a pixel, named as the images are."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recamlabel.core.classes import BACKGROUND_ID, BACKGROUND_NAME, ClassTable, voc_palette
from recamlabel.errors import StoreError
from recamlabel.review.decisions.file import count
from recamlabel.review.foreign.files import Files
from recamlabel.review.foreign.found import Drawn, Found, LeftOutError, Reading
from recamlabel.review.foreign.match import Labels
from recamlabel.review.foreign.pixels import packed_colours, picture

KIND, NAMES = "masks", "classes.txt"
SIZE = 65536
UNKNOWN = -2


class IndexPngs:
    """Reads index masks: mode L, P, 1 or 16 bit, or colours of the VOC palette.

    Values are the run's class ids, 0 (background) and its ignore id. Where ``classes.txt`` lies in the folder, a class
    name a line, values are lines of it: id 1 first, or id 0 if the first line is ``background``.

    A palette whose colours are the VOC palette's at other places was sorted by an editor: then colours count, not
    numbers. With any other palette, numbers count.

    Args:
        files: The folder.
        table: The run's classes.

    Raises:
        StoreError: No PNG, or a names file that names none or not all of the classes in use.
    """

    def __init__(self, files: Files, table: ClassTable) -> None:
        self.files, self.table = files, table
        self.pngs = [name for name in files.names if name.lower().endswith(".png")]
        if not self.pngs:
            raise StoreError(
                f"{files.path}: no mask in it; expected index PNGs named as the images, CVAT's export (CVAT for images "
                "1.1, or Segmentation mask 1.1), Label Studio's JSON, or a decisions.json"
            )
        self.names = self._own_names()
        self.reading = Reading(KIND, by_number=self.names is None)
        self.recoloured = 0

    def found(self) -> Iterator[Found]:
        """The masks, in the order of their names."""
        for name in self.pngs:
            yield Found((name,), partial(self._draw, name))
        if self.recoloured:
            self.reading.notes.append(
                f"{count(self.recoloured, 'mask')} with a sorted palette: colours, not numbers, were read"
            )

    def _draw(self, name: str, shape: tuple[int, int]) -> Drawn:
        values = self._values(picture(self.files.read(name), shape))
        lookup = self._lookup()
        there = np.unique(values)
        strange = [str(value) for value in there.tolist() if lookup[value] == UNKNOWN]
        if strange:
            shown = ", ".join(strange[:5]) + (", …" if len(strange) > 5 else "")
            names = "" if self.names is None else f" by {NAMES}"
            raise LeftOutError(f"with values that are no class id{names} ({shown})")
        ids: Drawn = lookup[values]
        return ids

    def _values(self, image: Image.Image) -> NDArray[np.int64]:
        if image.mode == "P":
            numbers = np.asarray(image, dtype=np.int64)
            by_colour = _sorted_palette(image, numbers, self._known_values())
            self.recoloured += by_colour is not None
            return numbers if by_colour is None else by_colour
        if image.mode in {"L", "1"} or image.mode.startswith("I"):
            return np.asarray(image).astype(np.int64)
        by_colour = _by_colour(packed_colours(image))
        if by_colour is None:
            raise LeftOutError(f"in colour (mode {image.mode}), with colours that are not the VOC palette's")
        return by_colour

    def _known_values(self) -> NDArray[np.bool_]:
        known: NDArray[np.bool_] = self._lookup()[:256] != UNKNOWN
        return known

    def _lookup(self) -> NDArray[np.int32]:
        """Value -> id of the run; -2 for values that mean nothing."""
        table = np.full(SIZE, UNKNOWN, dtype=np.int32)
        lowest = BACKGROUND_ID if self.table.background else 1
        own = self.names or {value: value for value in range(lowest, len(self.table) + 1)}
        for value, class_id in own.items():
            table[value] = class_id
        table[self.table.ignore_id] = self.table.ignore_id
        return table

    def _own_names(self) -> dict[int, int] | None:
        """Value -> id of the run, by the names file; None where there is none."""
        folder = self.files.folder_of(NAMES)
        if folder is None:
            return None
        lines = self.files.read(folder + NAMES).decode("utf-8-sig", "replace").splitlines()
        names = [line.strip() for line in lines]
        while names and not names[-1]:
            names.pop()
        first = 0 if names and names[0] == BACKGROUND_NAME else 1
        labels, ids = Labels(self.table), {BACKGROUND_ID: BACKGROUND_ID}
        for value, name in enumerate(names, start=first):
            try:
                ids[value] = labels.id_of(name)
            except LeftOutError as error:
                raise StoreError(f"{self.files.path}: {folder}{NAMES}, line {value - first + 1}: {error}") from None
        return ids


def _by_colour(colours: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Places in the VOC palette of packed colours; None where one is not in it."""
    palette = voc_palette().astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    order = np.argsort(palette)
    places = order[np.searchsorted(palette, colours, sorter=order).clip(max=255)]
    return places if np.array_equal(palette[places], colours) else None


def _sorted_palette(
    image: Image.Image, numbers: NDArray[np.int64], known: NDArray[np.bool_]
) -> NDArray[np.int64] | None:
    """Ids by colour where an editor has sorted the VOC palette; None where numbers are to be read."""
    found = _by_colour(packed_colours(image))
    if found is None or np.array_equal(found, numbers) or not known[np.unique(found)].all():
        return None
    return found
