"""What every export format is: a plan of what goes where, a writer, and readings to check it with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from recamlabel.core.classes import BACKGROUND_ID, BACKGROUND_NAME, ClassTable

Mask = NDArray[np.unsignedinteger[Any]]
ImageMode = Literal["link", "copy", "none"]
IMAGE_MODES: tuple[ImageMode, ...] = get_args(ImageMode)
Instances = Literal["class", "component"]
INSTANCES: tuple[Instances, ...] = get_args(Instances)
Naming = Literal["nested", "flat"]
Kind = Literal["index", "instances"]


@dataclass(frozen=True, slots=True)
class Item:
    """One image of an export.

    Args:
        id: Its id in the run.
        name: Its path in the export, without folder of the kind and without extension; ``/`` between parts.
        path: The image file.
        shape: Height and width of image (upright) and mask.
        split: Its split in the run, or None.
        subset: Its split as a safe folder name; never empty.
    """

    id: str
    name: str
    path: Path
    shape: tuple[int, int]
    split: str | None
    subset: str

    @property
    def image_name(self) -> str:
        """``name`` with the extension of the image file."""
        return self.name + self.path.suffix


@dataclass(frozen=True)
class ExportOptions:
    """What one format alone is asked for.

    Args:
        coco_instances: One COCO annotation per class of an image, or per connected component.
        image_url: Label Studio: what stands before an image's path, relative to the data root.
    """

    coco_instances: Instances = "class"
    image_url: str = "/data/local-files/?d="


@dataclass(frozen=True)
class Plan:
    """All that is known before the first mask is read.

    Args:
        classes: Class table of the run.
        items: The images, in data set order.
        root: The data root; ids and image paths are below it.
        images: What is done with the image files.
        options: Settings of single formats.
        provenance: Where the masks come from, as text by name.
    """

    classes: ClassTable
    items: tuple[Item, ...]
    root: Path
    images: ImageMode = "link"
    options: ExportOptions = ExportOptions()
    provenance: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def subsets(self) -> dict[str, tuple[Item, ...]]:
        """The items by subset, subsets in order of first appearance."""
        by_subset: dict[str, list[Item]] = {}
        for item in self.items:
            by_subset.setdefault(item.subset, []).append(item)
        return {name: tuple(items) for name, items in by_subset.items()}

    @property
    def class_names(self) -> list[str]:
        """Class names by mask value, background first."""
        return [BACKGROUND_NAME, *self.classes.names]

    def training_subset(self) -> str:
        """The subset to train on: ``train``, else the first one."""
        return "train" if "train" in self.subsets else next(iter(self.subsets))

    def validation_subset(self) -> str | None:
        """The subset to validate on, by its usual names; None if there is none."""
        return next((name for name in ("val", "valid", "validation", "dev", "test") if name in self.subsets), None)


@dataclass(frozen=True)
class Reading:
    """An export as a reader of the format sees it.

    Args:
        part: Which files of the export, for messages.
        reader: The reader's name and version.
        masks: Items with the mask that was read, in the ids of the run.
        expected: What the run's mask must look like there: the mask itself, or what the format can hold of it.
    """

    part: str
    reader: str
    masks: Iterable[tuple[Item, Mask]]
    expected: Callable[[Mask], Mask] = lambda mask: mask


class Format(Protocol):
    """One export format. A new one is a module, a line in ``FORMATS`` and a subclass of the contract test."""

    name: str
    description: str
    kind: Kind
    """``index``: a value for every pixel, 255 where nothing is known; ``instances``: objects alone, so that an image
    without any is read as one in which nothing is. :mod:`recamlabel.export.selection` says what follows from that.
    A format that does not say is taken for ``instances``, where less can go wrong."""
    naming: Naming
    """``nested``: ids with ``/`` become sub-folders; ``flat``: unique names without ``/``."""
    max_classes: int
    image_modes: tuple[ImageMode, ...]
    """What can be done with the image files; the first is the default."""

    def check(self, plan: Plan) -> None:
        """Refuse, before any work, what the format cannot hold. Raises RecamlabelError."""
        ...

    def write(self, plan: Plan, folder: Path, masks: Iterator[tuple[Item, Mask]]) -> list[str]:
        """Write labels below ``folder``, one mask in memory at a time; the images are placed by the caller.

        Returns:
            What a person must know, one line each.
        """
        ...

    def image_path(self, item: Item) -> str:
        """Where the image file lies below the export; not asked where ``image_modes`` is ``none`` alone."""
        ...

    def label_files(self, item: Item) -> Sequence[str]:
        """Mask files of one image below the export, whose size is checked for every image; may be empty."""
        ...

    def readings(self, plan: Plan, folder: Path, items: Sequence[Item]) -> Iterator[Reading]:
        """Read the labels of ``items`` back with the consumer's reader, or an independent one."""
        ...


def without_ignore(table: ClassTable) -> Callable[[Mask], Mask]:
    """``expected`` of a format that has no ignore value: such pixels are background there.

    Example:
        >>> without_ignore(ClassTable(("dent",)))(np.array([[1, 255]], np.uint8)).tolist()
        [[1, 0]]
    """

    def expected(mask: Mask) -> Mask:
        return np.where(mask == table.ignore_id, mask.dtype.type(BACKGROUND_ID), mask)

    return expected
