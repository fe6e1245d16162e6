"""A table of floats that may be larger than memory: written once row by row, read a block of rows at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

# Smaller tables are held in memory: 13,000 rows of 1,280 floats.
IN_MEMORY = 64 << 20


class RowTable:
    """``(N, D) float32``; in memory where it is small, else in a file that has no name and goes with the table.

    Reading maps the file for as long as one block is copied, so that what was read does not stay in the process.

    Args:
        rows: N rows ``(D,)``.
        count: N.
        folder: Where the file lies; not the system's folder for temporary files, which is often memory.

    Example:
        >>> with RowTable([np.zeros(2), np.ones(2)], 2, Path(".")) as table:
        ...     table.shape, table[np.array([1])].tolist()
        ((2, 2), [[1.0, 1.0]])
    """

    def __init__(
        self, rows: Iterable[NDArray[np.floating]], count: int, folder: Path, *, in_memory: int = IN_MEMORY
    ) -> None:
        self._file: IO[bytes] | None = None
        self._table: NDArray[np.float32] | None = None
        width = 0
        for number, row in enumerate(rows):
            if not number:
                width = len(row)
                if 4 * count * width <= in_memory:
                    self._table = np.empty((count, width), np.float32)
                else:
                    self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
            if self._table is not None:
                self._table[number] = row
            elif self._file is not None:
                self._file.write(np.asarray(row, np.float32).tobytes())
        if self._file is not None:
            self._file.flush()
        self.shape = count, width

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """``(M, D) float32``, a copy of some of the rows."""
        if self._file is not None:
            return np.array(np.memmap(self._file, np.float32, "r", shape=self.shape)[rows])
        return np.empty((0, 0), np.float32) if self._table is None else self._table[rows]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the file's place on the disk back."""
        if self._file is not None:
            self._file.close()
