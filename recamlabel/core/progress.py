"""Progress of long work: rich bars on a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

PLAIN_SECONDS = 10.0


class Advance(Protocol):
    """Called with the number of finished items and, if wanted, a short note such as a loss."""

    def __call__(self, n: int = 1, note: str = "") -> None: ...


def say(text: str) -> None:
    """One line to the person, on standard error, so that standard output stays machine-readable."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def track(description: str, total: int, *, start: int = 0, unit: str = "images") -> Iterator[Advance]:
    """Show the progress of ``total`` items with rate and time left.

    Args:
        description: What is being done.
        total: Number of items.
        start: Items that an earlier run had finished already; not counted in the rate.
        unit: What an item is.

    Example:
        >>> with track("decode", 2) as advance:
        ...     advance()
        ...     advance()
    """
    if sys.stderr.isatty():
        with _rich_bar(description, total, start, unit) as advance:
            yield advance
    else:
        yield _PlainLines(description, total, start, unit)


@contextmanager
def _rich_bar(description: str, total: int, start: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} {task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    began = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total, completed=start, rate="", note="")
        finished = 0

        def advance(n: int = 1, note: str = "") -> None:
            nonlocal finished
            finished += n
            rate = finished / max(time.monotonic() - began, 1e-6)
            progress.update(task, advance=n, note=note, rate=f"{rate:.1f} {unit}/s")

        yield advance


class _PlainLines:
    """A line at the start, every ten seconds, and at the end."""

    def __init__(self, description: str, total: int, start: int, unit: str) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.start = self.finished = start
        self.began = self.last = time.monotonic()

    def __call__(self, n: int = 1, note: str = "") -> None:
        self.finished += n
        now = time.monotonic()
        if now - self.last < PLAIN_SECONDS and self.finished < self.total:
            return
        self.last = now
        rate = (self.finished - self.start) / max(now - self.began, 1e-6)
        left = max(self.total - self.finished, 0) / max(rate, 1e-6)
        minutes, seconds = divmod(round(left), 60)
        tail = f", {note}" if note else ""
        done = f"{self.finished}/{self.total} {self.unit}"
        say(f"{self.description}: {done}, {rate:.1f}/s, {minutes}:{seconds:02d} left{tail}")


def duration(seconds: float) -> str:
    """A length of time, in words.

    Example:
        >>> duration(3.2), duration(125), duration(7500)
        ('3 s', '2 min', '2 h 5 min')
    """
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
