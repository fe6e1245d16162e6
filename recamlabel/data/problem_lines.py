"""Problems as lines to read: many of one kind are one line with their number."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from recamlabel.adapters.base import Problem

# Up to three of a kind are more useful one by one.
_APART = 3
_ROWS = 5


class ProblemLine(NamedTuple):
    """One line, and whether ``fit`` refuses to run because of it."""

    text: str
    fatal: bool


def problem_lines(problems: Iterable[Problem]) -> list[ProblemLine]:
    """One line a problem; where more than three are of one kind and file, one line for all of them.

    Example:
        >>> bad = [Problem(f"no image {row}.jpg", Path("a.csv"), row, kind="missing") for row in range(2, 42)]
        >>> problem_lines(bad)[0].text
        'a.csv, row 2: no image 2.jpg (and 39 more like it: rows 3, 4, 5, 6, 7, …)'
    """
    groups: dict[tuple[Path, str, bool], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.file, problem.kind or problem.message, problem.fatal), []).append(problem)
    lines = []
    for group in groups.values():
        if len(group) <= _APART:
            lines += [ProblemLine(str(problem), problem.fatal) for problem in group]
        else:
            lines.append(ProblemLine(f"{group[0]} (and {_rest(group[1:])})", group[0].fatal))
    return lines


def _rest(problems: list[Problem]) -> str:
    rows = [str(problem.row) for problem in problems if problem.row is not None]
    text = f"{len(problems)} more like it"
    if len(rows) < len(problems):
        return text
    return f"{text}: rows {', '.join(rows[:_ROWS])}" + (", …" if len(rows) > _ROWS else "")
