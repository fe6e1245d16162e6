"""The figures of a data set that ``recamlabel check`` shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from recamlabel.adapters.base import Dataset


@dataclass(frozen=True)
class ClassRow:
    """Numbers of images by what is known of one class; ``alone``: it is the only class present."""

    name: str
    present: int
    absent: int
    unknown: int
    alone: int


@dataclass(frozen=True)
class Spread:
    """Smallest, median and largest value, in pixels."""

    min: int
    median: int
    max: int


@dataclass(frozen=True)
class Summary:
    """A data set in figures.

    Args:
        images: Number of images.
        splits: Number of images by split; images without a split count under ``""``; empty
            where the data set has no splits.
        classes: One row a class, in id order.
        unlabelled: Number of images in which no class is known to be present.
        heights, widths: Over the images that could be decoded; None if there is none.
    """

    images: int
    splits: Mapping[str, int]
    classes: tuple[ClassRow, ...]
    unlabelled: int
    heights: Spread | None
    widths: Spread | None

    @property
    def never_alone(self) -> tuple[str, ...]:
        """Classes with images, in none of which they are the only class."""
        return tuple(row.name for row in self.classes if row.present and not row.alone)

    @property
    def without_positives(self) -> tuple[str, ...]:
        """Classes that no image has."""
        return tuple(row.name for row in self.classes if not row.present)

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers, for JSON."""
        tree = asdict(self)
        tree["classes"] = list(tree["classes"])
        return {**tree, "never_alone": list(self.never_alone), "without_positives": list(self.without_positives)}


def summarise(dataset: Dataset, shapes: Mapping[str, tuple[int, int]]) -> Summary:
    """Count images, splits, labels and sizes.

    Args:
        dataset: Any data set, bad images included.
        shapes: Height and width by image id, of those that could be decoded.

    Example:
        >>> from pathlib import Path
        >>> from recamlabel.adapters.base import LabelledImage
        >>> from recamlabel.core.classes import ClassTable
        >>> image = LabelledImage("a", Path("a.jpg"), frozenset({"cat"}), frozenset())
        >>> summarise(Dataset(Path("."), "csv", ClassTable(("cat",)), (image,)), {"a": (2, 3)}).classes[0]
        ClassRow(name='cat', present=1, absent=0, unknown=0, alone=1)
    """
    splits = Counter(image.split or "" for image in dataset.images) if dataset.splits else Counter[str]()
    return Summary(
        images=len(dataset),
        splits=dict(splits),
        classes=_class_rows(dataset),
        unlabelled=sum(not image.present for image in dataset.images),
        heights=_spread(height for height, _ in shapes.values()),
        widths=_spread(width for _, width in shapes.values()),
    )


def _class_rows(dataset: Dataset) -> tuple[ClassRow, ...]:
    matrix = dataset.labels()
    present = matrix == 1
    alone = present[present.sum(axis=1) == 1]
    counts = zip(
        present.sum(axis=0), (matrix == 0).sum(axis=0), (matrix == -1).sum(axis=0), alone.sum(axis=0), strict=True
    )
    return tuple(
        ClassRow(name, *map(int, numbers)) for name, numbers in zip(dataset.classes.names, counts, strict=True)
    )


def _spread(values: Iterable[int]) -> Spread | None:
    numbers: Sequence[int] = list(values)
    if not numbers:
        return None
    return Spread(min(numbers), int(np.median(numbers)), max(numbers))
