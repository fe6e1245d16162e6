"""The picture part of the report: which images are shown, and their maps and masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.adapters.base import LabelledImage
from recamlabel.classes import ClassTable
from recamlabel.data.catalog import Catalog
from recamlabel.data.decode import read_image
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.progress import track
from recamlabel.review.pictures import Picture, data_uri, heat_overlay, mask_overlay, thumbnail
from recamlabel.storage.hdf5 import class_ids, open_store
from recamlabel.workspace import RunFolder


@dataclass(frozen=True)
class Tile:
    """One picture of a card."""

    caption: str
    alt: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Column:
    """The pictures of a card under one heading; several, where there is a map per class."""

    heading: str
    tiles: tuple[Tile, ...]
    nothing: str = "not made yet"


@dataclass(frozen=True)
class Card:
    """One image of the gallery."""

    id: str
    labels: tuple[tuple[int, str], ...]
    split: str | None
    columns: tuple[Column, ...]


def choose_images(images: Sequence[LabelledImage], table: ClassTable, count: int) -> list[LabelledImage]:
    """At most ``count`` images that show every class, in the order of the data set; always the same ones.

    For each class without a picture yet, in id order, the first image with it is taken; the
    rest is spread evenly over the data set.
    """
    chosen: dict[str, LabelledImage] = {}
    shown: set[str] = set()
    for name in table.names:
        if name not in shown and len(chosen) < count:
            first = next((image for image in images if name in image.present), None)
            if first is not None:
                chosen[first.id] = first
                shown |= first.present
    others = [image for image in images if image.id not in chosen]
    missing = min(count - len(chosen), len(others))
    for position in range(missing):
        image = others[position * len(others) // missing]
        chosen[image.id] = image
    return [image for image in images if image.id in chosen]


def picture_side(count: int) -> int:
    """Longer side of a picture in pixels: smaller where there are many, to keep the page small."""
    return 240 if count <= 30 else 176 if count <= 80 else 128


class Gallery:
    """Makes the cards of the chosen images.

    :attr:`ignore_shown` is true once a mask with an "ignore" pixel was drawn.

    Args:
        run: The run; files that do not exist yet leave their column empty.
        catalog: Its images.
        truth: True masks, or None.
    """

    def __init__(self, run: RunFolder, catalog: Catalog, truth: TruthFolder | None = None) -> None:
        self.run, self.catalog, self.truth = run, catalog, truth
        self.table = catalog.dataset.classes
        self.ignore_shown = False

    def cards(self, count: int) -> list[Card]:
        """The cards of at most ``count`` images. Images with a true mask come first, where there are some.

        Raises:
            StoreError: A file of the run is damaged, or no true mask fits.
            DatasetError: An image cannot be read.
        """
        images = list(self.catalog.images)
        matched: dict[str, Path] = {}
        if self.truth is not None:
            matched = self.truth.match(image.id for image in images)
            images = [image for image in images if image.id in matched]
        chosen = choose_images(images, self.table, count)
        side = picture_side(len(chosen))
        with ExitStack() as stack, track("report pictures", len(chosen)) as advance:
            maps, masks = (self._open(stack, name) for name in ("maps.h5", "masks.h5"))
            cards = []
            for image in chosen:
                cards.append(self._card(image, side, maps, masks, matched.get(image.id)))
                advance()
        return cards

    def _open(self, stack: ExitStack, name: str) -> h5py.File | None:
        path = self.run.path / name
        return stack.enter_context(open_store(path)) if path.exists() else None

    def _card(
        self, image: LabelledImage, side: int, maps: h5py.File | None, masks: h5py.File | None, truth: Path | None
    ) -> Card:
        small = thumbnail(read_image(image.path), side)
        labels = tuple((number, self.table.name_of(number)) for number in self.table.ids_of(image.present))
        names = ", ".join(name for _, name in labels) or "no label"
        columns = [
            Column("Image", (tile("", f"Image {image.id}: {names}", small),)),
            Column("CAM", tuple(self._maps(maps, "CAM", image, small)), _why_empty(maps, labels)),
            Column("ReCAM", tuple(self._maps(maps, "ReCAM", image, small)), _why_empty(maps, labels)),
            Column("Mask", tuple(self._mask(masks, image, small))),
        ]
        if truth is not None and self.truth is not None:
            mask = self.truth.read(truth, self.catalog.shapes[image.id])
            columns.append(Column("Truth", (self._overlay(f"True mask of {image.id}", mask, small),)))
        return Card(image.id, labels, image.split, tuple(columns))

    def _maps(self, file: h5py.File | None, kind: str, image: LabelledImage, small: Picture) -> Iterator[Tile]:
        stored = None if file is None else file.get(f"{kind.lower()}/{image.id}")
        if stored is None:
            return
        for number, one_map in zip(class_ids(stored), np.asarray(stored[()], dtype=np.float32), strict=True):
            name = self.table.name_of(number)
            yield tile(name, f"{kind} map of {name} in {image.id}", heat_overlay(small, one_map))

    def _mask(self, file: h5py.File | None, image: LabelledImage, small: Picture) -> Iterator[Tile]:
        stored = None if file is None else file.get(image.id)
        if stored is not None:
            yield self._overlay(f"Mask of {image.id}", np.asarray(stored[()]), small)

    def _overlay(self, alt: str, mask: NDArray[np.integer], small: Picture) -> Tile:
        self.ignore_shown |= bool((mask == self.table.ignore_id).any())
        return tile("", alt, mask_overlay(small, mask, self.table))


def _why_empty(maps: h5py.File | None, labels: tuple[tuple[int, str], ...]) -> str:
    return "no label, no map" if maps is not None and not labels else "not made yet"


def tile(caption: str, alt: str, picture: Picture) -> Tile:
    """A picture ``(H, W, 3)`` for the page, with its caption and a text for those who cannot see it."""
    return Tile(caption, alt, data_uri(picture), picture.shape[1], picture.shape[0])
