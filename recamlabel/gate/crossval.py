"""Out-of-fold probabilities of every label from fixed features, one logistic regression per class."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Features(Protocol):
    """``(N, D)`` floats, of which blocks of rows are asked for: an array, or a table on the disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, D)``."""
        ...

    def __getitem__(self, rows: NDArray[np.intp], /) -> NDArray[np.floating]:
        """``(M, D)`` of some rows."""
        ...


Probabilities = NDArray[np.float64]

# More rows make a fold slow and hardly better; the others are still predicted.
MAX_ROWS = 4000
# Rows that are held in double precision at once.
BLOCK = 8192
MAX_ITERATIONS = 300


def out_of_fold(
    features: Features,
    labels: NDArray[np.int8],
    training: NDArray[np.bool_],
    ids: Sequence[str],
    folds: int = 5,
    strength: float = 0.01,
) -> Probabilities:
    """Probability of every known label, from models that have not seen the image.

    Every class has folds of its own, stratified by its labels, over the training images whose
    label is known. Images outside the training splits get the mean of the fold models. The order
    of the images plays no part: folds go by the hash of the image ids.

    Args:
        features: ``(N, D)`` one row an image.
        labels: ``(N, K)`` in {1 present, 0 absent, -1 unknown}.
        training: ``(N,)`` images that models may be fitted to.
        ids: N image ids.
        folds: Wanted number of folds; fewer where a class has fewer images with or without it.
        strength: Inverse regularisation C of the logistic regression, on standardised features.

    Returns:
        ``(N, K) float64`` in [0, 1]; NaN where the label is unknown, and for classes with fewer
        than two training images with it or fewer than two without it.

    Example:
        >>> features = np.array([[-1.0], [-1.0], [1.0], [1.0]])
        >>> labels = np.array([[0], [0], [1], [1]], dtype=np.int8)
        >>> found = out_of_fold(features, labels, np.ones(4, bool), ["a", "b", "c", "d"], strength=1.0)
        >>> (found[:, 0] > 0.5).tolist()
        [False, False, True, True]
    """
    probabilities = np.full(labels.shape, np.nan)
    if not training.any():
        return probabilities
    order = canonical_order(ids)
    scaled = Standardised.of(features, order[training[order]])
    for column in range(labels.shape[1]):
        labelled = order[labels[order, column] >= 0]
        probabilities[labelled, column] = _one_class(
            scaled.only(labelled), labels[labelled, column], training[labelled], folds, strength
        )
    return probabilities


def canonical_order(ids: Sequence[str]) -> NDArray[np.intp]:
    """Positions of the ids in an order that depends on the set of ids alone and looks random.

    Example:
        >>> ids = ["a", "b", "c"]
        >>> [ids[i] for i in canonical_order(ids)] == [ids[::-1][i] for i in canonical_order(ids[::-1])]
        True
    """
    digests = [hashlib.sha256(name.encode()).digest() for name in ids]
    return np.array(sorted(range(len(ids)), key=digests.__getitem__), dtype=np.intp)


def average_precision(labels: NDArray[np.int8], probabilities: Probabilities) -> float | None:
    """Average precision of one class over its predicted rows; None where it is not defined.

    Args:
        labels: ``(N,)`` in {1, 0, -1}.
        probabilities: ``(N,)``, NaN where nothing was predicted.
    """
    from sklearn.metrics import average_precision_score

    there = ~np.isnan(probabilities)
    if not (labels[there] == 1).any():
        return None
    return float(average_precision_score(labels[there], probabilities[there]))


def scaler_of(features: Features, rows: NDArray[np.intp]) -> Any:
    """scikit-learn's ``StandardScaler`` of some rows, which it is shown a block at a time."""
    # It takes a second to import, which a verb that needs no gate should not pay.
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    for start in range(0, len(rows), BLOCK):
        scaler.partial_fit(np.asarray(features[rows[start : start + BLOCK]], dtype=np.float64))
    return scaler


@dataclass(frozen=True)
class Standardised:
    """Features by mean and deviation of some of their rows, made when asked for: no copy of all is held.

    Attributes:
        features: ``(N, D)`` as they are.
        mean, scale: ``(D,) float64``.
        rows: Positions of the rows that count, in order.
    """

    features: Features
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    rows: NDArray[np.intp]

    @classmethod
    def of(cls, features: Features, rows: NDArray[np.intp]) -> Standardised:
        """By some rows, in canonical order, as a sum of floats depends on it; uses no label, so it leaks none."""
        scaler = scaler_of(features, rows)
        return cls(features, scaler.mean_, scaler.scale_, np.arange(features.shape[0]))

    def only(self, rows: NDArray[np.intp]) -> Standardised:
        """The same of some rows."""
        return replace(self, rows=self.rows[rows])

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """``(M, D) float64`` of some of the rows."""
        return (np.asarray(self.features[self.rows[rows]], dtype=np.float64) - self.mean) / self.scale


def _one_class(
    features: Standardised, labels: NDArray[np.int8], training: NDArray[np.bool_], folds: int, strength: float
) -> Probabilities:
    """Probabilities of one class for its known rows ``(M, D)``, already in canonical order."""
    from sklearn.model_selection import StratifiedKFold

    probabilities = np.full(len(labels), np.nan)
    inside, outside = np.flatnonzero(training), np.flatnonzero(~training)
    targets = labels[inside]
    splits = min(folds, int((targets == 1).sum()), int((targets == 0).sum()))
    if splits < 2:
        return probabilities
    sums = np.zeros(len(outside))
    for fit, held_out in StratifiedKFold(splits).split(inside, targets):
        rest = np.concatenate([inside[held_out], outside])
        predicted = _fit_predict(features, labels, inside[fit], rest, strength)
        probabilities[inside[held_out]] = predicted[: len(held_out)]
        sums += predicted[len(held_out) :]
    probabilities[outside] = sums / splits
    return probabilities


def _fit_predict(
    features: Standardised,
    labels: NDArray[np.int8],
    fit: NDArray[np.intp],
    predict: NDArray[np.intp],
    strength: float,
) -> Probabilities:
    from sklearn.linear_model import LogisticRegression

    chosen, weights = bounded_rows(labels[fit])
    rows = fit[chosen]
    model = LogisticRegression(C=strength, max_iter=MAX_ITERATIONS)
    model.fit(features[rows], labels[rows], sample_weight=weights)
    parts = (predict[start : start + BLOCK] for start in range(0, len(predict), BLOCK))
    return np.concatenate([model.predict_proba(features[part])[:, 1] for part in parts] or [np.zeros(0)])


def bounded_rows(labels: NDArray[np.int8], limit: int = MAX_ROWS) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """At most ``limit`` rows, half of each kind where there are enough, and weights that keep the shares.

    The rows are in canonical order, so the first ones are as good as random.
    """
    kinds = [np.flatnonzero(labels == value) for value in (0, 1)]
    smaller = min(len(rows) for rows in kinds)
    bound = limit // 2 if smaller >= limit // 2 else limit - smaller
    chosen = [rows[:bound] for rows in kinds]
    weights = [np.full(len(some), len(rows) / len(some)) for some, rows in zip(chosen, kinds, strict=True)]
    return np.concatenate(chosen), np.concatenate(weights)
