"""What stands between two labels of a cell, found out from all rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recamlabel.adapters.csv.table import Row
from recamlabel.errors import DatasetError

HARD = (",", ";", "|")
SPACE = " "
# Share of words that recur in other cells: labels do, the words of a name hardly ever.
_LABELS_SHARE, _NAMES_SHARE = 0.5, 0.25
_NAME_ROWS = 3
_WAY_OUT = "declare it with --set 'data.label_separator=\"{0}\"'"
_NAMES = {",": "a comma", ";": "a semicolon", "|": "a pipe", SPACE: "a space"}


@dataclass(frozen=True)
class Separator:
    """``mark`` is None where every cell is one label as it stands."""

    mark: str | None
    why: str

    def split(self, cell: str) -> list[str]:
        """The labels of a cell, without surrounding blanks.

        Example:
            >>> Separator(";", "").split("traffic light; car;")
            ['traffic light', 'car']
        """
        if self.mark == SPACE:
            return cell.split()
        parts = [cell] if self.mark is None else cell.split(self.mark)
        return [part.strip() for part in parts if part.strip()]


def find_separator(cells: Sequence[Row], known: Sequence[str], file: Path) -> Separator:
    """Find the separator of a labels column.

    A comma, semicolon or pipe anywhere in the column is the separator, so that class names
    may have spaces. Without one, a space is: if its words recur in other cells, as labels do
    (``tree``, ``building tree``, ``tree car``), rather than keep together, as the words of a
    name do (``traffic light``). Given class names decide alone.

    Args:
        cells: The labels cell of every row, as ``Row(line, (cell,))``.
        known: Class names, if they are given.
        file: For messages.

    Raises:
        DatasetError: The rows do not tell; the message names a row and how to declare it.

    Example:
        >>> rows = [Row(2, ("traffic light;car",)), Row(3, ("traffic light",))]
        >>> find_separator(rows, (), Path("labels.csv")).mark
        ';'
    """
    listed = next((row for row in cells if re.match(r"[\[{(]\s*['\"]", row.cells[0])), None)
    if listed is not None:
        raise DatasetError(
            f"{file}, row {listed.line}: {listed.cells[0]!r} is a list as a program writes it; "
            "expected labels with a comma, semicolon, pipe or space between them, without brackets and quotes"
        )
    if known:
        return _by_classes(cells, known, file)
    hard = [mark for mark in HARD if any(mark in row.cells[0] for row in cells)]
    if len(hard) > 1:
        raise DatasetError(_mixed(cells, hard, file))
    if hard:
        return _one_hard(cells, hard[0], file)
    return _space_or_names(cells, file)


def _by_classes(cells: Sequence[Row], known: Sequence[str], file: Path) -> Separator:
    """The separator that leaves the fewest cells with a label outside the given classes."""
    names = set(known)
    counts = Counter(row.cells[0] for row in cells)
    used = {mark: sum(n for cell, n in counts.items() if mark in cell) for mark in (*HARD, SPACE)}
    hard = sorted((mark for mark in HARD if used[mark]), key=lambda mark: -used[mark])
    choices = [Separator(mark, "fits the given classes best") for mark in (*hard, SPACE, None)]
    wrong = [sum(n for cell, n in counts.items() if not names.issuperset(c.split(cell))) for c in choices]
    best = min(wrong)
    fitting = [choice for choice, count in zip(choices, wrong, strict=True) if count == best]
    if best == 0:
        for row in cells:
            first, *others = (frozenset(choice.split(row.cells[0])) for choice in fitting)
            if any(other != first for other in others):
                raise DatasetError(_cannot_tell(file, row))
    return fitting[0]


def _one_hard(cells: Sequence[Row], mark: str, file: Path) -> Separator:
    with_mark = [row for row in cells if mark in row.cells[0]]
    spaced = [row for row in cells if mark not in row.cells[0] and SPACE in row.cells[0]]
    # A slip: nearly all rows have spaces between labels that also stand alone, a few have the mark.
    if len(with_mark) < 0.05 * len(spaced) and _recurring(spaced, cells) > 0.8:
        raise DatasetError(_mixed(cells, [mark, SPACE], file))
    return Separator(mark, f"{_NAMES[mark]} is in {len(with_mark)} of {len(cells)} rows")


def _space_or_names(cells: Sequence[Row], file: Path) -> Separator:
    spaced = [row for row in cells if SPACE in row.cells[0]]
    if not spaced:
        return Separator(None, "one label a row at most")
    share = _recurring(spaced, cells)
    if share >= _LABELS_SHARE:
        return Separator(SPACE, f"a space is in {len(spaced)} of {len(cells)} rows, and the words recur in other rows")
    often = max(Counter(row.cells[0] for row in spaced).values())
    if share < _NAMES_SHARE and often >= _NAME_ROWS:
        return Separator(None, "one label a row; names such as " + repr(spaced[0].cells[0]) + " keep together")
    raise DatasetError(_cannot_tell(file, spaced[0]))


def _recurring(spaced: Sequence[Row], cells: Sequence[Row]) -> float:
    """Share of the words of cells with spaces that are in another, different cell as well."""
    homes: dict[str, set[frozenset[str]]] = {}
    orders: dict[frozenset[str], set[str]] = {}
    for row in cells:
        group = frozenset(row.cells[0].split())
        orders.setdefault(group, set()).add(row.cells[0])
        for word in group:
            homes.setdefault(word, set()).add(group)
    words = {word for row in spaced for word in row.cells[0].split()}
    # 'a b' and 'b a' are two labels in any order; a name has one order.
    swapped = {word for group, forms in orders.items() if len(forms) > 1 for word in group}
    return sum(len(homes[word]) > 1 or word in swapped for word in words) / max(1, len(words))


def _cannot_tell(file: Path, row: Row) -> str:
    cell = row.cells[0]
    return (
        f"{file}, row {row.line}: cannot tell whether {cell!r} is one label or {len(cell.split())} labels; for labels "
        f"between spaces {_WAY_OUT.format(SPACE)}, for names with a space in them {_WAY_OUT.format(',')}, "
        "or list the class names in classes.txt"
    )


def _mixed(cells: Sequence[Row], marks: Sequence[str], file: Path) -> str:
    where = []
    for mark in marks:
        row = next(row for row in cells if mark in row.cells[0])
        where.append(f"{_NAMES[mark]} in row {row.line} ({row.cells[0]!r})")
    return (
        f"{file}: more than one mark could separate labels: {', '.join(where)}; use one, or {_WAY_OUT.format('MARK')}"
    )
