"""Which classes a data set has, and label sets made from their names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence, Set
from functools import lru_cache
from pathlib import Path

from recamlabel.adapters.base import Problem
from recamlabel.adapters.config import AdapterOptions
from recamlabel.adapters.files.text import read_text
from recamlabel.core.classes import BACKGROUND_NAME, ClassTable, OtherNames, class_table
from recamlabel.errors import DatasetError

CLASSES_FILE = "classes.txt"
_SHOWN = 20


def is_background(name: str) -> bool:
    """Whether a name means "no class": ``background``, in any case; id 0 has that name already."""
    return name.strip().casefold() == BACKGROUND_NAME


def known_classes(options: AdapterOptions, root: Path) -> tuple[tuple[str, ...], str]:
    """Class names that are given beforehand, and where they come from.

    Args:
        options: ``options.classes`` win over the file.
        root: Data root; ``classes.txt`` in it has one name a line, blank lines not counted.

    Returns:
        Names without ``background``, and the origin; two empty values if nothing is given.

    Raises:
        DatasetError: A name twice, or no name besides ``background``.
    """
    file = root / CLASSES_FILE
    if options.classes:
        origin, lines = "the setting data.classes", list(options.classes)
    elif file.is_file():
        origin, lines = str(file), read_text(file).splitlines()
    else:
        return (), ""
    names = [line.strip() for line in lines if line.strip() and not is_background(line)]
    if not names:
        raise DatasetError(f"{origin}: no class name; expected one name a line, or no such file")
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise DatasetError(f"{origin}: class {twice!r} stands there twice; every name may stand once")
    return tuple(names), origin


def make_table(known: Sequence[str], found: Iterable[str], source: Path) -> tuple[ClassTable, tuple[Problem, ...]]:
    """The class table: the known names, or else the sorted names found.

    Returns:
        The table, and a note for names that differ in case only.

    Raises:
        DatasetError: There is no class at all.
    """
    names = list(known) or sorted(set(found))
    if not names:
        raise DatasetError(
            f"{source}: no class: nothing in it has a label; label at least one image, "
            f"or list the class names in a file {CLASSES_FILE} beside the images"
        )
    by_case: dict[str, str] = {}
    problems = []
    for name in names:
        twin = by_case.setdefault(name.casefold(), name)
        if twin != name:
            message = f"classes {twin!r} and {name!r} differ in upper and lower case only and are two classes"
            problems.append(Problem(message, source, fatal=False))
    return class_table(names), tuple(problems)


def unknown_class(name: str, known: Sequence[str], origin: str) -> str:
    """Message for a label that is not among the given classes, with the nearest name.

    Example:
        >>> unknown_class("ct", ("cat", "dog"), "classes.txt")
        "unknown class 'ct'; did you mean 'cat'? (classes given by classes.txt: cat, dog)"
    """
    folded = {other.casefold(): other for other in known}
    near = _nearest(name.casefold(), tuple(folded))
    question = f"; did you mean {folded[near]!r}?" if near else ""
    shown = ", ".join(known[:_SHOWN]) + (", …" if len(known) > _SHOWN else "")
    return f"unknown class {name!r}{question} (classes given by {origin}: {shown})"


# Names that are compared with all classes: a look at each of a thousand takes 20 ms, and a file may have any number.
_COMPARED = 100
_asked: set[str] = set()


@lru_cache(maxsize=1024)
def _nearest(name: str, known: tuple[str, ...]) -> str | None:
    """The most similar of the known names; None where none is similar, or many others were looked up already."""
    if len(known) > _COMPARED and len(_asked) >= _COMPARED:
        return None
    _asked.add(name)
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.6)), None)


class LabelSets:
    """Frozen label sets, shared by all images with the same labels (60,000 images x 1,000 classes fit)."""

    def __init__(self, classes: ClassTable) -> None:
        self._all = frozenset(classes.names)
        self._made: dict[tuple[frozenset[str], frozenset[str]], tuple[frozenset[str], Set[str]]] = {}

    def make(self, present: frozenset[str], unknown: frozenset[str] = frozenset()) -> tuple[frozenset[str], Set[str]]:
        """``(present, absent)``: every class that is neither present nor unknown is absent."""
        key = (present, unknown)
        if key not in self._made:
            self._made[key] = (present, OtherNames(self._all, present | unknown))
        return self._made[key]
