"""Labels in a CSV file: an image column and a labels column, or one 0/1 column per class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from recamlabel.adapters.assemble import Draft, make_images, settle_classes, without_repeats
from recamlabel.adapters.base import IMAGE_SUFFIXES, Dataset, Problem
from recamlabel.adapters.class_names import is_background, known_classes, unknown_class
from recamlabel.adapters.config import COLUMN_SETTINGS, AdapterOptions, refuse_foreign_settings
from recamlabel.adapters.csv.columns import STATES, Columns, find_columns
from recamlabel.adapters.csv.separators import Separator, find_separator
from recamlabel.adapters.csv.table import Row, Table, read_table
from recamlabel.adapters.entries import Entry
from recamlabel.adapters.files.image_root import ImageRoot, are_bare, find_image_root
from recamlabel.adapters.files.listing import FolderListing
from recamlabel.adapters.ids import absolute_source, relative_path
from recamlabel.adapters.negatives import negatives_of
from recamlabel.adapters.openimages.rows import kind_of
from recamlabel.errors import DatasetError

_SUFFIXES = {".csv", ".tsv"}
_PREFERRED = ("labels.csv", "labels.tsv")


class CsvAdapter:
    """Reads a CSV file; the data root is its folder, ``options.image_root``, or ``images/`` beside it.

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
        root = absolute_source(options.image_root) if options.image_root else None
        known, origin = known_classes(options, file.parent)
        content = read_entries(file, root, options, known)
        problems = content.problems
        if not (known or content.classes or problems == []) and not any(entry.present for entry in content.entries):
            raise DatasetError(f"{problems[0]} (no row with a label can be read; problems: {len(problems)})")
        where = content.images
        draft = Draft(self.name, where.root, file, content.entries, sorted(content.classes), problems, content.notes)
        draft.entries = without_repeats(draft.entries, problems)
        classes = settle_classes(draft, known, options)
        if known:
            problems += _unknown_labels(file, draft.entries, known, origin)
        listing = FolderListing(where.root)
        images = make_images(where.root, draft.entries, classes, problems, listing, hint=where.hint)
        problems.sort(key=lambda problem: problem.row or 0)
        return Dataset(where.root, self.name, classes, images, tuple(problems), tuple(draft.notes))


@dataclass(frozen=True)
class CsvContent:
    """The rows of a CSV file with a usable path.

    Args:
        entries: One a row.
        images: Where the images are.
        classes: Names of 0/1 columns, if there are any.
        problems, notes: Of rows and columns.
    """

    entries: list[Entry]
    images: ImageRoot
    classes: tuple[str, ...]
    problems: list[Problem]
    notes: list[str]


def read_entries(file: Path, root: Path | None, options: AdapterOptions, known: tuple[str, ...]) -> CsvContent:
    """What every row says; images are not looked for.

    Args:
        file: The CSV file.
        root: What image paths are relative to; None: found out.
        options: Declared columns and separator.
        known: Class names, if they are given.

    Raises:
        DatasetError: Not readable as CSV, or no image or labels column.
    """
    table = read_table(file)
    columns = find_columns(table, options, known)
    names = table.column(columns.image)
    images = ImageRoot(root, bare=are_bare(names)) if root is not None else find_image_root(file, names)
    problems = list(table.problems)
    entries, notes = _read_rows(table, images, columns, options, known, problems)
    notes += _column_notes(table, columns)
    notes += [images.note] if images.note else []
    return CsvContent(entries, images, tuple(columns.classes), problems, notes)


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
    images: ImageRoot,
    columns: Columns,
    options: AdapterOptions,
    known: tuple[str, ...],
    problems: list[Problem],
) -> tuple[list[Entry], list[str]]:
    """Every row with a usable path, and what was found out on the way."""
    separator, notes = _separator(table, columns, options, known)
    base = table.file.parent if table.file.parent != images.root else None
    negatives = negatives_of(options, known)
    listing = FolderListing(images.root) if images.bare else None
    entries = []
    for row in table.rows:
        try:
            path = relative_path(row.cells[columns.image], images.root, base)
            if listing is not None and not listing.has(path):
                path = PurePosixPath(listing.with_extension(str(path)) or path)
        except DatasetError as error:
            problems.append(_bad_path(row.cells[columns.image], error, images, table.file, row.line))
            continue
        split = row.cells[columns.split] or None if columns.split is not None else None
        cell = "" if columns.labels is None else row.cells[columns.labels]
        if cell in negatives:  # 'no defect' is one label, whatever stands between others
            present, unknown = frozenset({cell.strip()}), frozenset[str]()
        else:
            present, unknown = _labels(row, columns, separator, table, problems)
        entries.append(Entry(path, table.file, row.line, "", present, unknown, split=split))
    if columns.labels is not None:
        reserved = sum(any(map(is_background, separator.split(cell))) for cell in table.column(columns.labels))
        if reserved:
            notes.append(f"rows with the label 'background': {reserved}; it says that no class is there")
    return entries, notes


def _separator(
    table: Table, columns: Columns, options: AdapterOptions, known: tuple[str, ...]
) -> tuple[Separator, list[str]]:
    """What stands between the labels of a cell, and a note of it."""
    if columns.labels is None:
        return Separator(None, ""), []
    negatives = negatives_of(options, known)
    cells = [Row(row.line, (row.cells[columns.labels],)) for row in table.rows]
    if options.label_separator is not None:
        separator = Separator(options.label_separator, "declared")
    else:
        separator = find_separator([row for row in cells if row.cells[0] not in negatives], known, table.file)
    mark = "taken as they stand" if separator.mark is None else f"separated by {separator.mark!r}"
    return separator, [f"labels are {mark} ({separator.why})"]


def _bad_path(cell: str, error: DatasetError, images: ImageRoot, file: Path, row: int) -> Problem:
    """The problem of a path that cannot be used; where most lead out of the data root, with the way out."""
    if not cell.strip():
        return Problem(str(error), file, row)
    if not images.outside:
        return Problem(str(error), file, row, kind="outside")
    return Problem(f"image path {cell!r} leads out of {images.root}; {images.hint}", file, row, kind="outside")


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
    notes = [f"{role} = {table.header[index]!r}" for role, index in roles if index is not None]
    if columns.classes:
        notes.append(f"columns of 0 and 1: {len(columns.classes)}")
    yield "columns: " + ", ".join(notes)
    if columns.ignored:
        yield f"columns that are not read: {', '.join(columns.ignored)}"
    if columns.split is not None:
        missing = sum(not cell for cell in table.column(columns.split))
        if missing:
            yield f"rows without a split: {missing}; they are not trained on"
