"""Labels as folders: one folder per class, below an optional level of splits."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from recamlabel.adapters.assemble import Draft, settle_classes
from recamlabel.adapters.base import Dataset, LabelledImage, Problem
from recamlabel.adapters.class_names import LabelSets, is_background, known_classes, unknown_class
from recamlabel.adapters.config import AdapterOptions, refuse_foreign_settings
from recamlabel.adapters.entries import Entry
from recamlabel.adapters.files.folder_scan import Found, recognise, scan_folders, scan_problems
from recamlabel.adapters.ids import absolute_source, assign_ids, find_clashes
from recamlabel.core.classes import ClassTable
from recamlabel.errors import DatasetError


@dataclass(slots=True)
class _Picture:
    """One picture of one split, however many copies of it there are."""

    path: PurePosixPath
    split: str | None
    content: object
    labels: set[str] = field(default_factory=set)
    copies: list[PurePosixPath] = field(default_factory=list)


class ClassFoldersAdapter:
    """Reads ``CLASS/…/image.jpg`` or ``SPLIT/CLASS/…/image.jpg``.

    A picture that stands in several class folders (of one split), byte for byte, is one image
    with all their labels; its id is the first of the paths in sorted order. All other classes
    are absent. A folder ``background`` holds images without a label, and so does ``good`` (see
    :mod:`recamlabel.adapters.negatives`). In MVTec's layout, train/, test/ and ground_truth/, the
    defects are in test/ alone: both are one pool, and ground_truth/ is not read.
    """

    name = "folder"
    description = "a folder with one folder of images per class, or with train/ and val/ and those below them"

    def detect(self, source: Path) -> str | None:
        """Why ``source`` is a folder of class folders, or None. Never raises."""
        try:
            return recognise(source)
        except OSError:
            return None

    def read(self, source: Path, options: AdapterOptions) -> Dataset:
        """Read the folders; files of equal size are compared by content.

        Raises:
            DatasetError: A file instead of a folder, no class folder, splits beside classes.
            ConfigError: A setting that is about another format is set.
        """
        root = absolute_source(source)
        refuse_foreign_settings(self.name, options)
        if not root.is_dir():
            raise DatasetError(f"{root}: a file; the adapter 'folder' reads a folder with a folder of images per class")
        scan = scan_folders(root, keep_splits=options.train_splits is not None)
        if not scan.files:
            raise DatasetError(f"{root}: no image in a class folder; expected {self.description}")
        known, origin = known_classes(options, root)
        pictures = _merge(root, scan.files)
        draft = Draft(self.name, root, root, [_entry(root, picture) for picture in pictures])
        draft.problems += scan_problems(root, scan)
        draft.notes += [*scan.notes, *_merge_notes(pictures)]
        classes = settle_classes(draft, known, options)
        strangers = {name for entry in draft.entries for name in entry.present}.difference(classes.names)
        draft.problems += [Problem(f"folder: {unknown_class(name, known, origin)}", root) for name in sorted(strangers)]
        draft.problems += _in_two_splits(root, pictures)
        images = _images(root, draft.entries, classes, draft.problems)
        return Dataset(root, self.name, classes, images, tuple(draft.problems), tuple(draft.notes))


def _entry(root: Path, picture: _Picture) -> Entry:
    return Entry(picture.path, root / picture.path, None, "", frozenset(picture.labels), split=picture.split)


def _merge(root: Path, files: Sequence[Found]) -> list[_Picture]:
    """One picture for all files of a split with the same content, in order of their first paths."""
    sizes = [_size(root / file.path) for file in files]
    how_many = Counter(sizes)
    pictures: dict[tuple[str | None, object], _Picture] = {}
    for file, size in zip(files, sizes, strict=True):
        # Only files of one size can be equal; empty ones are, and are yet no picture.
        content = _content(root, file.path) if size > 0 and how_many[size] > 1 else file.path
        picture = pictures.setdefault((file.split, content), _Picture(file.path, file.split, content))
        if not is_background(file.label):
            picture.labels.add(file.label)
        if picture.path != file.path:
            picture.copies.append(file.path)
    return list(pictures.values())


def _size(path: Path) -> int:
    """Bytes of a file; 0 for a dead link, which decoding reports."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _content(root: Path, path: PurePosixPath) -> object:
    """A hash of the file; the path itself where it cannot be read, which decoding reports."""
    try:
        with (root / path).open("rb") as stream:
            return hashlib.file_digest(stream, hashlib.blake2b).digest()
    except OSError:
        return path


def _merge_notes(pictures: Sequence[_Picture]) -> Iterator[str]:
    merged = [picture for picture in pictures if picture.copies]
    if merged:
        first = merged[0]
        yield (
            f"pictures that occur more than once: {len(merged)}; each is one image with the labels of all its folders "
            f"(first: {first.path} = {first.copies[0]})"
        )
    unlabelled = sum(not picture.labels for picture in pictures)
    if unlabelled:
        yield f"images in a folder 'background' only: {unlabelled}; they have no label"


def _in_two_splits(root: Path, pictures: Sequence[_Picture]) -> Iterator[Problem]:
    first: dict[object, _Picture] = {}
    for picture in pictures:
        before = first.setdefault(picture.content, picture)
        if before is not picture:
            message = f"the same picture as '{before.path}' of another split; scores on one are no test of the other"
            yield Problem(message, root / picture.path, fatal=False)


def _images(
    root: Path, entries: Sequence[Entry], classes: ClassTable, problems: list[Problem]
) -> tuple[LabelledImage, ...]:
    ids = assign_ids([entry.path for entry in entries])
    clashing = set()
    for first, later in find_clashes(ids):
        clashing.add(later)
        message = (
            f"would have the id {ids[later]!r}, the path without extension, like '{entries[first].path}', "
            "which is another picture; rename one of the files"
        )
        problems.append(Problem(message, root / entries[later].path))
    sets, names = LabelSets(classes), frozenset(classes.names)
    images = []
    for index, entry in enumerate(entries):
        if index not in clashing:
            present, absent = sets.make(entry.present & names)
            images.append(LabelledImage(ids[index], root / entry.path, present, absent, entry.split))
    return tuple(images)
