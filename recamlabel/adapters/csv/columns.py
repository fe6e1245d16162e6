"""Which column of a CSV file is what: by the names people use, by its cells, or as declared."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from recamlabel.adapters.base import IMAGE_SUFFIXES
from recamlabel.adapters.class_names import is_background
from recamlabel.adapters.config import AdapterOptions
from recamlabel.adapters.csv.table import Table
from recamlabel.errors import DatasetError

# Lower case, letters and digits only; the earlier a name stands, the better.
IMAGE_NAMES = (
    *("image", "images", "imagepath", "imagefile", "imagefilename", "imagename", "filename", "filenames", "filepath"),
    *("file", "files", "fname", "path", "imgpath", "imgfile", "imgname", "img", "picture", "photo", "imageid", "id"),
)
LABELS_NAMES = (
    *(
        "labels",
        "label",
        "imagelabels",
        "tags",
        "tag",
        "labelname",
        "labelnames",
        "classes",
        "class",
        "classnames",
        "classname",
    ),
    *("categories", "category", "objects", "keywords", "targets", "target"),
)
SPLIT_NAMES = ("split", "splits", "set", "subset", "dataset", "partition", "phase")

STATES = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1, "": -1}
# A column with this share of 0, 1 and -1 is a class with a slip in it, not a measurement.
_STATE_SHARE = 0.75
_DOUBTFUL_SHARE = 0.5
_COUNTERS = {"id", "index", "idx", "row", "no", "nr"}


@dataclass(frozen=True)
class Columns:
    """Positions of the columns; either ``labels`` is set or ``classes`` has entries."""

    image: int
    labels: int | None
    split: int | None
    classes: dict[str, int]
    ignored: tuple[str, ...]


def find_columns(table: Table, options: AdapterOptions, known: Sequence[str]) -> Columns:
    """Find image, labels or class, and split columns.

    Args:
        table: The file.
        options: Declared column names win over everything found.
        known: Class names that are given; if columns have these names, they are the labels.

    Raises:
        DatasetError: A declared column does not exist, or image or labels cannot be found.
    """
    image = _image_column(table, options)
    split = _declared(table, options.split_column, "split_column")
    if split is None:
        split = _by_name(table.header, SPLIT_NAMES, taken={image})
    taken = {image} if split is None else {image, split}
    labels, classes = _label_columns(table, options, known, taken)
    used = taken | set(classes.values()) | ({labels} if labels is not None else set())
    ignored = tuple(name or f"column {i + 1}" for i, name in enumerate(table.header) if i not in used)
    return Columns(image, labels, split, classes, ignored)


def _image_column(table: Table, options: AdapterOptions) -> int:
    declared = _declared(table, options.image_column, "image_column")
    if declared is not None:
        return declared
    if any(_looks_like_path(name) for name in table.header):
        raise DatasetError(
            f"{table.file}, row 1: no header, this line looks like data; put a line such as 'image,labels' above it"
        )
    names = [_plain(name) for name in table.header]
    by_name = [i for i, name in enumerate(names) if name in IMAGE_NAMES]
    if by_name:
        return max(by_name, key=lambda i: (*_path_evidence(table, i), -IMAGE_NAMES.index(names[i])))
    by_cells = [i for i in range(len(names)) if table.rows and _path_evidence(table, i)[1] == 1.0]
    if len(by_cells) == 1:
        return by_cells[0]
    raise DatasetError(
        f"{table.file}, row 1: no image column among {_list(table.header)}; expected one called image, filename, file "
        "or path, or name it with --set data.image_column=NAME"
    )


def _label_columns(
    table: Table, options: AdapterOptions, known: Sequence[str], taken: set[int]
) -> tuple[int | None, dict[str, int]]:
    declared = _declared(table, options.labels_column, "labels_column")
    if declared is not None:
        return declared, {}
    if any(name in table.header for name in known):
        return None, _columns_of_known(table, known, taken)
    labels = _by_name(table.header, LABELS_NAMES, taken)
    classes = {} if known else _state_columns(table, taken)
    if labels is not None and not _only_states(table.column(labels)):
        return labels, {}
    if labels is not None and not known and len(classes) == 1:
        raise DatasetError(_one_or_numbers(table, labels))
    if labels is not None and not classes:
        return labels, {}
    if options.label_separator is not None:
        raise DatasetError(
            f"{table.file}, row 1: a label separator is set, but no labels column is among {_list(table.header)}; "
            "name it with --set data.labels_column=NAME, or leave the separator out"
        )
    only = None if classes else _only_other(table, taken)
    if only is not None:
        return only, {}
    if not classes:
        raise DatasetError(
            f"{table.file}, row 1: neither a labels column nor columns of 0 and 1 among {_list(table.header)}; "
            "expected a column called labels, tags or classes, or name it with --set data.labels_column=NAME"
        )
    return None, classes


def _only_other(table: Table, taken: set[int]) -> int | None:
    """The one column beside image, split and row numbers, if it holds text: what else should it be but labels?"""
    others = [i for i, name in enumerate(table.header) if i not in taken and _plain(name) not in _COUNTERS]
    if len(others) != 1:
        return None
    filled = [cell for cell in table.column(others[0]) if cell]
    readable = filled and not any(_is_number(cell) or _looks_like_path(cell) for cell in filled)
    return others[0] if readable else None


def _columns_of_known(table: Table, known: Sequence[str], taken: set[int]) -> dict[str, int]:
    missing = [name for name in known if name not in table.header]
    if missing:
        near = difflib.get_close_matches(missing[0], [n for n in table.header if n not in known], n=1, cutoff=0.6)
        hint = f"; there is a column {near[0]!r}" if near else ""
        raise DatasetError(
            f"{table.file}, row 1: no column for class {missing[0]!r}{hint} ({len(missing)} of {len(known)} classes "
            "have none); the given classes and the columns must have the same names"
        )
    columns = {name: table.header.index(name) for name in known}
    double = next((name for name, index in columns.items() if index in taken), None)
    if double is not None:
        raise DatasetError(
            f"{table.file}, row 1: column {double!r} is both a class and the image or split column; "
            "name those with --set data.image_column=NAME or data.split_column=NAME"
        )
    return columns


def _state_columns(table: Table, taken: set[int]) -> dict[str, int]:
    """Columns that hold 0, 1, -1 or nothing, but for slips; a column without any value is none."""
    columns: dict[str, int] = {}
    doubtful: dict[str, int] = {}
    for index, name in enumerate(table.header):
        if index in taken or not name or is_background(name) or _plain(name) in _COUNTERS:
            continue
        filled = [cell for cell in table.column(index) if cell]
        share = sum(cell in STATES for cell in filled) / max(1, len(filled))
        if share >= _STATE_SHARE:
            columns[name] = index
        elif share >= _DOUBTFUL_SHARE and {"0", "1"} <= set(filled) and all(map(_is_number, filled)):
            doubtful[name] = index
    # Beside true 0/1 columns such a column is a class with slips: leaving it out would lose
    # the class without a word. Alone it may be a measurement.
    return columns | doubtful if columns else columns


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _only_states(cells: Sequence[str]) -> bool:
    return any(cells) and all(cell in STATES for cell in cells)


def _one_or_numbers(table: Table, labels: int) -> str:
    name = table.header[labels]
    return (
        f"{table.file}, row 1: column {name!r} holds only 0, 1 and -1: one class, or the numbers of classes? For one "
        "class give the column the name of the class; for classes called '0' and '1' use "
        f"--set data.labels_column={name}"
    )


def _declared(table: Table, name: str | None, setting: str) -> int | None:
    if name is None:
        return None
    folded = [other.casefold() for other in table.header]
    if name in table.header:
        return table.header.index(name)
    if folded.count(name.strip().casefold()) == 1:
        return folded.index(name.strip().casefold())
    near = difflib.get_close_matches(name, table.header, n=1, cutoff=0.6)
    question = f"; did you mean {near[0]!r}?" if near else "."
    raise DatasetError(
        f"{table.file}, row 1: no column {name!r} (setting data.{setting}){question} "
        f"The columns are {_list(table.header)}"
    )


def _by_name(header: Sequence[str], names: Sequence[str], taken: set[int]) -> int | None:
    plain = [_plain(name) for name in header]
    matching = [i for i, name in enumerate(plain) if name in names and i not in taken]
    return min(matching, key=lambda i: names.index(plain[i]), default=None)


def _path_evidence(table: Table, index: int) -> tuple[float, float]:
    """Shares of a column's cells that are files beside the CSV (of 20 rows) and that look like images."""
    filled = [cell for cell in table.column(index) if cell]
    if not filled:
        return (0.0, 0.0)
    some = filled[:: max(1, len(filled) // 20)][:20]
    there = sum(_exists(table.file.parent / cell.replace("\\", "/")) for cell in some)
    return (there / len(some), sum(_looks_like_path(cell) for cell in filled) / len(filled))


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a cell may be too long for a file name
        return False


def _looks_like_path(cell: str) -> bool:
    return PurePosixPath(cell.replace("\\", "/")).suffix.lower() in IMAGE_SUFFIXES


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")
