"""What all writers of label files share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path, PurePosixPath

from recamlabel.adapters.base import Dataset, LabelledImage
from recamlabel.errors import DatasetError

CLASSES_FILE = "classes.txt"


@dataclass(frozen=True)
class Written:
    """What a writer has made.

    Args:
        files: The files, in order.
        notes: What the format could not say, in plain words.
        source: What to give to `recamlabel check` and `fit` to read it back.
        settings: Settings that this needs, by key.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...]
    source: Path
    settings: tuple[tuple[str, str], ...]

    def moved(self, old: Path, new: Path) -> Written:
        """The same, once the files of folder ``old`` are in ``new``."""
        files = tuple(new / file.relative_to(old) for file in self.files)
        return replace(self, files=files, source=new / self.source.relative_to(old))

    def command(self) -> str:
        """The command that reads the files back."""
        options = "".join(f" --set {quoted(f'{key}={value}')}" for key, value in self.settings)
        return f"recamlabel check {quoted(str(self.source))}{options}"


def relative_image(image: LabelledImage, dataset: Dataset) -> PurePosixPath:
    """The image's path below the data root. Raises DatasetError for one that lies elsewhere."""
    if not image.path.is_relative_to(dataset.root):
        raise DatasetError(f"{image.path}: not below the data root {dataset.root}; expected all images there")
    return PurePosixPath(image.path.relative_to(dataset.root).as_posix())


def by_split(images: Sequence[LabelledImage]) -> Iterator[tuple[str | None, list[LabelledImage]]]:
    """Images of each split, splits by name, those without one first."""
    ordered = sorted(images, key=lambda image: image.split or "")
    for _, group in groupby(ordered, key=lambda image: image.split or ""):
        members = list(group)
        yield members[0].split, members


def file_part(split: str) -> str:
    """A split's name as part of a file name.

    Example:
        >>> file_part("fold 1/a")
        'fold_1_a'
    """
    return re.sub(r"[^\w.-]", "_", split)


def count_unknown(dataset: Dataset) -> int:
    """Number of labels, over all images and classes, that are unknown."""
    return sum(len(dataset.classes) - len(image.present) - len(image.absent) for image in dataset.images)


def check_names(dataset: Dataset) -> None:
    """Refuse class names that no line-based file can hold. Raises DatasetError."""
    broken = [name for name in dataset.classes.names if len(name.splitlines()) != 1]
    if broken:
        raise DatasetError(f"class {broken[0]!r} has a line break in it; rename it, a label file cannot hold it")


def check_blanks(texts: Iterable[str], target: str) -> None:
    """Refuse image names that a table's reader would change. Raises DatasetError."""
    odd = next((text for text in texts if text != text.strip()), None)
    if odd is not None:
        raise DatasetError(f"image {odd!r} begins or ends with a blank, which {target} does not keep; use --to coco")


def quoted(text: str) -> str:
    """The text as one word of a shell."""
    return text if re.fullmatch(r"[\w@%+=:,./-]+", text, re.ASCII) else "'" + text.replace("'", "'\"'\"'") + "'"
