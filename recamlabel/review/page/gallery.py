"""The picture part of the report: which images are shown, in what order, and their maps and masks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.adapters.base import LabelledImage
from recamlabel.core.classes import ClassTable
from recamlabel.core.progress import Advance
from recamlabel.data.catalog import Catalog
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.masks.reviewed import MASKS_FILE, Decision, ReviewFolder
from recamlabel.review.decisions.identity import mask_digest
from recamlabel.review.page.layers import map_layer, mask_layer
from recamlabel.review.page.photographs import Photographs
from recamlabel.review.page.planes import level_codes, packed, stored_levels
from recamlabel.review.page.queue import review_queue
from recamlabel.review.page.tables import QualityScores
from recamlabel.review.page.thumbnails import Picture, data_uri
from recamlabel.storage.hdf5 import class_ids, open_store
from recamlabel.storage.places import MAPS_FILE, SCORES_FILE
from recamlabel.storage.run_folder import FINISHED, OUTDATED, RunFolder

SIDE, DECODERS = 320, 2
STORES = (MAPS_FILE, "masks.h5", "segmenter.h5", SCORES_FILE)


@dataclass(frozen=True)
class Tile:
    """One picture that stands for itself."""

    caption: str
    alt: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Layer:
    """One picture of a card: a transparent layer over the card's photograph."""

    caption: str
    alt: str
    uri: str
    class_id: int = 0


@dataclass(frozen=True)
class Column:
    """The layers of a card under one heading, one a class or one in all; ``subject``: what a decision is about."""

    heading: str
    layers: tuple[Layer, ...]
    nothing: str = "not made yet"
    subject: bool = False


