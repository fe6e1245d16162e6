"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_TEMPORARY = re.compile(r"\.recamlabel-[0-9a-f]{8}-\d+-[0-9a-f]{12}\.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; move it over ``path`` if the block succeeds.

    The temporary file keeps the suffix, so that writers which look at it are not confused, but
    not the name, which may be as long as the file system allows. It is removed if the block fails, and what killed
    processes left beside ``path`` is removed first.

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
    remove_dead_once(path.parent)
    temporary = path.with_name(temporary_name(path.suffix))
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


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file that this program writes line by line.

    Not ``splitlines``, which ends a line at U+2028 and U+0085 too: names and notes in JSON may hold them.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "a.jsonl"
        >>> write_text(path, "one\u2028still\\ntwo\\n")
        >>> read_lines(path) == ["one\u2028still", "two"]
        True
    """
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


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
    remove_dead(place.parent)
    remove_dead(place)
    temporary = place.with_name(temporary_name())
    temporary.mkdir()
    try:
        yield temporary
        if place.exists():
            place.rmdir()  # empty, or this fails and nothing is lost
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_name(suffix: str = "") -> str:
    """A hidden name that says which process made it: ``.recamlabel-HOST-PID-RANDOM.tmp``.

    Example:
        >>> temporary_name(".h5").endswith(".tmp.h5"), remove_dead(Path("nowhere"))
        (True, 0)
    """
    return f".recamlabel-{_host()}-{os.getpid()}-{uuid.uuid4().hex[:12]}.tmp{suffix}"


def remove_dead(folder: Path) -> int:
    """Remove temporary files and folders that processes of this machine left which live no more.

    What a living process is writing stays, and so does what another machine left on a shared disk.

    Args:
        folder: Looked at itself, not below.

    Returns:
        How many were removed.
    """
    removed = 0
    for path in folder.glob(f".recamlabel-{_host()}-*.tmp*") if folder.is_dir() else ():
        number = path.name.split("-")[2]
        if number.isdecimal() and not _lives(int(number)):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            removed += 1
    return removed


# Looked at by this process; one that was forked from it looks itself.
_LOOKED_AT: set[tuple[int, Path]] = set()


def remove_dead_once(folder: Path) -> None:
    """As :func:`remove_dead`, at the first call of a process for a folder: it may hold a hundred thousand files."""
    place = (os.getpid(), folder.absolute())
    if place not in _LOOKED_AT:
        _LOOKED_AT.add(place)
        remove_dead(folder)


def is_empty(folder: Path, but: str = "") -> bool:
    """Whether nothing is in a folder, or nothing but temporary files that a killed process left before it had begun.

    Args:
        folder: The folder.
        but: Name of a file that may be there.

    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp())
        >>> _ = (folder / temporary_name(".toml")).write_text("half")
        >>> is_empty(folder)
        True
        >>> write_text(folder / "a.txt", "whole")
        >>> is_empty(folder)
        False
    """
    return not any(path.name != but and _TEMPORARY.match(path.name) is None for path in folder.iterdir())


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@cache
def _host() -> str:
    """A few letters of the machine's name; processes are numbered anew on each."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
