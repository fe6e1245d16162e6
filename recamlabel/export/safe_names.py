"""Names in an export: safe, unique, and refused where a format would not give them back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from recamlabel.core.classes import ClassTable
from recamlabel.errors import DatasetError

LONGEST = 200
"""Bytes of a flat name; file systems take 255 with the extension."""


class UniqueNames:
    """Gives each text a name of its own; two that differ in case alone count as one.

    Example:
        >>> names = UniqueNames()
        >>> [names.take(text) for text in ("a__b", "a__b", "A__b")]
        ['a__b', 'a__b~2', 'A__b~3']
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: dict[str, int] = {}

    def take(self, wanted: str) -> str:
        """``wanted``, or with ``~2``, ``~3``, … where that is taken."""
        name, key = wanted, wanted.casefold()
        while name.casefold() in self._taken:
            self._last[key] = self._last.get(key, 1) + 1
            name = f"{wanted}~{self._last[key]}"
        self._taken.add(name.casefold())
        return name


def flat_name(image_id: str) -> str:
    """An id as one file name: ``/`` becomes ``__``; a very long one ends in a hash.

    Example:
        >>> flat_name("images/val/a b")
        'images__val__a b'
    """
    name = image_id.replace("/", "__")
    if name.startswith("."):
        name = f"_{name}"  # readers leave out hidden files
    data = name.encode()
    if len(data) <= LONGEST:
        return name
    return f"{data[: LONGEST - 17].decode(errors='ignore')}-{hashlib.sha256(data).hexdigest()[:16]}"


def folder_name(split: str) -> str:
    """A split's name as a folder: what no file system takes becomes ``_``.

    Example:
        >>> folder_name("train"), folder_name("../a b"), folder_name("")
        ('train', '_.._a b', '_')
    """
    name = re.sub(r'[/\\:*?"<>|\x00-\x1f\x7f]', "_", split).strip(" ")
    return f"_{name}" if not name or name.startswith(".") else name


def ignore_label(table: ClassTable) -> str:
    """A name for withheld pixels that no class has.

    Example:
        >>> ignore_label(ClassTable(("dent",))), ignore_label(ClassTable(("ignore",)))
        ('ignore', 'ignore_')
    """
    name = "ignore"
    while name in table.names:
        name += "_"
    return name


def refuse_names(
    kind: str, format_name: str, names: Iterable[str], forbidden: str = "", *, comment: bool = False
) -> None:
    """Refuse names that a list with one name a line does not give back.

    Args:
        kind: ``"image id"`` or ``"class name"``, for the message.
        format_name: The format, for the message.
        names: All names.
        forbidden: Characters that the format uses between fields.
        comment: Whether a line that starts with ``#`` is skipped by readers.

    Raises:
        DatasetError: The first name that cannot be written, and why.

    Example:
        >>> refuse_names("class name", "cvat", ["dent: deep"], ":")
        Traceback (most recent call last):
        ...
        recamlabel.errors.DatasetError: cvat cannot hold the class name 'dent: deep': ...
    """
    for name in names:
        reason = None
        if len(name.splitlines()) != 1 or name.endswith("\n"):
            reason = "a line break in it"
        elif name != name.strip():
            reason = "blanks at its end, which readers strip"
        elif comment and name.startswith("#"):
            reason = "a '#' at its start, which readers take for a comment"
        elif found := sorted(set(name) & set(forbidden)):
            reason = f"{' '.join(map(repr, found))} in it, which separates fields there"
        if reason:
            raise DatasetError(
                f"{format_name} cannot hold the {kind} {name!r}: it has {reason}; rename it, or choose another --format"
            )


def refuse_hidden(format_name: str, names: Iterable[str], marks: tuple[str, ...] = (".",)) -> None:
    """Refuse names with a part that the format's readers take for hidden and leave out in silence.

    Raises:
        DatasetError: The first such name.

    Example:
        >>> refuse_hidden("mmseg", ["a/.b"])
        Traceback (most recent call last):
        ...
        recamlabel.errors.DatasetError: mmseg cannot hold the image id 'a/.b': ...
    """
    for name in names:
        if any(part.startswith(marks) for part in name.split("/")):
            raise DatasetError(
                f"{format_name} cannot hold the image id {name!r}: its readers leave out files and folders that begin "
                f"with {' or '.join(map(repr, marks))}; rename it, or choose another --format"
            )