@dataclass(frozen=True)
class Card:
    """One image of the gallery.

    Attributes:
        id: Image id.
        number: Its place in the data set.
        labels: Class ids and names.
        split: Its split, or None.
        photo: The photograph, which lies below every layer.
        columns: What is shown of it.
        quality: Its entry in ``quality.json``, or None.
        decision: What is recorded in ``RUN/review/``, or None.
        digest: Of the mask that a decision is about.
        changed: Why the photograph is not the one that the masks were made from, or "".
        since: Whether the mask is another one than when it was accepted.
        file: Address of the image file, relative to the page; "" where it is not the one of the masks.
        shape: Height and width of the image in pixels.
        planes: By name what the editor works on, packed (:mod:`recamlabel.review.page.planes`): ``mask``, and where
            there is one ``segmenter`` and ``levels``.
        score_ids: Class ids of the planes of ``levels``.
    """

    id: str
    number: int
    labels: tuple[tuple[int, str], ...]
    split: str | None
    photo: Tile
    columns: tuple[Column, ...]
    quality: Mapping[str, Any] | None
    decision: Decision | None
    digest: str
    changed: str = ""
    since: bool = False
    file: str = ""
    shape: tuple[int, int] = (0, 0)
    planes: Mapping[str, str] = field(default_factory=dict)
    score_ids: tuple[int, ...] = ()


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
    """Chooses images and makes their cards.

    Args:
        run: The run; files that do not exist yet leave their column empty.
        catalog: Its images.
        truth: True masks, or None.
        quality: The scores of the masks, or None where there are none yet.
        side: Longer side of the embedded photographs, in pixels.
    """

    def __init__(
        self,
        run: RunFolder,
        catalog: Catalog,
        truth: TruthFolder | None,
        quality: QualityScores | None,
        side: int = SIDE,
    ) -> None:
        self.run, self.catalog, self.truth, self.quality = run, catalog, truth, quality
        self.table, self.side = catalog.dataset.classes, side
        self.levels, self.level = stored_levels(run)
        self.photographs = Photographs(catalog)
        self.matched = {} if truth is None else truth.match(image.id for image in catalog.images)
        self.review = ReviewFolder(run.path)
        self.decisions, self.kinds = self.review.decisions(), self.review.kinds()
        self.segmenter = run.stage_state("segmentation")
        self.numbers = {image.id: number for number, image in enumerate(catalog.images)}

    def choose(self, count: int | None) -> list[LabelledImage]:
        """The images to show, the one to look at first in front; all for None.

        Images with a true mask are chosen first, where true masks were given. Without quality scores the
        images are those of :func:`choose_images`, in the order of the data set.
        """
        images = list(self.catalog.images)
        if self.quality is not None:
            images = review_queue(self.run, images, self.quality)
        if count is None or count >= len(images):
            return images
        if self.truth is not None:
            images = [image for image in images if image.id in self.matched] or images
        return choose_images(images, self.table, count) if self.quality is None else images[:count]

    def cards(self, images: Sequence[LabelledImage], advance: Advance) -> list[Card]:
        """The cards of some images.

        Raises:
            StoreError: A file of the run is damaged, or no true mask fits.
            DatasetError: An image cannot be read.
        """
        with ExitStack() as stack:
            files = {name: self._open(stack, name) for name in (*STORES, MASKS_FILE)}
            cards = []
            # Decoding large photographs is most of the work, and Pillow does it outside the interpreter's lock.
            with ThreadPoolExecutor(DECODERS) as pool:
                for image, small in zip(images, pool.map(self._small, images), strict=True):
                    cards.append(self._card(image, small, files))
                    advance()
        return cards

    def _open(self, stack: ExitStack, name: str) -> h5py.File | None:
        # A file of no stage (the reviewed masks) has nothing that could be outdated; the segmenter's is shown as such.
        path = self.run.path / name if name in (MASKS_FILE, "segmenter.h5") else self.run.artifact(name)
        return stack.enter_context(open_store(path)) if path is not None and path.exists() else None

    def _card(self, image: LabelledImage, small: Picture, files: Mapping[str, h5py.File | None]) -> Card:
        labels = tuple((class_id, self.table.name_of(class_id)) for class_id in self.table.ids_of(image.present))
        names = ", ".join(name for _, name in labels) or "no label"
        empty = "no label, no map" if files[MAPS_FILE] is not None and not labels else "not made yet"
        pseudo, kept = (_read(files[name], image.id) for name in ("masks.h5", MASKS_FILE))
        subject = kept if self.kinds.get(image.id) == "painted" else pseudo
        columns = [
            Column(kind, tuple(self._maps(files[MAPS_FILE], kind, image)), empty) for kind in ("CAM", "ReCAM")
        ] + [Column("Mask", self._mask("Mask", image, pseudo, small), subject=subject is pseudo)]
        if kept is not None and self.kinds.get(image.id) != "rejected" and not _equal(kept, pseudo):
            columns.append(Column("Reviewed", self._mask("Reviewed mask", image, kept, small), subject=subject is kept))
        if files["segmenter.h5"] is not None and self.segmenter in (FINISHED, OUTDATED):
            predicted = _read(files["segmenter.h5"], image.id)
            heading = "Segmenter" if self.segmenter == FINISHED else "Segmenter (outdated)"
            columns.append(Column(heading, self._mask("Segmenter's mask", image, predicted, small)))
        if self.truth is not None:
            true = self._true_mask(image)
            columns.append(Column("Truth", self._mask("True mask", image, true, small), "no true mask"))
        change = self.photographs.changed.get(image.id)
        planes, score_ids = self._planes(image, files, subject)
        return Card(
            image.id,
            self.numbers[image.id],
            labels,
            image.split,
            tile("", f"Image {image.id}: {names}", small),
            tuple(columns),
            None if self.quality is None else self.quality.images.get(image.id),
            self.decisions.get(image.id),
            "" if subject is None else mask_digest(subject),
            "" if change is None else change.what,
            kept is not None and self.kinds.get(image.id) == "accepted" and not _equal(kept, pseudo),
            "" if change is not None else self._address(image),
            self.catalog.shapes[image.id],
            planes,
            score_ids,
        )

    def _planes(
        self, image: LabelledImage, files: Mapping[str, h5py.File | None], subject: NDArray[np.integer] | None
    ) -> tuple[dict[str, str], tuple[int, ...]]:
        """What the editor works on, and the class ids of the levels' planes."""
        if subject is None:
            return {}, ()
        planes = {"mask": packed(subject)}
        if self.segmenter in (FINISHED, OUTDATED):
            planes["segmenter"] = packed(_read(files["segmenter.h5"], image.id))
        store = files[SCORES_FILE]
        scores = None if store is None else store.get(f"scores/{image.id}")
        ids = () if scores is None else tuple(class_ids(scores))
        if scores is not None and ids and self.table.background:
            planes["levels"] = packed(level_codes(scores[()], self.catalog.shapes[image.id], self.levels))
        return {name: text for name, text in planes.items() if text}, ids

    def _address(self, image: LabelledImage) -> str:
        """Where the page finds the image file: relative to it, else (on another drive) absolute."""
        path, folder = image.path.absolute(), self.run.path.absolute()
        try:
            return quote(Path(os.path.relpath(path, folder)).as_posix())
        except ValueError:
            return path.as_uri()

    def _small(self, image: LabelledImage) -> Picture:
        return self.photographs.small(image.id, self.side)

    def _true_mask(self, image: LabelledImage) -> NDArray[np.integer] | None:
        path = self.matched.get(image.id)
        if path is None or self.truth is None:
            return None
        return self.truth.read(path, self.catalog.shapes[image.id])

    def _maps(self, file: h5py.File | None, kind: str, image: LabelledImage) -> Iterator[Layer]:
        stored = None if file is None else file.get(f"{kind.lower()}/{image.id}")
        if stored is None:
            return
        for class_id, one_map in zip(class_ids(stored), np.asarray(stored[()], dtype=np.float32), strict=True):
            name = self.table.name_of(class_id)
            yield Layer(name, f"{kind} map of {name} in {image.id}", map_layer(one_map), class_id)

    def _mask(
        self, kind: str, image: LabelledImage, mask: NDArray[np.integer] | None, small: Picture
    ) -> tuple[Layer, ...]:
        if mask is None:
            return ()
        return (Layer("", f"{kind} of {image.id}", mask_layer(mask, small.shape[0], small.shape[1], self.table)),)


def _read(file: h5py.File | None, image_id: str) -> NDArray[np.integer] | None:
    stored = None if file is None else file.get(image_id)
    return np.asarray(stored[()]) if isinstance(stored, h5py.Dataset) else None


def _equal(one: NDArray[np.integer], two: NDArray[np.integer] | None) -> bool:
    return two is not None and np.array_equal(one, two)


def tile(caption: str, alt: str, picture: Picture) -> Tile:
    """A picture ``(H, W, 3)`` for the page, with its caption and a text for those who cannot see it."""
    return Tile(caption, alt, data_uri(picture), picture.shape[1], picture.shape[0])
