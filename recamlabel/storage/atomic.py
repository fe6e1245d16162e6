"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; move it over ``path`` if the block succeeds.

    The temporary file keeps the suffix, so that writers which look at it are not confused, but
    not the name, which may be as long as the file system allows. It is removed if the block fails.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> target = Path(mkdtemp()) / "a.txt"
        >>> with replacing(target) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def swap_folder(new: Path, target: Path) -> None:
    """Put folder ``new`` in the place of ``target`` and delete what was there."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    new.replace(target)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def placing(place: Path) -> Iterator[Path]:
    """A temporary folder beside ``place`` that takes its place if the block succeeds, and else is removed."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".recamlabel-{uuid.uuid4().hex}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        if place.exists():
            place.rmdir()  # empty, or this fails and nothing is lost
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
