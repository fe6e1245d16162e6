"""Labels in a CSV file: an image column and a labels column, or one 0/1 column per class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recamlabel.adapters.assemble import Entry, make_images, without_repeats
from recamlabel.adapters.base import IMAGE_SUFFIXES, AdapterOptions, Dataset, Problem
from recamlabel.adapters.class_names import is_background, known_classes, make_table, unknown_class
from recamlabel.adapters.csv_columns import STATES, Columns, find_columns
from recamlabel.adapters.csv_table import Row, Table, read_table
from recamlabel.adapters.ids import absolute_source, relative_path
from recamlabel.adapters.listing import FolderListing
from recamlabel.adapters.openimages_csv import kind_of
from recamlabel.adapters.separators import Separator, find_separator
from recamlabel.adapters.settings import COLUMN_SETTINGS, refuse_foreign_settings
from recamlabel.errors import DatasetError

_SUFFIXES = {".csv", ".tsv"}
_PREFERRED = ("labels.csv", "labels.tsv")


class CsvAdapter:
    """Reads a CSV file; the data root is its folder, or ``options.image_root``.

    A row without a label is an image in which every class is absent. The label ``background``
    says the same, for id 0 has that name already.
    """

    name = "csv"
    description = "a .csv or .tsv file with an image and a labels column, or a folder with labels.csv (or just one CSV)"

    def detect(self, source: Path) -> str | None:
        """Why ``source`` is a CSV data set, or None. Never raises."""
        try:
            if source.is_file():
                return f"a {source.suffix.lower()} file" if source.suffix.lower() in _SUFFIXES else None
            file = _file_in(source)
        except OSError:
            return None
        if file is None:
            return None
        return f"there is a {file.name} in it" if file.name.lower() in _PREFERRED else f"{file.name} is its only CSV"

    def read(self, source: Path, options: AdapterOptions) -> Dataset:
        """Read the labels of a CSV file or of a folder with one.

        Raises:
            DatasetError: No such file, not readable as CSV, no image or labels column, or no
                class at all. What is wrong with single rows is in ``problems``.
        """
        refuse_foreign_settings(self.name, options, *COLUMN_SETTINGS, "image_root")
        file = _find_file(absolute_source(source))
        root = absolute_source(options.image_root) if options.image_root else file.parent
        known, origin = known_classes(options, file.parent)
        content = read_entries(file, root, options, known)
        problems, entries = content.problems, content.entries
        found = content.classes or {name for entry in entries for name in entry.present}
        if not known and not found and problems:
            raise DatasetError(f"{problems[0]} (no row with a label can be read; problems: {len(problems)})")
        classes, case_problems = make_table(known, found, file)
        problems += case_problems
        if known:
            problems += _unknown_labels(file, entries, known, origin)
        kept = without_repeats(entries, problems)
        images = make_images(root, kept, classes, problems, FolderListing(root))
        problems.sort(key=lambda problem: problem.row or 0)
        return Dataset(root, self.name, classes, images, tuple(problems), tuple(content.notes))


@dataclass(frozen=True)
class CsvContent:
    """The rows of a CSV file with a usable path; ``classes`` has the names of 0/1 columns, if there are any."""

    entries: list[Entry]
    classes: tuple[str, ...]
    problems: list[Problem]
    notes: list[str]


def read_entries(file: Path, root: Path, options: AdapterOptions, known: tuple[str, ...]) -> CsvContent:
    """What every row says; images are not looked for.

    Args:
        file: The CSV file.
        root: What image paths are relative to.
        options: Declared columns and separator.
        known: Class names, if they are given.

    Raises:
        DatasetError: Not readable as CSV, or no image or labels column.
    """
    table = read_table(file)
    columns = find_columns(table, options, known)
    problems = list(table.problems)
    entries, notes = _read_rows(table, root, columns, options, known, problems)
    notes += _column_notes(table, columns)
    return CsvContent(entries, tuple(columns.classes), problems, notes)


def has_labels_file(folder: Path) -> bool:
    """Whether a folder has a labels.csv that is not one of Open Images. Never raises."""
    try:
        file = _file_in(folder) if folder.is_dir() else None
        return file is not None and file.name.lower() in _PREFERRED and kind_of(file) is None
    except OSError:
        return False


def _file_in(folder: Path) -> Path | None:
    """The label file of a folder: labels.csv, or the only CSV file there is."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())
    files = [path for path in files if not path.name.startswith(".")]
    for name in _PREFERRED:
        for path in files:
            if path.name.lower() == name:
                return path
    return files[0] if len(files) == 1 else None


