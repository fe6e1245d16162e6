"""What all contracts share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 48, 64


class ContractError(AssertionError):
    """A promise that a plug-in of its kind makes and this one does not keep."""


def require(kept: object, promise: str) -> None:
    """Raise :class:`ContractError` where a promise is not kept.

    Example:
        >>> require(1 + 1 == 2, "adds")
    """
    if not kept:
        raise ContractError(promise)


def picture(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """Grey noise with a red square on the left: ``(height, width, 3) uint8``."""
    image = np.random.default_rng(seed).integers(90, 130, (height, width, 3)).astype(np.uint8)
    image[height // 4 : 3 * height // 4, width // 8 : 3 * width // 8] = (200, 30, 30)
    return image


def snapshot(folder: Path) -> dict[Path, int]:
    """Every path below a folder with the time of its last change."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
