"""A share of the images set aside to validate on, where a data set has no splits of its own."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from recamlabel.adapters.base import LabelledImage
from recamlabel.errors import ConfigError

TRAIN, VAL = "train", "val"


def with_validation(images: Sequence[LabelledImage], share: float) -> list[LabelledImage]:
    """The images in the splits ``train`` and ``val``, the same at every call and on every machine.

    Of the images whose rarest label is the same, every ``1 / share``-th in an order of their ids' hashes is set aside,
    so that rare classes are in both, and no camera's or day's images lie together.

    Args:
        images: In data set order, in no split.
        share: In (0, 1), of the images to validate on; at least one image is.

    Raises:
        ConfigError: A share out of (0, 1), images that are in a split already, or fewer than two images.

    Example:
        >>> from pathlib import Path
        >>> images = [LabelledImage(str(n), Path(str(n)), frozenset("ab"[n % 2]), frozenset()) for n in range(8)]
        >>> [image.id for image in with_validation(images, 0.25) if image.split == "val"]
        ['5', '6']
    """
    if not 0 < share < 1:
        raise ConfigError(f"--val: expected a share above 0 and below 1, such as 0.2, got {share:g}")
    splits = sorted({image.split for image in images if image.split})
    if splits:
        raise ConfigError(
            f"--val: the data set has splits of its own ({', '.join(splits)}), which are exported as they are"
        )
    if len(images) < 2:
        raise ConfigError(f"--val: {len(images)} image, of which none can be set aside")
    counts = Counter(name for image in images for name in image.present)
    groups: dict[str, list[LabelledImage]] = {}
    for image in images:
        rarest = min(image.present, key=lambda name: (counts[name], name), default="")
        groups.setdefault(rarest, []).append(image)
    chosen: set[str] = set()
    due = 0.0
    for rarest in sorted(groups, key=lambda name: (counts[name], name)):
        for image in sorted(groups[rarest], key=lambda one: _hash(one.id)):
            due += share
            if due >= 1 - 1e-9:
                chosen.add(image.id)
                due -= 1
    if not chosen:
        chosen = {min((image.id for image in images), key=_hash)}
    return [replace(image, split=VAL if image.id in chosen else TRAIN) for image in images]


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
