"""JSON files of any length, written row by row and read back within bounded memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WHOLE_BYTES = 64 * 2**20
"""A larger file is read by lines when an export is checked."""

AddRow = Callable[[Any], None]


@contextmanager
def json_rows(path: Path, head: Mapping[str, Any] | None, rows_name: str = "") -> Iterator[AddRow]:
    """Write ``{**head, rows_name: [row, row, …]}``, or ``[row, …]`` without ``head``; one row a line.

    Args:
        path: The file.
        head: Members that come first; one that is an iterator is written row by row, too.
        rows_name: Name of the last member, whose rows the caller adds.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "a.json"
        >>> with json_rows(path, {"images": iter([1, 2])}, "annotations") as add:
        ...     add({"id": 7})
        >>> json.loads(path.read_text())
        {'images': [1, 2], 'annotations': [{'id': 7}]}
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        if head is not None:
            stream.write("{\n")
            for name, value in head.items():
                stream.write(f"{_text(name)}: ")
                _write_value(stream.write, value)
                stream.write(",\n")
            stream.write(f"{_text(rows_name)}: ")
        separator = "[\n"

        def add(row: Any) -> None:
            nonlocal separator
            stream.write(separator + _text(row))
            separator = ",\n"

        yield add
        stream.write("[]" if separator == "[\n" else "\n]")
        stream.write("}\n" if head is not None else "\n")


def _write_value(write: Callable[[str], Any], value: Any) -> None:
    if not isinstance(value, Iterator):
        write(_text(value))
        return
    write("[")
    for number, row in enumerate(value):
        write(("\n" if number == 0 else ",\n") + _text(row))
    write("]")


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def read_rows(path: Path, rows_name: str | None, wanted: Callable[[Any], bool]) -> list[Any]:
    """The wanted rows of a file of :func:`json_rows`; a large file is read line by line.

    Args:
        path: The file.
        rows_name: As it was written; None for a file without ``head``.
        wanted: Which rows to keep.
    """
    if path.stat().st_size <= WHOLE_BYTES:
        tree = json.loads(path.read_text(encoding="utf-8"))
        return [row for row in (tree if rows_name is None else tree[rows_name]) if wanted(row)]
    return [row for row in _lines(path, rows_name) if wanted(row)]


def _lines(path: Path, rows_name: str | None) -> Iterator[Any]:
    with path.open(encoding="utf-8") as stream:
        begun = rows_name is None
        for line in stream:
            text = line.strip().rstrip(",")
            if not begun:
                begun = text == f"{_text(rows_name)}: ["
            elif text.startswith("{") and text.endswith("}"):
                # The last row of an object file is followed by ']}' on a line of its own.
                yield json.loads(text)
