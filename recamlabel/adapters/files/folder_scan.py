"""Which image files lie in which class folder, and what else lies about."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from recamlabel.adapters.base import IMAGE_SUFFIXES, Problem, check_image_id
from recamlabel.adapters.class_names import CLASSES_FILE
from recamlabel.errors import DatasetError

SPLIT_FOLDERS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
# True masks, wherever they stand: never read as photographs, by nobody.
MASK_FOLDERS = frozenset({"masks", "ground_truth", "groundtruth", "segmentationclass", "segmentationobject"})
# Folders that hold something else than one class each; 'auto' does not take them for classes.
IMAGE_FOLDERS = frozenset({"images", "imgs", "jpegimages"})
_NOT_CLASSES = MASK_FOLDERS | IMAGE_FOLDERS | {"annotations", "labels"}
_SYSTEM = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_SHOWN = 3


class Found(NamedTuple):
    """An image file: its path relative to the root, its split and the class of its folder."""

    path: PurePosixPath
    split: str | None
    label: str


@dataclass
class Scan:
    """What was met below the root; all but ``files`` are names for messages."""

    files: list[Found] = field(default_factory=list)
    not_images: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    bad_names: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def recognise(source: Path) -> str | None:
    """Why ``source`` looks like a folder of class folders, or None.

    Raises:
        OSError: A folder cannot be listed.
    """
    folders = [path for path in _entries(source) if path.is_dir()] if source.is_dir() else []
    if is_mvtec(folders):
        return "MVTec's layout: train/, test/ and ground_truth/"
    if any(path.name.casefold() in _NOT_CLASSES for path in folders):
        return None
    splits = split_folders(folders)
    if splits:
        return f"class folders below {', '.join(path.name for path in splits)}"
    classes = [path.name for path in folders if has_image(path)]
    return f"folders with images: {_some(classes)}" if classes else None


def is_mvtec(folders: Sequence[Path]) -> bool:
    """Whether the folders of one place are those of MVTec: ``test`` with class folders beside ``ground_truth``."""
    names = {path.name.casefold() for path in folders}
    return {"test", "ground_truth"} <= names and any(
        path.name.casefold() == "test" for path in split_folders(path for path in folders if not _is_masks(path))
    )


def scan_folders(root: Path, *, keep_splits: bool = False) -> Scan:
    """List all images below the class folders of ``root``, in sorted order; true masks are not listed.

    Args:
        root: A folder of class folders, or of splits with class folders in each.
        keep_splits: Whether MVTec's train/ and test/ are splits, instead of one pool.

    Raises:
        DatasetError: Splits and classes at one level, or a folder that cannot be listed.
    """
    try:
        return _scan(root, keep_splits)
    except OSError as error:
        raise DatasetError(f"{error.filename or root}: cannot be listed: {error.strerror or error}") from None


def scan_problems(root: Path, scan: Scan) -> Iterator[Problem]:
    """One problem for every kind of file that is not read."""
    if scan.bad_names:
        message = "file names that are not UTF-8, or have a backslash or a drive letter; rename them"
        yield Problem(f"{_some(scan.bad_names)}: {message}", root)
    if scan.masks:
        message = "true masks, by their names; not read, neither as images nor as masks"
        yield Problem(f"{_some(scan.masks)}: {message}", root, fatal=False)
    if scan.outside:
        yield Problem(f"{_some(scan.outside)}: images outside of a class folder; not read", root, fatal=False)
    if scan.not_images:
        yield Problem(f"{_some(scan.not_images)}: not images; not read", root, fatal=False)
    if scan.empty:
        yield Problem(f"{_some(scan.empty)}: folders without an image; not taken for classes", root, fatal=False)


def _scan(root: Path, keep_splits: bool) -> Scan:
    scan = Scan()
    top = _entries(root)
    folders = [path for path in top if path.is_dir()]
    pool = is_mvtec(folders) and not keep_splits
    scan.masks += [path.name for path in folders if _is_masks(path)]
    folders = [path for path in folders if not _is_masks(path)]
    splits = split_folders(folders)
    others = [path.name for path in folders if path not in splits and has_image(path)]
    if splits and others:
        raise DatasetError(
            f"{root}: {', '.join(path.name for path in splits)} look like splits, but {_some(others)} beside them have "
            "images too; expected either splits or classes at this level, so move the others out"
        )
    _scan_loose(root, top, scan)
    if not splits:
        _scan_classes(root, folders, None, scan)
    for split in splits:
        below = _entries(split)
        _scan_loose(root, below, scan)
        _scan_classes(root, [path for path in below if path.is_dir()], None if pool else split.name, scan)
    if pool:
        scan.notes.append(
            f"MVTec's layout: {', '.join(f'{path.name}/' for path in splits)} are one pool, all of it to train on, for "
            "the defects are in test/ alone; ground_truth/ holds true masks and is not read "
            "(--set 'data.train_splits=[\"test\"]' keeps the splits)"
        )
    return scan


def _scan_loose(root: Path, paths: Iterable[Path], scan: Scan) -> None:
    for path in paths:
        if _is_image(path):
            scan.outside.append(_shown(path, root))
        elif not path.is_dir() and path.name != CLASSES_FILE:
            scan.not_images.append(_shown(path, root))


def _scan_classes(root: Path, folders: Iterable[Path], split: str | None, scan: Scan) -> None:
    for folder in folders:
        if _is_masks(folder):
            scan.masks.append(_shown(folder, root))
            continue
        before = len(scan.files)
        images = list(_walk(folder, scan.masks, root))
        stems = {path.parent / path.stem for path in images}
        for path in images:
            relative = path.relative_to(root).as_posix()
            if _is_mask_file(path, stems):
                scan.masks.append(_shown(path, root))
            elif not _is_image(path):
                scan.not_images.append(_shown(path, root))
            elif _usable(relative):
                scan.files.append(Found(PurePosixPath(relative), split, folder.name.strip()))
            else:
                scan.bad_names.append(_shown(path, root))
        if len(scan.files) == before:
            scan.empty.append(_shown(folder, root))


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted, without hidden files and those of file managers."""
    entries = (path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in _SYSTEM)
    return sorted(entries, key=lambda path: path.name)


