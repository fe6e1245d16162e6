"""A labelled class is in the mask: where the background level leaves none of it, its best region is kept.

An image whose label says that a class is there and whose mask has no pixel of it is certainly wrong. So such a
class keeps the region in which it is strongest, at a level of its own: half of its peak, or as much more as it takes
to be no larger than the smaller ones of its class are elsewhere. What is not sure enough for the level is seldom large,
and a soft map at half of its peak often is. That region is marked
(``kept_ids`` of the mask), counts as doubtful, and teaches no segmenter until a person has accepted the mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from recamlabel.core.arrays import nearest
from recamlabel.storage.hdf5 import open_store

KEPT_IDS = "kept_ids"
# The own level as a share of the peak: full width at half maximum.
OWN_LEVEL, LEVELS = 0.5, 16
# Of the sizes of a class's objects, and from how many on they are known.
QUANTILE, ENOUGH = 0.25, 3


def usual_sizes(shares: Mapping[int, Sequence[float]]) -> dict[int, float]:
    """The lower quartile of the shares of the pixels that a class covers in masks which have it.

    Args:
        shares: By class id, one above 0 a mask.

    Returns:
        By class id; classes in fewer than three masks are left out.

    Example:
        >>> usual_sizes({1: [0.1, 0.2, 0.3, 0.4, 0.5], 2: [0.1]})
        {1: 0.2}
    """
    return {one: float(np.quantile(found, QUANTILE)) for one, found in shares.items() if len(found) >= ENOUGH}


def best_region(planes: NDArray[np.float32], slot: int, largest: float = 1.0) -> NDArray[np.bool_] | None:
    """The connected region around the peak of one plane, where it is above half of that peak.

    The peak is looked for where the plane is the strongest; where it never is, at its largest share
    ``planes[slot] / sum(planes)``, of which half is the level then.

    Args:
        planes: ``(C, h, w) float32`` >= 0, such as refined scores or class maps.
        slot: Which of the C.
        largest: Share of the pixels that the region may cover: the level rises to the peak until it covers no more.

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
    for level in np.linspace(OWN_LEVEL, 1.0, LEVELS + 1):
        parts = np.asarray(label(field >= level * field.flat[peak])[0])
        region: NDArray[np.bool_] = parts == parts.flat[peak]
        if region.mean() <= largest:
            break
    return region


def keep_labelled(
    mask: NDArray[np.generic],
    class_ids: Sequence[int],
    sources: Sequence[NDArray[np.float32]],
    sizes: Mapping[int, float] | None = None,
) -> tuple[int, ...]:
    """Give every class of an image's label that has no pixel in its mask its best region, in place.

    Args:
        mask: ``(H, W)`` class ids; changed in place.
        class_ids: The C ids of the image's labels.
        sources: Planes ``(C, h, w)`` of any size, the most trusted first; the first that knows the class counts.
        sizes: By class id the share of the pixels that its region may cover, :func:`usual_sizes`.

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
        largest = (sizes or {}).get(class_id, 1.0)
        regions = (best_region(planes, slot, largest) for planes in sources if len(planes))
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
