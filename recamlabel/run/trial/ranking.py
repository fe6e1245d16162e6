"""Which of several ways is the better one, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recamlabel.masks.calibrate import RESAMPLES, LevelEvidence

Drawings = NDArray[np.float64]
LOW, HIGH = 0.025, 0.975


@dataclass(frozen=True)
class Ranked:
    """A candidate's place.

    Attributes:
        name: Of the candidate.
        value: What it is ranked by; larger is better.
        interval: The middle 95 % of the drawings of that.
        behind: The middle 95 % of how far it is behind the first, drawing by drawing.
        tied: Whether it may be as good as the first.
    """

    name: str
    value: float
    interval: tuple[float, float]
    behind: tuple[float, float]
    tied: bool


def ranked(values: Mapping[str, float], drawings: Mapping[str, Drawings]) -> list[Ranked]:
    """Candidates, the best first, with what the drawings say of the differences.

    Args:
        values: By name, larger is better.
        drawings: By name ``(R,)`` values of data sets drawn anew, the same for all; NaN where one says nothing.

    Example:
        >>> drawn = {"a": np.array([0.5, 0.7]), "b": np.array([0.4, 0.5])}
        >>> [(one.name, one.tied) for one in ranked({"b": 0.45, "a": 0.6}, drawn)]
        [('a', True), ('b', False)]
    """
    order = sorted(values, key=lambda name: (-values[name], name))
    best = drawings[order[0]]
    found = []
    for name in order:
        behind = _middle(best - drawings[name])
        found.append(Ranked(name, values[name], _middle(drawings[name]), behind, name == order[0] or behind[0] <= 0))
    return found


def _middle(values: Drawings) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not known.size:
        return -np.inf, np.inf
    low, high = np.quantile(known, [LOW, HIGH])
    return float(low), float(high)


def criterion(evidence: LevelEvidence, seed: int) -> tuple[float, Drawings]:
    """The criterion of the level at its best level, and that of labels drawn anew (docs/method.md, 6).

    The same seed draws the same labels of every candidate, which are asked about the same images.

    Returns:
        The value, and ``(R,)``.
    """
    rng = np.random.default_rng(seed)
    drawn = [evidence.drawn(rng) for _ in range(RESAMPLES)] if len(evidence.whole) else []
    values = [float(one.criterion().max()) if one.telling.any() else np.nan for one in drawn]
    return float(evidence.criterion().max()), np.array(values, dtype=np.float64)