def _walk(folder: Path, masks: list[str] | None = None, root: Path | None = None) -> Iterator[Path]:
    """All files below a folder, in sorted order; links to folders below it could be circles and are left out.

    Where ``masks`` is given, folders of true masks are added to it, by their path from ``root``, and left out.
    """
    for path in _entries(folder):
        if not path.is_dir():
            yield path
        elif masks is not None and root is not None and _is_masks(path):
            masks.append(_shown(path, root))
        elif not path.is_symlink():
            yield from _walk(path, masks, root)


def _is_masks(folder: Path) -> bool:
    return folder.name.casefold() in MASK_FOLDERS


def _is_mask_file(path: Path, stems: Collection[Path]) -> bool:
    """``a_mask.png`` (or ``a_mask_1.png``) beside ``a.jpg``: a true mask, as MVTec and BUSI name them."""
    head = re.fullmatch(r"(.+)_mask(?:_\d+)?", path.stem)
    return head is not None and path.parent / head.group(1) in stems


def split_folders(folders: Iterable[Path]) -> list[Path]:
    """Folders with the name of a split that hold folders of images, and no image of their own.

    A class may be called ``train``: then its images lie right in it.
    """
    splits = []
    for folder in folders:
        if folder.name.casefold() in SPLIT_FOLDERS:
            below = _entries(folder)
            if not any(_is_image(path) for path in below) and any(p.is_dir() and has_image(p) for p in below):
                splits.append(folder)
    return splits


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()


def has_image(folder: Path) -> bool:
    """Whether there is an image in a folder or anywhere below it. Raises OSError."""
    return any(_is_image(path) for path in _walk(folder))


def _usable(relative: str) -> bool:
    try:
        relative.encode("utf-8")
        check_image_id(relative)
    except (UnicodeEncodeError, DatasetError):
        return False
    return True


def _shown(path: Path, root: Path) -> str:
    """A name that can be printed on any terminal even if it is not UTF-8."""
    return path.relative_to(root).as_posix().encode("utf-8", "backslashreplace").decode()


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
