"""Masks as run lengths: how a painted mask lies in ``decisions.json``, and how masks lie in the page."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recamlabel.core.classes import MAX_CLASSES

LARGEST = MAX_CLASSES + 1
LEVEL = 9


@dataclass(frozen=True, eq=False)
class Runs:
    """A mask read row by row, as runs of one value.

    Attributes:
        shape: Height and width in pixels.
        values: ``(R,) int64``, the class id of each run.
        lengths: ``(R,) int64``, its pixels, at least 1; they add up to height times width.

    Example:
        >>> runs = Runs.of(np.array([[0, 0, 2], [2, 2, 255]], np.uint8))
        >>> runs.to_json()
        {'size': [2, 3], 'runs': [0, 2, 2, 3, 255, 1]}
        >>> Runs.from_json(runs.to_json()).array(np.dtype(np.uint8)).tolist()
        [[0, 0, 2], [2, 2, 255]]
    """

    shape: tuple[int, int]
    values: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, mask: NDArray[Any]) -> Runs:
        """The runs of a mask ``(H, W)`` of integers from 0."""
        flat = np.asarray(mask).ravel()
        starts = np.concatenate([[0], np.flatnonzero(np.diff(flat.astype(np.int64))) + 1])
        lengths = np.diff(np.concatenate([starts, [flat.size]]))
        return cls((mask.shape[0], mask.shape[1]), flat[starts].astype(np.int64), lengths.astype(np.int64))

    @classmethod
    def from_json(cls, tree: Any) -> Runs:
        """The inverse of :meth:`to_json`. Raises ValueError for anything else, with what is wrong."""
        try:
            height, width = tree["size"]
            flat = tree["runs"]
            numbers = [height, width, *flat]
        except (TypeError, KeyError, ValueError):
            raise ValueError("expected {'size': [height, width], 'runs': [value, length, ...]}") from None
        if any(type(number) is not int or not 0 <= number < 2**40 for number in numbers) or len(flat) % 2:
            raise ValueError("its size and runs are not pairs of whole numbers from 0")
        pairs = np.array(flat, dtype=np.int64).reshape(-1, 2)
        values, lengths = pairs[:, 0], pairs[:, 1]
        if not height * width or int(lengths.sum()) != height * width or (lengths < 1).any():
            raise ValueError(f"its runs hold {int(lengths.sum())} pixels, its size is {width}x{height}")
        if values.max() > LARGEST:
            raise ValueError(f"it holds the value {values.max()}, more than any class has")
        return cls((height, width), values, lengths)

    def array(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """The mask ``(H, W)``."""
        return np.repeat(self.values.astype(dtype), self.lengths).reshape(self.shape)

    def to_json(self) -> dict[str, Any]:
        """``size`` and ``runs``: value and length by turns, row by row from the upper left."""
        return {"size": list(self.shape), "runs": [*chain.from_iterable(zip(*self._lists(), strict=True))]}

    def packed(self) -> str:
        """The runs as base64 text of a zlib stream of LEB128 numbers (value, length, value, ...), for the page."""
        numbers = np.stack([self.values, self.lengths], axis=1).ravel()
        return base64.b64encode(zlib.compress(_leb128(numbers), LEVEL)).decode("ascii")

    def same_as(self, other: Runs | None) -> bool:
        """Whether both are one mask."""
        return (
            other is not None
            and self.shape == other.shape
            and np.array_equal(self.values, other.values)
            and np.array_equal(self.lengths, other.lengths)
        )

    def _lists(self) -> tuple[list[int], list[int]]:
        return self.values.tolist(), self.lengths.tolist()


def joined(runs: Runs) -> Runs:
    """Neighbouring runs of one value made one, so that equal masks have equal runs."""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(runs.values)) + 1])
    return Runs(runs.shape, runs.values[starts], np.add.reduceat(runs.lengths, starts))


def _leb128(numbers: NDArray[np.int64]) -> bytes:
    """Numbers in groups of seven bits, the lowest first; the upper bit says that more follow.

    Example:
        >>> list(_leb128(np.array([0, 127, 128, 16384])))
        [0, 127, 128, 1, 128, 128, 1]
    """
    shifts = np.arange(0, 42, 7)
    groups = (numbers[:, None] >> shifts) & 0x7F
    more = (numbers[:, None] >> (shifts + 7)) > 0
    written = np.concatenate([np.ones((len(numbers), 1), dtype=bool), more[:, :-1]], axis=1)
    packed: bytes = (groups | (more * 0x80))[written].astype(np.uint8).tobytes()
    return packed
