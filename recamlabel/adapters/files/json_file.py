"""JSON label files: decoded into typed records that leave out what labels do not need."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from recamlabel.adapters.files.folder_scan import SPLIT_FOLDERS
from recamlabel.adapters.files.text import read_bytes
from recamlabel.errors import DatasetError

T = TypeVar("T")

_PEEK = 1 << 16
_BOM = b"\xef\xbb\xbf"
_SPLIT_WORD = re.compile(
    r"(?:^|[^a-z])((?:mini)?train|training|valid|validation|val|testing|test|dev)\d*(?![a-z])", re.IGNORECASE
)


def read_json(file: Path, kind: type[T], expected: str) -> T:
    """Decode a JSON file into ``kind``; fields that ``kind`` does not have cost neither memory nor time.

    Args:
        file: UTF-8, with or without a byte-order mark.
        kind: A ``msgspec.Struct`` or any type that msgspec decodes.
        expected: What the file should be, for messages.

    Raises:
        DatasetError: Unreadable, a pickle, truncated or malformed (with line and column), or of
            another shape (with the path inside the file, such as ``$.images[3].id``).

    Example:
        >>> from tempfile import mkdtemp
        >>> file = Path(mkdtemp()) / "a.json"
        >>> _ = file.write_text('{"a": 1')
        >>> read_json(file, dict, "labels")
        Traceback (most recent call last):
        ...
        recamlabel.errors.DatasetError: ...a.json, row 1, column 8: truncated: the file ends in the middle ...
    """
    data = read_bytes(file).removeprefix(_BOM)
    if not data.strip():
        raise DatasetError(f"{file}: empty; expected {expected}")
    return decode_json(data, kind, file, expected)


def decode_json(data: bytes, kind: type[T], file: Path, expected: str, first_row: int = 1) -> T:
    """Like :func:`read_json`, from bytes of the file that begin in line ``first_row``."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise _wrong_shape(error, file, expected) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # Python's own json writes NaN, which is no JSON; areas and scores of some exports have it.
        if b"NaN" in data or b"Infinity" in data:
            try:
                return msgspec.convert(json.loads(data), type=kind)
            except msgspec.ValidationError as wrong:
                raise _wrong_shape(wrong, file, expected) from None
            except (ValueError, RecursionError):
                pass
        raise DatasetError(_malformed(error, data, file, expected, first_row)) from None


def peek_json(file: Path) -> str:
    """The first and last 64 KiB of a ``.json`` file as text, to recognise it by; empty if it is none.

    Raises:
        OSError: The file cannot be read.
    """
    if file.suffix.lower() != ".json" or not file.is_file():
        return ""
    with file.open("rb") as stream:
        head = stream.read(_PEEK)
        stream.seek(max(_PEEK, file.stat().st_size - _PEEK))
        text = (head + b"\n" + stream.read(_PEEK)).removeprefix(_BOM).decode("utf-8", "replace")
    return text if text.lstrip().startswith("{") else ""


def has_key(text: str, key: str, opening: str = "") -> bool:
    """Whether ``"key":`` stands in the text, followed by one of the characters in ``opening`` if given."""
    return re.search(rf'"{key}"\s*:\s*' + (f"[{re.escape(opening)}]" if opening else ""), text) is not None


def find_json_files(source: Path, accepts: Callable[[Path], bool]) -> list[tuple[Path, str | None]]:
    """Label files of a source, each with its split.

    A file is itself, without a split. Of a folder, the files in it count, else those in its
    ``annotations/``, else those in its split folders; the split comes from the name
    (``instances_train2017.json`` is ``train``) or from the split folder.

    Args:
        source: A file or folder.
        accepts: Whether a file is of the wanted format.

    Raises:
        OSError: The folder cannot be listed.
    """
    if not source.is_dir():
        return [(source, None)]
    for folder in (source, source / "annotations"):
        files = [path for path in _json_files(folder) if accepts(path)]
        if files:
            return [(path, split_of(path.stem)) for path in files]
    found: list[tuple[Path, str | None]] = []
    for folder in sorted(path for path in source.iterdir() if path.name.casefold() in SPLIT_FOLDERS):
        found += [(path, folder.name) for path in _json_files(folder) if accepts(path)]
    return found


def split_of(stem: str) -> str | None:
    """The split that a file is named after, without a year; None if it names none.

    Example:
        >>> split_of("instances_train2017"), split_of("lvis_v1_val"), split_of("trainers")
        ('train', 'val', None)
    """
    match = _SPLIT_WORD.search(stem)
    return match.group(1).lower() if match else None


def _json_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() == ".json" and not p.name.startswith("."))


def _wrong_shape(error: msgspec.ValidationError, file: Path, expected: str) -> DatasetError:
    return DatasetError(f"{file}: {str(error).replace(' - at ', ' at ')}; expected {expected}")


def _malformed(error: Exception, data: bytes, file: Path, expected: str, first_row: int) -> str:
    text = str(error)
    if isinstance(error, UnicodeDecodeError):
        return f"{file}, {_position(data, error.start, first_row)}: not UTF-8; save the file as UTF-8"
    if isinstance(error, RecursionError):
        return f"{file}: nested deeper than any label file is; expected {expected}"
    at = re.search(r"\(byte (\d+)\)", text)
    if at is None:
        where = _position(data, len(data), first_row)
        return f"{file}, {where}: truncated: the file ends in the middle of a value; get it again, whole"
    where, what = _position(data, int(at.group(1)), first_row), text.replace(at.group(0), "").strip()
    return f"{file}, {where}: not valid JSON: {what.removeprefix('JSON is malformed: ')}; expected {expected}"


def _position(data: bytes, offset: int, first_row: int) -> str:
    # Columns count from 1, and the offset is that of the byte itself.
    row, column = data.count(b"\n", 0, offset) + first_row, offset - data.rfind(b"\n", 0, offset)
    return f"row {row}, column {column}"
