"""Problems as lines to read: many of one kind are one line with their number."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from recamlabel.adapters.base import Problem
from recamlabel.adapters.files.listing import is_image_name

# Up to three of a kind are more useful one by one.
_APART = 3
_ROWS = 5


class ProblemLine(NamedTuple):
    """One line, and whether ``fit`` refuses to run because of it."""

    text: str
    fatal: bool


def problem_lines(problems: Iterable[Problem]) -> list[ProblemLine]:
    """One line a problem; where more than three are of one kind and label file (or folder of images), one for all.

    Example:
        >>> bad = [Problem(f"no image {row}.jpg", Path("a.csv"), row, kind="missing") for row in range(2, 42)]
        >>> problem_lines(bad)[0].text
        'a.csv, row 2: no image 2.jpg (and 39 more like it: rows 3, 4, 5, 6, 7, …)'
    """
    groups: dict[tuple[Path, str, bool], list[Problem]] = {}
    for problem in problems:
        where = problem.file.parent if is_image_name(problem.file.name) else problem.file
        groups.setdefault((where, problem.kind or problem.message, problem.fatal), []).append(problem)
    lines = []
    for group in groups.values():
        if len(group) <= _APART:
            lines += [ProblemLine(str(problem), problem.fatal) for problem in group]
        else:
            lines.append(ProblemLine(f"{group[0]} (and {_rest(group[1:])})", group[0].fatal))
    return lines


def _rest(problems: list[Problem]) -> str:
    text, rows = f"{len(problems)} more like it", [problem.row for problem in problems if problem.row is not None]
    if len(rows) == len(problems):
        return f"{text}: rows {', '.join(map(str, rows[:_ROWS]))}" + (", …" if len(rows) > _ROWS else "")
    images = list(dict.fromkeys(p.file.name for p in problems if is_image_name(p.file.name)))
    return f"{text}: {', '.join(images[:_ROWS])}" + (", …" if len(images) > _ROWS else "") if images else text
