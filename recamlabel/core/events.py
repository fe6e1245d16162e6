"""What a run says while it works, to whoever listens: the lines of its ``log.jsonl``, as they are written."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

Listener = Callable[[Mapping[str, Any]], None]
"""Called with one event: ``stage``, ``event`` (``start``, ``step``, ``finish``, …) and what belongs to it."""
_LISTENERS: ContextVar[list[Listener] | None] = ContextVar("listeners", default=None)


@contextmanager
def listening(listeners: Sequence[Listener]) -> Iterator[None]:
    """While it lasts, every event is told to these listeners too; at its end each one's ``close()`` is called, if any.

    Example:
        >>> heard = []
        >>> with listening([heard.append]):
        ...     tell({"stage": "classifier", "event": "step", "step": 10, "loss": 0.5})
        >>> heard[0]["loss"]
        0.5
    """
    token = _LISTENERS.set([*(_LISTENERS.get() or ()), *listeners])
    try:
        yield
    finally:
        _LISTENERS.reset(token)
        for listener in listeners:
            if (close := getattr(listener, "close", None)) is not None:
                close()


def tell(event: Mapping[str, Any]) -> None:
    """One event to all listeners. One that fails is said so once and not asked again: a run is not lost for its log."""
    listeners = _LISTENERS.get()
    for listener in tuple(listeners or ()):
        try:
            listener(event)
        except Exception as error:
            assert listeners is not None
            listeners.remove(listener)
            name = getattr(listener, "__name__", type(listener).__name__)
            print(f"note: {name} failed ({error}) and is told nothing more; the run goes on", file=sys.stderr)
