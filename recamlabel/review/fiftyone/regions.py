"""Regions of :mod:`recamlabel.review.decisions.regions` as FiftyOne's detections with masks, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recamlabel.review.decisions.regions import Region
from recamlabel.review.fiftyone import fields as fields


class NoMaskError(Exception):
    """A region of ``editable`` without a mask; the message says which."""


def as_detections(fo: Any, regions: Sequence[Region]) -> Any:
    """``fiftyone.Detections``, a detection per region."""
    detections = [
        fo.Detection(label=region.label, bounding_box=list(region.box), mask=region.mask.copy()) for region in regions
    ]
    return fo.Detections(detections=detections)


def as_regions(sample: Any, *, strict: bool = False) -> list[Region]:
    """Regions of a sample's ``editable``.

    Args:
        sample: A sample or a view of one.
        strict: Refuse a detection without a mask; otherwise its region is empty.

    Raises:
        NoMaskError: See ``strict``.
    """
    stored = sample[fields.EDITABLE]
    regions = []
    for detection in [] if stored is None else stored.detections:
        mask = detection.get_mask()
        if mask is None and strict:
            raise NoMaskError(
                f"a region {detection.label!r} of {fields.EDITABLE!r} has a box and no mask; expected a painted one: "
                "paint it or delete it"
            )
        array = np.zeros((0, 0), dtype=bool) if mask is None else np.asarray(mask) > 0
        left, top, width, height = map(float, detection.bounding_box)
        regions.append(Region(detection.label or "", (left, top, width, height), array))
    return regions
