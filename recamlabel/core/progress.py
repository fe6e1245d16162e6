"""Progress of long work: rich bars on a terminal, plain lines everywhere else."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from recamlabel.core.printable import printable

PLAIN_SECONDS = 10.0
# The first item's time is mostly that of processes that start and files that open: a rate is that of the items after
# it, and is said from so many items and seconds on.
RATE_ITEMS, RATE_SECONDS = 3, 3.0
# What took less than this did next to nothing: a hundred thousand files a second were none of them read.
TOO_QUICK = 0.05
Clock = Callable[[], float]
"""Seconds since some moment; replaced in tests."""


class Advance(Protocol):
    """Called with the number of finished items and, if wanted, a short note such as a loss."""

    def __call__(self, n: int = 1, note: str = "") -> None: ...


@dataclass(frozen=True)
class Bar:
    """Where a bar stands, for whoever knows what comes after it.

    Attributes:
        total: Number of items.
        start: Items that an earlier run had finished.
        finished: Items finished now, those included.
        ran: Seconds since the bar began.
        more: Whether the same stage has more bars to come.
        first: Items that were finished when something was finished first, ``start`` included, and the seconds after
            the beginning; None before.

    Example:
        >>> Bar(total=120, start=0, finished=1, ran=12.0, first=(1, 12.0)).seconds_left is None  # processes started
        True
        >>> Bar(total=120, start=0, finished=21, ran=16.0, first=(1, 12.0)).seconds_left
        19.8
    """

    total: int
    start: int
    finished: int
    ran: float
    more: bool = False
    first: tuple[int, float] | None = None

    @property
    def since_first(self) -> float:
        """Seconds since something was finished first, within which the rate is measured; 0 before."""
        return 0.0 if self.first is None else self.ran - self.first[1]

    @property
    def rate(self) -> float | None:
        """Items a second, of this run's own: after the first one, of all when done; None where that says little yet."""
        if self.finished >= self.total:
            if self.ran < TOO_QUICK:
                return None
            return (self.finished - self.start) / max(self.ran, 1e-6)
        items = 0 if self.first is None else self.finished - self.first[0]
        if items < RATE_ITEMS or self.since_first < RATE_SECONDS:
            return None
        return items / self.since_first

    @property
    def seconds_left(self) -> float | None:
        """By the rate so far; None where there is none yet."""
        left, rate = max(self.total - self.finished, 0), self.rate
        if not left:
            return 0.0
        return None if rate is None else left / rate


TimeLeft = Callable[[Bar], float]
"""Seconds that all the work takes from here on, of which a bar shows a part."""
_TIME_LEFT: ContextVar[TimeLeft | None] = ContextVar("time_left", default=None)


@contextmanager
def total_left_by(time_left: TimeLeft) -> Iterator[None]:
    """While it lasts, every bar shows the total time left beside its own.

    Example:
        >>> with total_left_by(lambda bar: 60.0), track("decode", 1) as advance:
        ...     advance()
    """
    token = _TIME_LEFT.set(time_left)
    try:
        yield
    finally:
        _TIME_LEFT.reset(token)


# What is said of what goes well, and bars; warnings are said all the same.
_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)
NEEDED = ("warning", "WARNING")
# Of several processes at one run the first says it all.
_MUTE: ContextVar[bool] = ContextVar("mute", default=False)


def be_mute(mute: bool = True) -> None:
    """Say nothing from here on, not even warnings: of several processes at one run the first says the same."""
    _MUTE.set(mute)


def be_quiet(quiet: bool = True) -> None:
    """Say warnings alone from here on: the command line's ``-q``."""
    _QUIET.set(quiet)


@contextmanager
def quietly() -> Iterator[None]:
    """While it lasts, warnings alone are said, and no bar is drawn."""
    token = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(token)


def say(text: str) -> None:
    """One line to the person, on standard error, so that standard output stays machine-readable."""
    if not _MUTE.get() and (not _QUIET.get() or text.startswith(NEEDED)):
        print(printable(text), file=sys.stderr, flush=True)


@contextmanager
def track(
    description: str,
    total: int,
    *,
    start: int = 0,
    unit: str = "images",
    more: bool = False,
    clock: Clock = time.monotonic,
) -> Iterator[Advance]:
    """Show the progress of ``total`` items with rate and time left; inside :func:`total_left_by` the total too.

    Args:
        description: What is being done.
        total: Number of items.
        start: Items that an earlier run had finished already; not counted in the rate.
        unit: What an item is.
        more: Whether the same stage has more bars to come, which then count as time left.
        clock: Tells the time.

    Example:
        >>> with track("decode", 2) as advance:
        ...     advance()
        ...     advance()
    """
    count = _Count(total, start, more, clock)
    if not (_QUIET.get() or _MUTE.get()) and (sys.stderr.isatty() or in_notebook()):
        with _rich_bar(description, count, unit) as advance:
            yield advance
    else:
        yield _PlainLines(description, count, unit)


def in_notebook() -> bool:
    """Whether bars can be drawn in a notebook: an IPython kernel with ipywidgets; else it gets plain lines."""
    if "ipykernel" not in sys.modules or "IPython" not in sys.modules:
        return False
    return importlib.util.find_spec("ipywidgets") is not None


class _Count:
    """What both kinds of bars know: items, rate, time left."""

    def __init__(self, total: int, start: int, more: bool, clock: Clock) -> None:
        self.total, self.start, self.more, self.clock = total, start, more, clock
        self.finished, self.began = start, clock()
        self.first: tuple[int, float] | None = None
        self.time_left = _TIME_LEFT.get()
        self.total_left()

    def advance(self, n: int) -> None:
        self.finished += n
        if self.first is None:
            self.first = self.finished, self.clock() - self.began

    def state(self) -> Bar:
        return Bar(self.total, self.start, self.finished, self.clock() - self.began, self.more, self.first)

    def speed(self, unit: str) -> tuple[str, str]:
        """Rate and time left, in words; empty where too little is known."""
        state = self.state()
        rate = "" if state.rate is None else f"{state.rate:.1f}{unit}/s"
        if state.seconds_left is None:
            return rate, ""
        minutes, seconds = divmod(round(state.seconds_left), 60)
        return rate, f"{minutes}:{seconds:02d} left"

    def total_left(self) -> str:
        """The total time left, in words; empty where nobody knows it."""
        if self.time_left is None:
            return ""
        return f"{duration(self.time_left(self.state()))} to the end"


@contextmanager
def _rich_bar(description: str, count: _Count, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} {task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[to_the_end]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(
            description,
            total=count.total,
            completed=count.start,
            rate="",
            left="",
            note="",
            to_the_end=count.total_left(),
        )

        def advance(n: int = 1, note: str = "") -> None:
            count.advance(n)
            rate, left = count.speed(f" {unit}")
            progress.update(task, advance=n, note=note, rate=rate, left=left, to_the_end=count.total_left())

        yield advance


class _PlainLines:
    """A line at the start, every ten seconds, and at the end."""

    def __init__(self, description: str, count: _Count, unit: str) -> None:
        self.description, self.count, self.unit = description, count, unit
        self.last = count.began

    def __call__(self, n: int = 1, note: str = "") -> None:
        self.count.advance(n)
        now = self.count.clock()
        if now - self.last < PLAIN_SECONDS and self.count.finished < self.count.total:
            return
        self.last = now
        done = f"{self.count.finished}/{self.count.total} {self.unit}"
        parts = (done, *self.count.speed(""), self.count.total_left(), note)
        say(f"{self.description}: {', '.join(part for part in parts if part)}")


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
