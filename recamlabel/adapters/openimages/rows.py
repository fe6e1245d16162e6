"""The CSV files of Open Images, read row by row: those of the training set have tens of millions."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from recamlabel.adapters.base import Problem
from recamlabel.adapters.files.text import read_text
from recamlabel.errors import DatasetError


class Kind(Enum):
    """What a CSV file of Open Images holds, by its header."""

    LABELS = "labels"
    IMAGES = "images"


def kind_of(file: Path) -> Kind | None:
    """The kind of a CSV file; None for others, and for box files, whose labels are in the label files too.

    Raises:
        OSError: The file cannot be read.
    """
    if file.suffix.lower() != ".csv":
        return None
    with file.open(encoding="utf-8-sig", errors="replace") as stream:
        header = {cell.strip().strip('"') for cell in stream.readline(10_000).split(",")}
    if "ImageID" not in header or "XMin" in header:
        return None
    return Kind.LABELS if "LabelName" in header else Kind.IMAGES


def rows_of(file: Path, columns: Sequence[str], problems: list[Problem]) -> Iterator[tuple[int, list[str]]]:
    """``(row, cells of the columns)`` of every row; ``""`` where an optional column (``Subset``) is missing.

    Raises:
        DatasetError: Not UTF-8, not CSV, or a column is missing.
    """
    try:
        # Strict UTF-8: a replaced character would make two names one.
        with file.open(encoding="utf-8-sig", newline="") as stream:
            yield from _rows(file, csv.reader(stream, strict=True), columns, problems)
    except UnicodeDecodeError:
        read_text(file)  # says in which row
        raise
    except csv.Error as error:
        raise DatasetError(f"{file}: not valid CSV: {error}") from None


def _rows(
    file: Path, reader: Iterator[list[str]], columns: Sequence[str], problems: list[Problem]
) -> Iterator[tuple[int, list[str]]]:
    header = [name.strip() for name in next(reader, [])]
    missing = [name for name in columns if name not in header and name != "Subset"]
    if missing:
        raise DatasetError(f"{file}, row 1: no column {missing[0]!r} among {', '.join(header)}")
    places = [header.index(name) if name in header else None for name in columns]
    least = max((place for place in places if place is not None), default=0)
    row = 1
    for cells in reader:
        row += 1
        if len(cells) <= least:
            if any(cells):
                message = f"cells: {len(cells)} here, {len(header)} in the header ({', '.join(header)})"
                problems.append(Problem(message, file, row))
            continue
        chosen = ["" if place is None else cells[place].strip() for place in places]
        if chosen[0]:
            yield row, chosen
        else:
            problems.append(Problem("no ImageID; expected the name of an image without extension", file, row))


@dataclass
class ClassNames:
    """Display names by label name (``/m/01yrx`` is ``Cat``)."""

    names: dict[str, str]
    file: Path | None
    note: str

    def __post_init__(self) -> None:
        self._told: set[str] = set()

    @classmethod
    def find(cls, folder: Path, problems: list[Problem]) -> ClassNames:
        """Read the class-descriptions file of a folder, or of the one above it. Raises DatasetError."""
        for place in (folder, folder.parent):
            files = sorted(p for p in place.glob("*.csv") if "class-descriptions" in p.name.replace("_", "-").lower())
            if files:
                names = _descriptions(files[0], problems)
                return cls(names, files[0], f"class names from {files[0].name}")
        return cls({}, None, "no class-descriptions file: label names are taken as class names as they stand")

    def of(self, label: str, file: Path, row: int, problems: list[Problem]) -> str | None:
        """The name of a label; None, with a problem for the first row, where it has none."""
        if self.file is None and label:
            return label
        name = self.names.get(label)
        if name is None and label not in self._told:
            self._told.add(label)
            where = f"is not in {self.file.name}; add it there" if self.file and label else "is no class"
            problems.append(Problem(f"LabelName {label!r} {where}", file, row, kind="LabelName"))
        return name


def _descriptions(file: Path, problems: list[Problem]) -> dict[str, str]:
    names: dict[str, str] = {}
    for row, cells in enumerate(csv.reader(read_text(file).splitlines()), start=1):
        if not any(cells) or (row == 1 and cells[0].strip() == "LabelName"):
            continue
        if len(cells) < 2 or not cells[1].strip():
            problems.append(Problem("no display name; expected 'LabelName,DisplayName'", file, row))
        elif names.setdefault(cells[0].strip(), cells[1].strip()) != cells[1].strip():
            message = f"{cells[0]!r} is called {names[cells[0].strip()]!r} above and {cells[1]!r} here; keep one"
            problems.append(Problem(message, file, row))
    twins = {name for name, count in Counter(names.values()).items() if count > 1}
    # Open Images has some names twice; they are different classes.
    return {label: f"{name} ({label})" if name in twins else name for label, name in names.items()}
