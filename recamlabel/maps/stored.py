"""Stored maps as the masks of training crops."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recamlabel.storage.hdf5 import class_ids, open_store


@dataclass(frozen=True)
class MapStore:
    """Reads ``cam/<image id>`` of a map file; opened anew each time, so that any worker process may.

    Args:
        path: The file.
        classes: K.
    """

    path: Path
    classes: int

    def __call__(self, image_id: str) -> np.ndarray:
        """``(K, h, w) float16``, zero for classes that the image does not have."""
        with open_store(self.path) as file:
            item = file[f"cam/{image_id}"]
            maps: np.ndarray = np.zeros((self.classes, *item.shape[1:]), dtype=np.float16)
            if item.shape[0]:
                maps[[class_id - 1 for class_id in class_ids(item)]] = item[()]
            return maps
