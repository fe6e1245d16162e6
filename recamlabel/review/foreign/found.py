"""What every reader of another tool's files gives: images by the tool's own names, and masks drawn when asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

UNSAID = -1
Drawn = NDArray[np.int32]


class LeftOutError(Exception):
    """An image of a file that cannot be taken; the text says why, in words that fit several images."""


@dataclass(frozen=True)
class Found:
    """One image of a file.

    Attributes:
        names: What the file calls the image, the surest name first.
        draw: Gives the mask ``(H, W) int32`` of a size: class ids of the run, its ignore id, and :data:`UNSAID` where
            the file says nothing. Raises :class:`LeftOutError`.
        time: When it was made, ISO 8601, or "".
    """

    names: tuple[str, ...]
    draw: Callable[[tuple[int, int]], Drawn]
    time: str = ""


@dataclass
class Reading:
    """What a reader finds beside the masks.

    Attributes:
        kind: The format, for people and for the source of decisions.
        by_number: Whether classes are numbers alone, whose order may be another one than the run's.
        notes: Sentences about the file, in order.
    """

    kind: str
    by_number: bool = False
    notes: list[str] = field(default_factory=list)


def nothing(shape: tuple[int, int]) -> Drawn:
    """A mask that says nothing of any pixel."""
    return np.full(shape, UNSAID, dtype=np.int32)


def check_size(found: tuple[int, int], shape: tuple[int, int]) -> None:
    """Raises LeftOutError where a mask has another height or width than its image."""
    if tuple(found) != tuple(shape):
        turned = ", turned" if found == shape[::-1] else ""
        raise LeftOutError(f"with a mask of another size than the image{turned} ({found[1]}x{found[0]})")
