"""Rows of ``metadata.jsonl`` and ``metadata.parquet``, and labels in the shapes that people give them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from recamlabel.adapters.base import Problem
from recamlabel.adapters.config import AdapterOptions
from recamlabel.adapters.csv.columns import IMAGE_NAMES, LABELS_NAMES, SPLIT_NAMES
from recamlabel.adapters.files.folder_scan import SPLIT_FOLDERS
from recamlabel.adapters.files.json_file import decode_json
from recamlabel.adapters.files.text import read_bytes
from recamlabel.errors import DatasetError, MissingExtraError

_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_EXPECTED = 'one object a line, such as {"file_name": "a.jpg", "labels": ["cat"]}'
_INSTALL = "pip install 'recamlabel[huggingface]'"
# Where the classes of boxes stand, in data sets for object detection.
_INSIDE = ("category", "categories", "label", "labels", "class", "classes", "name")


def find_metadata(folder: Path) -> list[Path]:
    """Metadata files of an image folder: in it, or in its split folders.

    Raises:
        OSError: A folder cannot be listed.
    """
    return [file for file in _metadata(folder) if _has_names(file)]


def refuse_unnamed(folder: Path) -> None:
    """Refuse a folder whose metadata files name no image in their first line: the library ``datasets``, which would
    read it otherwise, may end the process on a damaged one. Raises DatasetError."""
    for file in _metadata(folder):
        raise DatasetError(f"{file}: no file_name in its first line; expected {_EXPECTED}, or a column of that name")


def _metadata(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    below = sorted(path for path in folder.iterdir() if path.name.casefold() in SPLIT_FOLDERS and path.is_dir())
    return [file for place in (folder, *below) for name in _NAMES if (file := place / name).is_file()]


def json_rows(file: Path, problems: list[Problem]) -> Iterator[tuple[int, dict[str, Any]]]:
    """``(row, values)`` of a JSON lines file; a line that is no object becomes a problem."""
    for row, line in enumerate(read_bytes(file).removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield row, decode_json(line, dict[str, Any], file, _EXPECTED, first_row=row)
        except DatasetError as error:
            text = str(error).removeprefix(f"{file}").removeprefix(f", row {row}").lstrip(",: ")
            problems.append(Problem(text, file, row))


def parquet_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """``(row, values)`` of a Parquet file, counted from 1.

    Raises:
        MissingExtraError: ``pyarrow`` is not installed.
        DatasetError: Truncated or no Parquet.
    """
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError:
        raise MissingExtraError(f"{file}: reading Parquet needs pyarrow; {_INSTALL}, or write metadata.jsonl") from None
    read_head = file.open("rb")
    with read_head:
        if read_head.read(4) != b"PAR1":
            raise DatasetError(f"{file}: no Parquet (it does not begin with PAR1); expected a Parquet file")
    try:
        rows = parquet.read_table(file).to_pylist()
    except Exception as error:  # ArrowInvalid, OSError, and others of the C++ library
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(f"{file}: truncated or not valid Parquet: {text}; get it again, whole") from None
    yield from enumerate(rows, start=1)


class RowReader:
    """Finds file name, labels and split in rows of named values.

    Args:
        file: For messages.
        options: Declared columns; class names in the order of their numbers.
    """

    def __init__(self, file: Path, options: AdapterOptions) -> None:
        self._file, self._options = file, options

    def file_name(self, values: Mapping[str, Any]) -> str:
        """The image path of a row. Raises DatasetError."""
        key = self._key(values, self._options.image_column, IMAGE_NAMES, "image_column")
        value = values.get(key) if key is not None else None
        if not isinstance(value, str) or not value.strip():
            raise DatasetError(f"no file_name among {', '.join(values) or 'no columns'}; expected the path of an image")
        return value

    def labels(self, values: Mapping[str, Any]) -> frozenset[str] | None:
        """Labels of a row; None where it has none. Raises DatasetError."""
        key = self._key(values, self._options.labels_column, (*LABELS_NAMES, "objects"), "labels_column")
        if key is None:
            found = ", ".join(values)
            raise DatasetError(f"no labels among {found}; expected 'labels', or --set data.labels_column=NAME")
        return plain_labels(values[key], self._options.classes, self._options.label_separator)

    def split(self, values: Mapping[str, Any]) -> str | None:
        """The split of a row, if it has one."""
        key = self._key(values, self._options.split_column, SPLIT_NAMES, "split_column")
        return str(values[key]) if key is not None and values[key] else None

    def _key(self, values: Mapping[str, Any], declared: str | None, names: Sequence[str], setting: str) -> str | None:
        if declared is not None:
            if declared not in values:
                found = ", ".join(values)
                raise DatasetError(f"no column {declared!r} (setting data.{setting}); the columns are {found}")
            return declared
        return find_key(values, names)


def find_key(keys: Mapping[str, Any] | Sequence[str], names: Sequence[str]) -> str | None:
    """The key that comes first among ``names``, compared by lower-case letters and digits."""
    plain = {re.sub(r"[^a-z0-9]", "", key.lower()): key for key in reversed(list(keys))}
    return next((plain[name] for name in names if name in plain), None)


def plain_labels(value: Any, names: Sequence[str], separator: str | None = None) -> frozenset[str] | None:
    """Class names of a labels value: a name, a number, a list of either, or an object with such a list.

    Args:
        value: As the file has it; None (and -1, as ``datasets`` writes it) means no label.
        names: Class names by number.
        separator: What stands between the labels of a text; None: a text is one label.

    Raises:
        DatasetError: Another type, or a number that has no name.

    Example:
        >>> sorted(plain_labels([0, 1], ["cat", "dog"])), plain_labels(None, [])
        (['cat', 'dog'], None)
    """
    if isinstance(value, Mapping):
        key = find_key(list(value), _INSIDE)
        return plain_labels(value[key] if key is not None else None, names, separator)
    if value is None or (value == -1 and not isinstance(value, bool)):
        return None
    if isinstance(value, str):
        parts = [value] if separator is None else value.split(separator)
        return frozenset(part.strip() for part in parts if part.strip())
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value < len(names):
            return frozenset((names[value],))
        given = f"there are {len(names)} classes" if names else "the classes have no names here"
        raise DatasetError(f"class number {value}, but {given}; give their names by number: data.classes=[…]")
    if isinstance(value, Sequence):
        labels = [plain_labels(item, names, separator) for item in value]
        return frozenset(name for item in labels if item is not None for name in item)
    raise DatasetError(f"labels {str(value)[:60]!r}; expected class names or numbers, or a list of them")


def _has_names(file: Path) -> bool:
    if file.suffix.lower() == ".parquet":
        return True
    with file.open("rb") as stream:
        return b"file_name" in stream.readline(1 << 16)
