"""Other packages' things: where they are from, and whose fault it is when one of them fails.

A package says in its ``pyproject.toml`` what it brings (docs/plugins.md)::

    [project.entry-points."recamlabel.refiners"]
    guided = "recamlabel_example.guided:GUIDED"

Entry points are read when a name is looked up that is not recamlabel's own, and one is imported when it is asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

from recamlabel.errors import RecamlabelError


class FlawError(ValueError):
    """What is wrong with another package's thing, as the end of a sentence about it."""


@dataclass(frozen=True)
class Offer:
    """One thing of another package, as ``recamlabel doctor`` lists it.

    Attributes:
        kind: Of the thing: ``adapter``, ``variant``, ``method``, ``format``, ``segmenter``.
        name: What it is called.
        package: Name and version of its package.
        value: Where it is in there, ``module:attribute``.
        fault: Why it is not used, and what to do; empty where it is.
    """

    kind: str
    name: str
    package: str
    value: str
    fault: str = ""


def points_of(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group, sorted by name and package; found again where a folder of ``sys.path`` changed."""
    return _points(group, tuple(_states()))


@lru_cache(maxsize=16)
def _points(group: str, states: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    return tuple(sorted(entry_points(group=group), key=lambda point: (point.name, owner(point), point.value)))


def _states() -> Iterator[tuple[str, int]]:
    """What installing a package changes: looked up in microseconds, where reading all packages takes 20 ms."""
    for name in sys.path:
        changed = 0
        with suppress(OSError):
            changed = Path(name or ".").stat().st_mtime_ns
        yield name, changed


def owner(point: EntryPoint) -> str:
    """Whose an entry point is, in words."""
    return f"the package {point.dist.name}" if point.dist is not None else "an installed package"


def package(point: EntryPoint) -> str:
    """Name and version of an entry point's package, such as ``recamlabel-example 0.1.0``."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an installed package"


def installed(name_and_version: str) -> str:
    """The version of a package that is installed now, as :func:`package` says it.

    Example:
        >>> installed("no-such-package 1.0")
        'not installed'
    """
    name = name_and_version.rpartition(" ")[0]
    try:
        return f"{name} {version(name)}"
    except (PackageNotFoundError, ValueError):
        return "not installed"


@contextmanager
def blame(who: str, error: type[RecamlabelError]) -> Iterator[None]:
    """Tell what another package's code raises as that package's fault; with ``RECAMLABEL_DEBUG`` it goes through.

    Args:
        who: The thing and its package, to begin the message with.
        error: What is raised instead. Errors of recamlabel, of the system and of memory are left as they are.

    Example:
        >>> from recamlabel.errors import ConfigError
        >>> with blame("method 'x' of the package y", ConfigError):
        ...     1 / 0
        Traceback (most recent call last):
        recamlabel.errors.ConfigError: method 'x' of the package y failed: ZeroDivisionError: division by zero; ...
    """
    try:
        yield
    except FlawError as flaw:
        raise error(f"{who} {flaw}; {NOT_OURS}") from None
    except (RecamlabelError, OSError, MemoryError):
        raise
    except Exception as failure:
        if os.environ.get("RECAMLABEL_DEBUG") or type(failure).__name__ == "OutOfMemoryError":
            raise
        text = (str(failure).splitlines() or [""])[0]
        raise error(f"{who} failed: {type(failure).__name__}: {text}; {NOT_OURS}") from failure


NOT_OURS = "that is a defect of the package, not of recamlabel: report it there (RECAMLABEL_DEBUG=1 shows the place)"


def check_scores(found: Any, shape: tuple[int | None, ...], what: str) -> Any:
    """An array of numbers in 0..1, as another package gave it.

    Args:
        found: What it gave.
        shape: What it is to have; None: any length from 1.
        what: For the message.

    Raises:
        FlawError: It is another thing, of another shape, or has values beyond 0..1 or none.

    Example:
        >>> import numpy as np
        >>> check_scores(np.zeros((2, 3)), (None, 4), "scores")
        Traceback (most recent call last):
        recamlabel.core.plugins.FlawError: gave scores of shape (2, 3); expected (any, 4)
    """
    import numpy as np

    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fbu":
        kind = f"{found.dtype} array" if isinstance(found, np.ndarray) else type(found).__name__
        raise FlawError(f"gave {what} as a {kind}; expected a NumPy array of floating-point numbers")
    fits = found.ndim == len(shape) and all(
        length >= 1 if wanted is None else length == wanted for length, wanted in zip(found.shape, shape, strict=True)
    )
    if not fits:
        wished = ", ".join("any" if length is None else str(length) for length in shape)
        raise FlawError(f"gave {what} of shape {found.shape}; expected ({wished})")
    if found.size and not (found.min() >= -TOLERANCE and found.max() <= 1 + TOLERANCE):
        raise FlawError(f"gave {what} from {found.min():.4g} to {found.max():.4g}; expected numbers in 0..1")
    return found.clip(0, 1)


# Of float16 near 1.
TOLERANCE = 1e-3
