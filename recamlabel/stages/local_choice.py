"""Which size, depth and pooling the local maps are made with, and whether they take part: by what heads recognise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from recamlabel.maps.local import CrossFittedHeads, Precision, Projection

# Depths, most local first: the last features that have the stride of the output and are not yet mixed for ImageNet's
# classes, and the last ones.
DEPTHS = ("middle", "last")
# Between two sizes; finer steps differ by less than the error of an average precision.
STEP, SMALLEST, LARGEST_ENLARGEMENT, ENLARGED_TO = 1.6, 320, 2.0, 512
# Of larger images a smaller copy is looked at: memory is bounded by it.
LARGEST_SIDE = 4096
# So many larger sizes in a row that recognise less end the search.
PATIENCE = 2
TOO_FEW = "too few images with and without a class to choose a size by"


@dataclass(frozen=True)
class Admission:
    """Whether the local maps take part, and why.

    Attributes:
        admitted: Whether.
        line: Why, with its figures.
        whole_share: How much of what the local heads recognise above guessing the whole image tells, in [0, 1].
    """

    admitted: bool
    line: str
    whole_share: float = 1.0


@dataclass(frozen=True)
class Tried:
    """Heads of one size and depth.

    Attributes:
        side: Long side of the inputs in pixels.
        depth: One of ``DEPTHS``.
        share: Of an image's places that its answer rests on.
        projection: Of this depth's features.
        heads: Fitted to the projected features.
        precisions: By class, on images that the heads have not seen.
        folds: By image id.
    """

    side: int
    depth: str
    share: float
    projection: Projection
    heads: CrossFittedHeads
    precisions: list[Precision]
    folds: Mapping[str, int] = field(repr=False)

    @property
    def mean(self) -> tuple[float, float]:
        """Mean over the classes that have an average precision, and its standard error."""
        rows = [one for one in self.precisions if not math.isnan(one.value)]
        return float(np.mean([one.value for one in rows])), _error_of_mean(rows)


def _error_of_mean(rows: Sequence[Precision]) -> float:
    return float(np.sqrt(sum(one.error**2 for one in rows)) / len(rows))


def _best(tried: Sequence[Tried]) -> Tried:
    return max(tried, key=lambda one: one.mean[0])


def _limit(tried: Sequence[Tried]) -> float:
    """What recognises as much as this is as good as the best: one standard error below it."""
    mean, error = _best(tried).mean
    return mean - error


def searched(tried: Sequence[Tried]) -> bool:
    """Whether the last sizes recognise less than the best one, by more than its standard error: larger cost more."""
    best, limit = _best(tried), _limit(tried)
    sizes = sorted({one.side for one in tried})
    found = [max(one.mean[0] for one in tried if one.side == side) for side in sizes if side > best.side]
    return len(found) >= PATIENCE and all(value < limit for value in found[-PATIENCE:])


def choose_setting(tried: Sequence[Tried]) -> Tried:
    """Among those that recognise as much as the best, within its standard error, the most local one.

    The largest input, as the same grid of features is then a finer one of the image; of that size the largest share of
    the places, as fewer are needed only where they recognise more; and of that the less deep features, as they see
    less of the surroundings.
    """
    limit = _limit(tried)
    equal = [one for one in tried if one.mean[0] >= limit]
    return max(equal, key=lambda one: (one.side, one.share, -DEPTHS.index(one.depth)))


def admission(chosen: Tried, known: Sequence[tuple[float, float]]) -> Admission:
    """Local maps take part where their heads recognise at least what the gate's linear model of the whole image does.

    What is recognised as well by few of the places is in those. The means over the classes are compared as they are:
    where heads with a little less took part, within what a test takes for chance, the masks lost (docs/figures.md).

    Args:
        chosen: Of the local heads.
        known: By class the gate's average precision, out of fold on the training images, and that of guessing; NaN
            where there is none.
    """
    rows = [
        (one, *other)
        for one, other in zip(chosen.precisions, known, strict=True)
        if not math.isnan(one.value) and not math.isnan(other[0])
    ]
    if not rows:
        return Admission(False, f"left out: {TOO_FEW}")
    found = float(np.mean([one.value for one, _, _ in rows]))
    whole, chance = (float(np.mean([row[part] for row in rows])) for part in (1, 2))
    error = _error_of_mean([one for one, _, _ in rows])
    admitted = found >= whole
    share = min(1.0, max(0.0, whole - chance) / max(found - chance, 1e-6))
    return Admission(
        admitted,
        f"{'take part' if admitted else 'left out'}: held-out average precision {found:.2f} ± {error:.2f} by the best "
        f"{chosen.share:.3g} of the places of inputs of {chosen.side} pixels, {whole:.2f} by the mean over the whole "
        "image",
        round(share, 4),
    )


def ladder(longest: int) -> list[int]:
    """Sizes to try for images of a long side: up to their own or 4096, but for small ones up to twice as much or 512.

    Example:
        >>> ladder(200), ladder(320), ladder(2048)
        ([200, 400], [320, 512], [320, 512, 819, 1310, 2048])
    """
    longest = min(longest, LARGEST_SIDE)
    top = max(longest, min(round(longest * LARGEST_ENLARGEMENT), ENLARGED_TO))
    found = [min(longest, SMALLEST)]
    # A last step of up to sqrt(STEP) more, rather than two sizes that are nearly one.
    while found[-1] * STEP * math.sqrt(STEP) < top:
        found.append(round(found[-1] * STEP))
    return [*found, top] if top > found[-1] else found
