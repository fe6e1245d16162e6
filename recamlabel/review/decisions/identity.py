"""What a page and the file of decisions made on it were made for: the data, the masks, each mask."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recamlabel.data.catalog import Catalog
from recamlabel.storage.run_folder import RunFolder


@dataclass(frozen=True)
class Identity:
    """The run that decisions belong to.

    Attributes:
        name: Last two parts of its path, for people.
        dataset: Fingerprint of its data set; decisions on other data are never taken.
        masks: Key of the stage ``masks``, or "" where there are no masks yet.
    """

    name: str
    dataset: str
    masks: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def identity_of(run: RunFolder, catalog: Catalog) -> Identity:
    """The identity of a run as it is now."""
    done = run.stage_state("masks") == "finished"
    return Identity(run_name(run), catalog.fingerprint(), run.key_of("masks") if done else "")


def run_name(run: RunFolder) -> str:
    """Last two parts of the run's path.

    Example:
        >>> from pathlib import Path
        >>> run_name(RunFolder(Path("/data/runs/one"), None))
        'runs/one'
    """
    return "/".join(run.path.resolve().parts[-2:]).lstrip("/")


def mask_digest(mask: NDArray[np.generic]) -> str:
    """Hash (16 hex digits) of a mask ``(H, W)``: tells whether it is still the one that somebody looked at.

    Example:
        >>> mask_digest(np.zeros((2, 3), np.uint8)) == mask_digest(np.zeros((3, 2), np.uint8))
        False
    """
    wide = np.ascontiguousarray(mask, dtype="<u2")
    return hashlib.sha256(f"{mask.shape}".encode() + wide.tobytes()).hexdigest()[:16]