def _find_file(source: Path) -> Path:
    if source.is_file():
        if source.suffix.lower() in IMAGE_SUFFIXES:
            raise DatasetError(f"{source}: an image; expected a CSV file with labels, or a folder with one")
        return source
    file = _file_in(source)
    if file is None:
        names = sorted(path.name for path in source.iterdir() if path.suffix.lower() in _SUFFIXES)
        there = f"{len(names)} CSV files ({', '.join(names[:5])})" if names else "no CSV file"
        raise DatasetError(f"{source}: a folder with {there} and no labels.csv; give the path of the label file itself")
    return file


def _read_rows(
    table: Table,
    root: Path,
    columns: Columns,
    options: AdapterOptions,
    known: tuple[str, ...],
    problems: list[Problem],
) -> tuple[list[Entry], list[str]]:
    """Every row with a usable path, and what was found out on the way."""
    notes: list[str] = []
    separator = Separator(None, "")
    if columns.labels is not None:
        cells = [Row(row.line, (row.cells[columns.labels],)) for row in table.rows]
        separator = (
            Separator(options.label_separator, "declared")
            if options.label_separator is not None
            else find_separator(cells, known, table.file)
        )
        mark = "taken as they stand" if separator.mark is None else f"separated by {separator.mark!r}"
        notes.append(f"labels are {mark} ({separator.why})")
    entries = []
    for row in table.rows:
        try:
            path = relative_path(row.cells[columns.image], root)
        except DatasetError as error:
            problems.append(Problem(str(error), table.file, row.line))
            continue
        split = row.cells[columns.split] or None if columns.split is not None else None
        present, unknown = _labels(row, columns, separator, table, problems)
        entries.append(Entry(path, table.file, row.line, "", present, unknown, split=split))
    if columns.labels is not None:
        reserved = sum(any(map(is_background, separator.split(cell))) for cell in table.column(columns.labels))
        if reserved:
            notes.append(f"rows with the label 'background': {reserved}; it says that no class is there")
    return entries, notes


def _labels(
    row: Row, columns: Columns, separator: Separator, table: Table, problems: list[Problem]
) -> tuple[frozenset[str], frozenset[str]]:
    """Present and unknown classes of a row."""
    if columns.labels is not None:
        labels = separator.split(row.cells[columns.labels])
        return frozenset(label for label in labels if not is_background(label)), frozenset()
    present, unknown = set(), set()
    for name, index in columns.classes.items():
        state = STATES.get(row.cells[index])
        if state is None:
            found = f"{row.cells[index]!r} in column {name!r}"
            message = f"{found}; expected 1 (present), 0 (absent), -1 or blank (unknown)"
            problems.append(Problem(message, table.file, row.line))
        if state == 1:
            present.add(name)
        elif state != 0:
            unknown.add(name)
    return frozenset(present), frozenset(unknown)


def _unknown_labels(file: Path, entries: list[Entry], known: tuple[str, ...], origin: str) -> Iterator[Problem]:
    allowed = frozenset(known)
    messages: dict[str, str] = {}
    for entry in entries:
        for name in sorted(entry.present - allowed):
            if name not in messages:
                messages[name] = unknown_class(name, known, origin)
            yield Problem(messages[name], file, entry.row)


def _column_notes(table: Table, columns: Columns) -> Iterator[str]:
    roles = [("image", columns.image), ("labels", columns.labels), ("split", columns.split)]
    found = [f"{role} = {table.header[index]!r}" for role, index in roles if index is not None]
    if columns.classes:
        found.append(f"columns of 0 and 1: {len(columns.classes)}")
    yield "columns: " + ", ".join(found)
    if columns.ignored:
        yield f"columns that are not read: {', '.join(columns.ignored)}"
    if columns.split is not None:
        missing = sum(not cell for cell in table.column(columns.split))
        if missing:
            yield f"rows without a split: {missing}; they are not trained on"
