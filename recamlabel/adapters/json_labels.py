"""Image labels in JSON: mmpretrain's multi-label annotation files and FiftyOne's ``labels.json``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from recamlabel.adapters.assemble import Draft, Entry, assemble
from recamlabel.adapters.base import Dataset, Problem
from recamlabel.adapters.class_names import is_background
from recamlabel.adapters.config import AdapterOptions, refuse_foreign_settings
from recamlabel.adapters.files.json_file import find_json_files, has_key, peek_json, read_json
from recamlabel.adapters.files.listing import FolderListing, find_image_folder
from recamlabel.adapters.ids import absolute_source, relative_path
from recamlabel.errors import DatasetError

_EXPECTED = "mmpretrain's 'metainfo' and 'data_list', or FiftyOne's 'labels'"


class _MetaInfo(msgspec.Struct):
    classes: list[str] | None = None


class _Item(msgspec.Struct):
    img_path: str | None = None
    gt_label: int | list[int] | None = None


class _Content(msgspec.Struct):
    """Either format: ``data_list`` is mmpretrain's, ``labels`` FiftyOne's."""

    metainfo: _MetaInfo | None = None
    data_list: list[_Item] | None = None
    classes: list[str] | None = None
    labels: dict[str, Any] | None = None


@dataclass
class _Labelled:
    """What an entry says: its image path, and its labels, or None where it has none."""

    place: str
    name: str
    labels: list[int | str] | None


@dataclass
class _File:
    path: Path
    split: str | None
    names: list[str]
    items: list[_Labelled]
    folder: Path = field(default_factory=Path)


class JsonLabelsAdapter:
    """Reads mmpretrain's ``{"metainfo": {"classes"}, "data_list": [{"img_path", "gt_label"}]}`` and FiftyOne's
    image classification export ``{"classes": […], "labels": {"name": label}}`` with images in ``data/``.

    Classes that an image is not labelled with are absent; where it has no label at all
    (``gt_label`` left out, or null), all are unknown.
    """

    name = "json"
    description = "mmpretrain's multi-label .json ('metainfo', 'data_list'), or FiftyOne's labels.json with data/"

    def detect(self, source: Path) -> str | None:
        """Why ``source`` is such a file, or a folder with one. Never raises."""
        try:
            if source.is_file():
                return _kind(source)
            files = find_json_files(source, lambda path: _kind(path) is not None) if source.is_dir() else []
        except (OSError, ValueError):
            return None
        return f"{_kind(files[0][0])} in {files[0][0].relative_to(source)}" if files else None

    def read(self, source: Path, options: AdapterOptions) -> Dataset:
        """Read one file, or all of a folder with their names' splits.

        Raises:
            DatasetError: Not JSON, neither format, no such file in the folder, or no class.
            ConfigError: A setting that is about another format is set.
        """
        refuse_foreign_settings(self.name, options, "image_root")
        top = absolute_source(source)
        found = find_json_files(top, lambda path: _kind(path) is not None)
        if not found:
            raise DatasetError(f"{top}: no label file in this folder; expected {self.description}")
        draft = Draft(self.name, top, found[0][0])
        files = [_load(path, split, options, draft.problems) for path, split in found]
        draft.root = Path(os.path.commonpath([file.folder for file in files]))
        draft.names = list(dict.fromkeys(name for file in files for name in file.names if not is_background(name)))
        listing = FolderListing(draft.root)
        for file in files:
            draft.entries += _entries(file, draft, listing)
        draft.notes += [f"{file.path.name}: images in {file.folder}" for file in files]
        return assemble(draft, options, listing=listing)


def _kind(file: Path) -> str | None:
    text = peek_json(file)
    if has_key(text, "data_list", "["):
        return "mmpretrain's data_list"
    # Other files have 'labels' somewhere; FiftyOne's begin with it or with 'classes'.
    if has_key(text, "labels", "{") and re.match(r'\s*\{\s*"(classes|labels)"', text):
        return "FiftyOne's labels"
    return None


def _load(path: Path, split: str | None, options: AdapterOptions, problems: list[Problem]) -> _File:
    content = read_json(path, _Content, _EXPECTED)
    if content.data_list is not None:
        names = (content.metainfo.classes if content.metainfo else None) or []
        items = list(_of_mmpretrain(content.data_list, path, problems))
    elif content.labels is not None:
        names = content.classes or []
        items = list(_of_fiftyone(content.labels, path, problems))
    else:
        raise DatasetError(f"{path}: neither 'data_list' nor 'labels'; expected {_EXPECTED}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DatasetError(f"{path}: class {twice!r} stands there twice; every name may stand once")
    file = _File(path, split, names, items)
    if options.image_root is not None:
        file.folder = absolute_source(options.image_root)
    else:
        file.folder = _image_folder(file)
    return file


def _of_mmpretrain(items: Sequence[_Item], path: Path, problems: list[Problem]) -> Iterator[_Labelled]:
    for index, item in enumerate(items):
        if not item.img_path:
            problems.append(Problem(f"data_list[{index}]: no img_path; expected the path of the image", path))
            continue
        labels = [item.gt_label] if isinstance(item.gt_label, int) else item.gt_label
        yield _Labelled(f"data_list[{index}]", item.img_path, None if labels is None else [*labels])


def _of_fiftyone(labels: dict[str, Any], path: Path, problems: list[Problem]) -> Iterator[_Labelled]:
    for name, value in labels.items():
        place = f"labels[{name!r}]"
        values = value if isinstance(value, list) else [] if value is None else [value]
        # With confidences or attributes every label is an object around the label.
        plain: list[Any] = [item.get("label") if isinstance(item, dict) else item for item in values]
        wrong = [item for item in plain if isinstance(item, bool) or not isinstance(item, int | str)]
        if wrong:
            message = f"{place}: {wrong[0]!r} is no label; expected a class name, the number of a class, or a list"
            problems.append(Problem(message, path))
            continue
        yield _Labelled(place, name, None if value is None else plain)


def _image_folder(file: _File) -> Path:
    """Where most of some of the images are; names may come without an extension (FiftyOne's do)."""
    here, above = file.path.parent, file.path.parent.parent
    folders = [here / "data", here / "images", here, above / "data", above / "images", above]
    if file.split:
        folders += [top / folder / file.split for top in (here, above) for folder in ("", "images", "data")]
    names = [item.name for item in file.items]
    exact = find_image_folder(folders, names)
    if exact is not None:
        return exact
    for folder in folders:
        listing = FolderListing(folder)
        if any(listing.with_extension(name) for name in names[:20]):
            return folder
    return here


def _entries(file: _File, draft: Draft, listing: FolderListing) -> Iterator[Entry]:
    prefix = PurePosixPath(file.folder.relative_to(draft.root).as_posix())
    everything = frozenset[str]()
    for item in file.items:
        try:
            path = prefix / relative_path(item.name, file.folder)
        except DatasetError as error:
            draft.problems.append(Problem(f"{item.place}: {error}", file.path))
            continue
        if not listing.has(path):
            path = PurePosixPath(listing.with_extension(str(path)) or path)
        labels = None if item.labels is None else _names(item, file, draft.problems)
        if labels is None:
            yield Entry(path, file.path, None, item.place, everything, absent=everything, split=file.split)
        else:
            yield Entry(path, file.path, None, item.place, labels, split=file.split)


def _names(item: _Labelled, file: _File, problems: list[Problem]) -> frozenset[str]:
    found = set()
    for label in item.labels or ():
        if isinstance(label, str):
            if file.names and label not in file.names:
                shown = f"{item.place}: class {label!r} is not among the file's {len(file.names)} classes"
                problems.append(Problem(f"{shown}; add it to 'classes' or fix it", file.path))
            found.add(label)
        elif 0 <= label < len(file.names):
            found.add(file.names[label])
        else:
            message = f"{item.place}: class number {label} is not in 0..{len(file.names) - 1}"
            problems.append(Problem(f"{message}; the file lists {len(file.names)} classes", file.path))
    return frozenset(name for name in found if not is_background(name) and (not file.names or name in file.names))
