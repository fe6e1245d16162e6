"""A labelled class is in the mask: where the background level leaves none of it, its best region is kept.

An image whose label says that a class is there and whose mask has no pixel of it is certainly wrong. So such a
class keeps the region in which it is strongest, at a level of its own: half of its peak. That region is marked
(``kept_ids`` of the mask), counts as doubtful, and teaches no segmenter until a person has accepted the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from recamlabel.core.arrays import nearest
from recamlabel.storage.hdf5 import open_store

KEPT_IDS = "kept_ids"
# The own level as a share of the peak: full width at half maximum.
OWN_LEVEL = 0.5


def best_region(planes: NDArray[np.float32], slot: int) -> NDArray[np.bool_] | None:
    """The connected region around the peak of one plane, where it is above half of that peak.

    The peak is looked for where the plane is the strongest; where it never is, at its largest share
    ``planes[slot] / sum(planes)``, of which half is the level then.

    Args:
        planes: ``(C, h, w) float32`` >= 0, such as refined scores or class maps.
        slot: Which of the C.

    Returns:
        ``(h, w)``, at least one pixel; None where the plane is 0 everywhere.

    Example:
        >>> planes = np.array([[[0.1, 0.4, 0.3, 0.1, 0.3]], [[0.0, 0.0, 0.0, 0.9, 0.0]]], dtype=np.float32)
        >>> best_region(planes, 0).tolist(), best_region(planes[:1] * 0, 0)
        ([[False, True, True, False, False]], None)
    """
    plane = planes[slot]
    if not (plane > 0).any():
        return None
    strongest = (plane > 0) & (plane >= planes.max(axis=0))
    field = np.where(strongest, plane, 0) if strongest.any() else plane / (planes.sum(axis=0) + 1e-6)
    peak = int(field.argmax())
    parts = np.asarray(label(field >= OWN_LEVEL * field.flat[peak])[0])
    region: NDArray[np.bool_] = parts == parts.flat[peak]
    return region


def keep_labelled(
    mask: NDArray[np.generic], class_ids: Sequence[int], sources: Sequence[NDArray[np.float32]]
) -> tuple[int, ...]:
    """Give every class of an image's label that has no pixel in its mask its best region, in place.

    Args:
        mask: ``(H, W)`` class ids; changed in place.
        class_ids: The C ids of the image's labels.
        sources: Planes ``(C, h, w)`` of any size, the most trusted first; the first that knows the class counts.

    Returns:
        Ids of the classes that were given a region. A class that no source knows, and one whose region would
        be all that is left of another class, stay missing.

    Example:
        >>> mask = np.zeros((1, 4), dtype=np.uint8)
        >>> keep_labelled(mask, [3], [np.array([[[0.0, 0.2]]], dtype=np.float32)]), mask.tolist()
        ((3,), [[0, 0, 3, 3]])
    """
    kept = []
    for slot, class_id in enumerate(class_ids):
        if (mask == class_id).any():
            continue
        regions = (best_region(planes, slot) for planes in sources if len(planes))
        region = next((found for found in regions if found is not None), None)
        if region is None:
            continue
        wanted = _enlarged(region, mask.shape[0], mask.shape[1])
        for other in class_ids:
            at = mask == other
            if at.any() and not (at & ~wanted).any():
                wanted &= ~at
        mask[wanted] = class_id
        kept += [class_id] if wanted.any() else []
    return tuple(kept)


def _enlarged(region: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """The region at another size; one pixel of it, where all would be lost between the centres."""
    enlarged = nearest(region.astype(np.int64), height, width) > 0
    if not enlarged.any():
        row, column = np.argwhere(region)[0]
        enlarged[row * height // region.shape[0], column * width // region.shape[1]] = True
    return enlarged


@dataclass(frozen=True)
class TaughtMasks:
    """Masks by image id as a segmenter is taught them: regions that were kept at a level of their own are ignored.

    Opened anew each time, so that any worker process may.

    Args:
        path: ``masks.h5``.
        ignore_id: Mask value that teaches nothing.
    """

    path: Path
    ignore_id: int

    def __call__(self, image_id: str) -> np.ndarray:
        """The image's mask ``(H, W)``."""
        with open_store(self.path) as file:
            stored = file[image_id]
            mask: np.ndarray = stored[()]
            kept = stored.attrs.get(KEPT_IDS, ())
            return np.where(np.isin(mask, kept), mask.dtype.type(self.ignore_id), mask) if len(kept) else mask
