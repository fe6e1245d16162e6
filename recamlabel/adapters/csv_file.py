"""Labels in a CSV file: an image column and a labels column, or one 0/1 column per class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from recamlabel.adapters.base import IMAGE_SUFFIXES, AdapterOptions, Dataset, LabelledImage, Problem
from recamlabel.adapters.class_names import LabelSets, is_background, known_classes, make_table, unknown_class
from recamlabel.adapters.csv_columns import STATES, Columns, find_columns
from recamlabel.adapters.csv_table import Row, Table, read_table
from recamlabel.adapters.ids import NearFiles, absolute_source, assign_ids, find_clashes, relative_path
from recamlabel.adapters.separators import Separator, find_separator
from recamlabel.classes import ClassTable
from recamlabel.errors import DatasetError

_SUFFIXES = {".csv", ".tsv"}
_PREFERRED = ("labels.csv", "labels.tsv")


@dataclass(frozen=True, slots=True)
class _Entry:
    """What one row says of one image."""

    line: int
    path: PurePosixPath
    present: frozenset[str]
    unknown: frozenset[str]
    split: str | None


class CsvAdapter:
    """Reads a CSV file; the data root is its folder.

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
        file = _find_file(absolute_source(source))
        table = read_table(file)
        known, origin = known_classes(options, file.parent)
        columns = find_columns(table, options, known)
        problems = list(table.problems)
        entries, notes = _read_entries(table, columns, options, known, problems)
        found = columns.classes or {name for entry in entries for name in entry.present}
        if not known and not found and problems:
            raise DatasetError(f"{problems[0]} (no row with a label can be read; problems: {len(problems)})")
        classes, case_problems = make_table(known, found, file)
        problems += case_problems
        if known:
            problems += _unknown_labels(file, entries, known, origin)
        images = _images(file, _without_repeats(file, entries, problems), classes, problems)
        problems.sort(key=lambda problem: problem.row or 0)
        notes += _column_notes(table, columns)
        return Dataset(file.parent, self.name, classes, images, tuple(problems), tuple(notes))


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


def _read_entries(
    table: Table, columns: Columns, options: AdapterOptions, known: tuple[str, ...], problems: list[Problem]
) -> tuple[list[_Entry], list[str]]:
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
            path = relative_path(row.cells[columns.image], table.file.parent)
        except DatasetError as error:
            problems.append(Problem(str(error), table.file, row.line))
            continue
        split = row.cells[columns.split] or None if columns.split is not None else None
        entries.append(_Entry(row.line, path, *_labels(row, columns, separator, table, problems), split))
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


def _unknown_labels(file: Path, entries: list[_Entry], known: tuple[str, ...], origin: str) -> Iterator[Problem]:
    allowed = frozenset(known)
    messages: dict[str, str] = {}
    for entry in entries:
        for name in sorted(entry.present - allowed):
            if name not in messages:
                messages[name] = unknown_class(name, known, origin)
            yield Problem(messages[name], file, entry.line)


def _without_repeats(file: Path, entries: list[_Entry], problems: list[Problem]) -> list[_Entry]:
    """The first row of every image; later ones are notes where they agree and fatal where not."""
    first: dict[PurePosixPath, _Entry] = {}
    for entry in entries:
        before = first.setdefault(entry.path, entry)
        if before is entry:
            continue
        if (before.present, before.unknown, before.split) == (entry.present, entry.unknown, entry.split):
            message = f"the same as row {before.line} ('{entry.path}'); read once"
            problems.append(Problem(message, file, entry.line, fatal=False))
            continue
        message = (
            f"'{entry.path}' has {_shown(entry)} here but {_shown(before)} in row {before.line}; "
            "expected one row an image, with all its labels"
        )
        problems.append(Problem(message, file, entry.line))
    return list(first.values())


def _shown(entry: _Entry) -> str:
    labels = f"labels {', '.join(sorted(entry.present))}" if entry.present else "no label"
    unknown = f", unknown {', '.join(sorted(entry.unknown))}" if entry.unknown else ""
    return labels + unknown + (f", split {entry.split}" if entry.split is not None else "")


def _images(
    file: Path, entries: list[_Entry], classes: ClassTable, problems: list[Problem]
) -> tuple[LabelledImage, ...]:
    root = file.parent
    ids = assign_ids([entry.path for entry in entries])
    clashing = set()
    for first, later in find_clashes(ids):
        clashing.add(later)
        message = (
            f"'{entries[later].path}' and '{entries[first].path}' (row {entries[first].line}) would both have the id "
            f"{ids[later]!r}, which is the path without extension; rename one of the files"
        )
        problems.append(Problem(message, file, entries[later].line))
    sets, near, names, images = LabelSets(classes), NearFiles(root), frozenset(classes.names), []
    for index, entry in enumerate(entries):
        if index in clashing:
            continue
        path = root / entry.path
        if not path.is_file():
            hint = near.hint(entry.path)
            message = f"no image '{entry.path}' below {root}{hint}; mend the path or put the image there"
            problems.append(Problem(message, file, entry.line, image_id=ids[index]))
        present, absent = sets.make(entry.present & names, entry.unknown)
        images.append(LabelledImage(ids[index], path, present, absent, entry.split))
    return tuple(images)


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
