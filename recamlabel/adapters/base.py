"""What every adapter returns: images with three-state labels, never a mask."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from recamlabel.adapters.config import AdapterOptions
from recamlabel.core.classes import ClassTable
from recamlabel.core.printable import is_text
from recamlabel.errors import DatasetError
from recamlabel.storage.remote import shown

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"})


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a data set, and where.

    Args:
        message: What was found, what was expected, what to do.
        file: The label file or image it is about.
        row: 1-based line of a label file (the header is line 1), or None.
        fatal: True if ``fit`` refuses to run because of it.
        image_id: Set where the problem concerns just that image, so that
            ``--on-bad-image skip`` can leave it out and go on.
        kind: Many problems of one kind and file are shown as one line; empty: equal messages are of one kind.
    """

    message: str
    file: Path
    row: int | None = None
    fatal: bool = True
    image_id: str | None = None
    kind: str = field(default="", compare=False)

    def __str__(self) -> str:
        where = shown(self.file) if self.row is None else f"{shown(self.file)}, row {self.row}"
        return f"{where}: {self.message}"


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image and what is known of it.

    Args:
        id: Path relative to the data root without extension, ``/`` as separator, unique.
        path: The image file.
        present: Names of the classes that are in the image.
        absent: Names of the classes that are known not to be in it. A class in neither
            set is unknown and takes no part in the loss.
        split: Name of its split, or None where the data set has none.
    """

    id: str
    path: Path
    present: frozenset[str]
    absent: Set[str]
    split: str | None = None

    def __post_init__(self) -> None:
        check_image_id(self.id)
        both = self.present & self.absent
        if both:
            raise DatasetError(f"{self.path}: labelled both present and absent: {', '.join(sorted(both))}")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Images with labels, in a fixed order, and every problem met while reading them."""

    root: Path
    adapter: str
    classes: ClassTable
    images: tuple[LabelledImage, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.images)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits in order of first appearance; empty if there are none."""
        return tuple(dict.fromkeys(image.split for image in self.images if image.split is not None))

    def is_normal(self, image: LabelledImage) -> bool:
        """Whether an image is known to hold none of the classes."""
        return len(image.absent) == len(self.classes)

    def labels(self, images: Sequence[LabelledImage] | None = None) -> np.ndarray:
        """Label matrix ``(N, K) int8``: 1 present, 0 absent, -1 unknown."""
        chosen = self.images if images is None else images
        matrix = np.full((len(chosen), len(self.classes)), -1, dtype=np.int8)
        for row, image in enumerate(chosen):
            if len(image.present) + len(image.absent) == len(self.classes):
                matrix[row] = 0  # nothing is unknown: no need to look up a thousand absent classes
            else:
                matrix[row, [self.classes.id_of(name) - 1 for name in image.absent]] = 0
            matrix[row, [self.classes.id_of(name) - 1 for name in image.present]] = 1
        return matrix


class Adapter(Protocol):
    """Reads one label format. A new format is one file, a registry line and a contract test.

    An adapter whose source may be a name instead of a path (``fiftyone:NAME``) also sets
    ``accepts_names = True``.
    """

    name: str
    description: str

    def detect(self, source: Path) -> str | None:
        """Why ``source`` looks like this format, or None if it does not. Cheap; never raises."""
        ...

    def read(self, source: Path, options: AdapterOptions) -> Dataset:
        """Read the labels. Problems of single rows are collected, not raised.

        Raises:
            DatasetError: Nothing at all can be read (no such file, no header, wrong columns).
        """
        ...


# Of a file name: 255 bytes in most file systems, with ".png" and what a temporary file adds.
LONGEST_NAME = 245


def check_image_id(image_id: str) -> None:
    """Refuse ids that could leave a folder: empty, absolute, ``..``, backslash, drive letter.

    Raises:
        DatasetError: The id is unsafe.

    Example:
        >>> check_image_id("train/a b")
        >>> check_image_id("../a")
        Traceback (most recent call last):
        ...
        recamlabel.errors.DatasetError: unsafe image id '../a': ...
    """
    parts = image_id.split("/")
    unsafe = (
        not image_id
        or "\\" in image_id
        or "\0" in image_id
        or image_id.startswith("/")
        or any(part in {"", ".", ".."} for part in parts)
        or (len(parts[0]) >= 2 and parts[0][1] == ":")
    )
    if unsafe:
        raise DatasetError(
            f"unsafe image id {image_id!r}: an id is a relative path with '/' between its parts, "
            "without '..', drive letter or backslash"
        )
    if not is_text(image_id):
        raise DatasetError(
            f"image id {image_id!r}: holds what is no text in UTF-8; expected a name that files in UTF-8 can hold, "
            "rename the image"
        )
    # `<id>.png` is a file of the run, and found out in time.
    long = next((part for part in parts if len(part.encode()) > LONGEST_NAME), None)
    if long is not None:
        raise DatasetError(
            f"image id {image_id[:60]!r}…: {len(long.encode())} bytes in one name; expected at most "
            f"{LONGEST_NAME}, so that a mask of that name can be written; rename the image"
        )


def image_id(path: Path, root: Path) -> str:
    """Id of an image file below ``root``: its relative path without extension, with ``/``."""
    relative = PurePosixPath(path.relative_to(root).as_posix())
    return str(relative.with_suffix(""))
