"""Which tool a file or folder comes from, and its masks as decisions.

Every image that the file has a mask for is taken as accepted, and as painted where the mask is another one than the
present. Where a tool of shapes says nothing of a pixel, it is background; a pixel that was withheld and that nobody
painted stays withheld. What cannot be taken is left out, counted and named; the rest is taken all the same.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recamlabel.adapters.base import LabelledImage
from recamlabel.core.classes import BACKGROUND_ID, ClassTable
from recamlabel.data.catalog import Catalog
from recamlabel.errors import StoreError
from recamlabel.evaluation.id_order import IdOrder
from recamlabel.review.decisions.file import DecisionFile, Entry, count, named
from recamlabel.review.decisions.runs import Runs
from recamlabel.review.foreign.cvat_masks import LABEL_MAP, read_cvat_masks
from recamlabel.review.foreign.cvat_xml import read_cvat_xml
from recamlabel.review.foreign.files import Files
from recamlabel.review.foreign.found import UNSAID, Drawn, Found, LeftOutError, Reading
from recamlabel.review.foreign.index_pngs import IndexPngs
from recamlabel.review.foreign.label_studio import is_tasks, read_label_studio
from recamlabel.review.foreign.match import ImageNames, Labels

ANNOTATIONS = "annotations.xml"
TWICE = "found in it twice, with different masks; delete one of the two in the tool"
EMPTY = "without any shape although the labels name classes; paint there, or reject here"


def is_decisions(path: Path) -> bool:
    """Whether a path is to be read as a ``decisions.json`` of the page, which says best what is wrong with it."""
    if path.is_dir() or path.suffix.lower() in {".zip", ".xml"}:
        return False
    return not is_tasks(_json(path))


def read_foreign(path: Path, catalog: Catalog, present: Mapping[str, NDArray[Any]], masks_key: str) -> DecisionFile:
    """The masks of another tool as decisions.

    Args:
        path: CVAT's ``annotations.xml`` (CVAT for images 1.1) or archive (that, or Segmentation mask 1.1), Label
            Studio's JSON, a folder or archive of index PNGs; archives may be unpacked.
        catalog: Images, sizes and labels of the run.
        present: Their present masks.
        masks_key: Key of the stage ``masks``.

    Raises:
        StoreError: Nothing of it can be taken, it cannot be read, or its class numbers are in another order.
    """
    table = catalog.dataset.classes
    reading, found = _open(path, table)
    taking = _Taking(path, catalog, present, reading.kind, masks_key)
    order = IdOrder(catalog)
    for one in found:
        taking.take(one)
        if reading.by_number and taking.last is not None:
            order.update(*taking.last)
    if reading.by_number:
        _check_order(path, order, table)
    remarks = (*(f"{path.name}: {note}" for note in reading.notes), *taking.remarks())
    if not taking.entries:
        raise StoreError(f"{path}: no mask of it was taken\n  " + "\n  ".join(remarks or ("it holds no image",)))
    return DecisionFile(path, None, taking.entries, remarks)


def _open(path: Path, table: ClassTable) -> tuple[Reading, Iterator[Found]]:
    labels = Labels(table)
    if path.suffix.lower() == ".xml":
        return read_cvat_xml(path, _bytes(path), labels)
    if not path.is_dir() and path.suffix.lower() != ".zip":
        return read_label_studio(path, _json(path), labels)
    files = Files(path)
    folder = files.folder_of(ANNOTATIONS)
    if folder is not None:
        return read_cvat_xml(path, files.read(folder + ANNOTATIONS), labels)
    if files.folder_of(LABEL_MAP) is not None:
        return read_cvat_masks(files, labels)
    for name in files.names:
        if name.lower().endswith(".json") and is_tasks(tree := _parsed(files.read(name))):
            return read_label_studio(path, tree, labels)
    pngs = IndexPngs(files, table)
    return pngs.reading, pngs.found()


class _Taking:
    """Turns what is found into decisions, and counts what cannot be taken."""

    def __init__(
        self, path: Path, catalog: Catalog, present: Mapping[str, NDArray[Any]], kind: str, masks_key: str
    ) -> None:
        self.path, self.catalog, self.present, self.masks_key = path, catalog, present, masks_key
        self.source = f"{kind}:{path.name}"
        self.names, self.images = ImageNames(catalog), {image.id: image for image in catalog.images}
        self.entries: dict[str, Entry] = {}
        self.left_out: dict[str, list[str]] = defaultdict(list)
        self.strangers: list[str] = []
        self.denied: list[str] = []
        self.withheld = 0
        self.last: tuple[str, NDArray[Any]] | None = None
        self.now = datetime.now(UTC).isoformat(timespec="milliseconds")

    def take(self, found: Found) -> None:
        """Add one image of the file."""
        self.last, image_id = None, None
        try:
            image_id = self.names.find_any(found.names)
            if image_id is None:
                self.strangers.append(found.names[0] if found.names else "a task without an image")
                return
            mask = self._mask(image_id, found.draw(self.catalog.shapes[image_id]))
        except LeftOutError as error:
            self.left_out[str(error)].append(image_id or found.names[0])
            return
        self.last = (image_id, mask)
        base = self.present[image_id]
        painted = None if np.array_equal(mask, base) else Runs.of(mask)
        entry = Entry(
            image_id, "accepted", "", found.time or self.now, "", self.masks_key, self.source, str(self.path), painted
        )
        before = self.entries.get(image_id)
        if image_id in self.left_out.get(TWICE, ()) or (before is not None and not before.agrees_with(entry)):
            self.entries.pop(image_id, None)
            self.left_out[TWICE] += [] if image_id in self.left_out[TWICE] else [image_id]
            return
        self.entries[image_id] = entry
        if self._denies(self.images[image_id], mask):
            self.denied.append(image_id)

    def _mask(self, image_id: str, drawn: Drawn) -> NDArray[Any]:
        table, base = self.catalog.dataset.classes, self.present[image_id]
        unsaid = drawn == UNSAID
        if unsaid.all() and self.images[image_id].present:
            raise LeftOutError(EMPTY)
        stays = unsaid & (base == table.ignore_id)
        self.withheld += int(stays.sum())
        other = BACKGROUND_ID if table.background else table.ignore_id
        mask: NDArray[Any] = np.where(stays, table.ignore_id, np.where(unsaid, other, drawn)).astype(table.mask_dtype)
        return mask

    def _denies(self, image: LabelledImage, mask: NDArray[Any]) -> bool:
        """Whether the image's label says that a class of the mask is not there."""
        table = self.catalog.dataset.classes
        there = {int(value) for value in np.unique(mask)} - {BACKGROUND_ID, table.ignore_id}
        return any(table.name_of(class_id) in image.absent for class_id in there)

    def remarks(self) -> Iterator[str]:
        """What was left out and what is odd, with counts and names."""
        name = self.path.name
        if self.withheld:
            yield f"{name}: {self.withheld} withheld pixels that nobody painted stay withheld"
        if self.denied:
            yield (
                f"{name}: {count(len(self.denied), 'mask')} with a class that the image's label denies: "
                f"{named(self.denied)}; taken as painted"
            )
        if self.strangers:
            left_out = count(len(self.strangers), "image")
            yield f"{name}: not taken: {left_out} that the run has not: {named(self.strangers)}"
        for why, ids in self.left_out.items():
            yield f"{name}: not taken: {count(len(ids), 'image')} {why}: {named(ids)}"


def _check_order(path: Path, order: IdOrder, table: ClassTable) -> None:
    """Refuse class numbers that contradict the images' labels, and agree with them in another order."""
    other = order.other()
    if other is None:
        return
    meant = "\n".join(f"  {table.name_of(other.classes[own])}" for own in range(1, len(table) + 1))
    raise StoreError(
        f"{path}: the class ids of these masks seem to stand for other classes than the run's: "
        f"{other.agree_before} of {other.images} images agree with their labels, with the ids in the order below "
        f"{other.agree_after} do. Nothing was recorded; write the order into {path / 'classes.txt'}, a name a line "
        f"(or the run's own order, if that is right after all), and import again:\n{meant}"
    )


def _json(path: Path) -> Any:
    try:
        return _parsed(path.read_bytes())
    except OSError:
        return None


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); expected CVAT's annotations.xml") from None
