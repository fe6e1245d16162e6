"""A CSV file as a header and rows, whatever its encoding and delimiter."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from recamlabel.adapters.base import Problem
from recamlabel.adapters.files.text import read_text
from recamlabel.errors import DatasetError

# Column names that a message gives.
SHOWN = 20
DELIMITERS = (",", ";", "\t")


class Row(NamedTuple):
    """One record: the 1-based line it begins on, and its cells without surrounding blanks."""

    line: int
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A header and the rows that have as many cells as it; the others are in ``problems``."""

    file: Path
    delimiter: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]

    def column(self, index: int) -> list[str]:
        """All cells of one column."""
        return [row.cells[index] for row in self.rows]


def read_table(file: Path) -> Table:
    """Read a CSV file; the delimiter (comma, semicolon or tab) is found out.

    Args:
        file: UTF-8, with or without a byte-order mark, or UTF-16 with one.

    Raises:
        DatasetError: Unreadable, not UTF-8, empty, a quote that is never closed, or two
            columns of one name.

    Example:
        >>> from tempfile import mkdtemp
        >>> file = Path(mkdtemp()) / "labels.csv"
        >>> _ = file.write_text("image;labels\\na.jpg;cat,dog\\n")
        >>> table = read_table(file)
        >>> table.delimiter, table.rows[0]
        (';', Row(line=2, cells=('a.jpg', 'cat,dog')))
    """
    text = read_text(file)
    delimiter = sniff_delimiter(text)
    try:
        records = list(_records(text, delimiter))
    except csv.Error as error:
        raise DatasetError(f"{file}, row {_broken_line(text, delimiter)}: not valid CSV: {error}") from None
    if not records:
        raise DatasetError(f"{file}: empty; expected a header line such as 'image,labels' and one row an image")
    header, *rows = records
    names = _header_names(file, header)
    good, problems = _check_widths(file, names, rows)
    return Table(file, delimiter, names, tuple(good), tuple(problems))


def sniff_delimiter(text: str) -> str:
    """The delimiter that stands in the header and cuts the most rows into as many cells.

    The header decides first, so that commas between labels do not make ``image;labels`` a
    comma file; only delimiters of the header are compared over the rows.

    Example:
        >>> sniff_delimiter("image;labels\\na.jpg;cat,dog")
        ';'
    """
    header = next(iter(text.strip().splitlines()), "")
    candidates = [mark for mark in DELIMITERS if mark in header]
    if len(candidates) <= 1:
        return candidates[0] if candidates else ","
    return max(candidates, key=lambda mark: _agreement(text, mark))


def _agreement(text: str, delimiter: str) -> tuple[float, int]:
    try:
        header, *rows = _records(text, delimiter)
    except (csv.Error, ValueError):
        return (0.0, 0)
    width = len(header.cells)
    share = sum(len(row.cells) == width for row in rows) / max(1, len(rows))
    return (share if width > 1 else 0.0, width)


def _records(text: str, delimiter: str) -> Iterator[Row]:
    """Rows that have any content. Raises csv.Error."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    line = 1
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield Row(line, tuple(cell.strip() for cell in cells))
        line = reader.line_num + 1


def _broken_line(text: str, delimiter: str) -> int:
    """The line on which the record begins that cannot be read."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    line = 1
    try:
        for _ in reader:
            line = reader.line_num + 1
    except csv.Error:
        pass
    return line


def _header_names(file: Path, header: Row) -> tuple[str, ...]:
    cells = list(header.cells)
    while cells and not cells[-1]:
        cells.pop()
    counts = Counter(cells)
    twice = next((name for name in cells if name and counts[name] > 1), None)
    if twice is not None:
        raise DatasetError(f"{file}, row {header.line}: two columns are called {twice!r}; every name may stand once")
    return tuple(cells)


def _check_widths(file: Path, names: Sequence[str], rows: Sequence[Row]) -> tuple[list[Row], list[Problem]]:
    """Rows cut to the header's width (blank cells behind it are harmless); others are problems."""
    good, problems, width = [], [], len(names)
    shown = ", ".join(names[:SHOWN]) + (", …" if width > SHOWN else "")
    for row in rows:
        if len(row.cells) >= width and not any(row.cells[width:]):
            good.append(Row(row.line, row.cells[:width]))
            continue
        message = (
            f"cells: {len(row.cells)} here, {width} in the header ({shown}); "
            "put quotes around a cell that has the delimiter in it"
        )
        problems.append(Problem(message, file, row.line))
    return good, problems
