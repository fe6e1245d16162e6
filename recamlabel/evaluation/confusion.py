"""One streaming confusion matrix and the scores of the field that follow from it.

Pixels whose TRUTH is "ignore" take no part at all. Pixels whose PREDICTION is "ignore" (an
uncertain band, for example) are pixels the method did not answer: for the headline scores
they count as missed, so that leaving out the hard pixels cannot raise them. ``coverage``
says how many pixels were answered, and the ``*_covered`` scores are over those alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Fractions = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Scores as fractions 0..1; NaN where nothing was there to measure.

    Args:
        iou: ``(K+1,)`` hits / union; NaN for a class that is neither in the truth nor predicted.
        precision: ``(K+1,)`` hits / predicted pixels; NaN for a class that is never predicted.
        recall: ``(K+1,)`` hits / true pixels; NaN for a class that is not in the truth.
        miou: Mean of ``iou`` over the classes with a non-empty union, background included.
        pixel_accuracy: Hits / pixels with a true label.
        coverage: Pixels with a true label and a prediction / pixels with a true label.
        miou_covered, pixel_accuracy_covered: The same over the predicted pixels alone.
        iou_covered: ``(K+1,)`` as ``iou``, over the predicted pixels alone.
    """

    iou: Fractions
    precision: Fractions
    recall: Fractions
    miou: float
    pixel_accuracy: float
    coverage: float
    miou_covered: float
    pixel_accuracy_covered: float
    iou_covered: Fractions


@dataclass(frozen=True)
class ClassCounts:
    """What all scores are made of: four pixel counts a class, each ``(K+1,) int64``.

    Args:
        hits: Pixels of the class that are predicted as the class.
        predicted: Pixels predicted as the class (where the truth is not "ignore").
        truth: Pixels of the class.
        unanswered: Pixels of the class whose prediction is "ignore".
    """

    hits: Counts
    predicted: Counts
    truth: Counts
    unanswered: Counts

    def scores(self) -> Scores:
        """All scores of these counts.

        Example:
            >>> counts = ClassCounts(*np.array([[2, 1], [2, 2], [3, 1], [0, 0]]))
            >>> round(counts.scores().miou, 4)
            0.5833
        """
        answered = self.truth - self.unanswered
        iou = _ratio(self.hits, self.truth + self.predicted - self.hits)
        covered = _ratio(self.hits, answered + self.predicted - self.hits)
        total, hits = self.truth.sum(), self.hits.sum()
        return Scores(
            iou=iou,
            precision=_ratio(self.hits, self.predicted),
            recall=_ratio(self.hits, self.truth),
            miou=_mean(iou),
            pixel_accuracy=float(_ratio(hits, total)),
            coverage=float(_ratio(answered.sum(), total)),
            miou_covered=_mean(covered),
            pixel_accuracy_covered=float(_ratio(hits, answered.sum())),
            iou_covered=covered,
        )


class ConfusionMatrix:
    """Counts true against predicted pixels, image by image.

    ``matrix[t, p]`` is the number of pixels of class ``t`` predicted as ``p``; the last
    column is the prediction "ignore". Memory is ``8 * n * (n + 1)`` bytes.

    Args:
        n_classes: Number of classes with the background: ids are ``0..n_classes - 1``.
        ignore_id: The mask value of pixels without a label (outside ``0..n_classes - 1``).

    Example:
        >>> confusion = ConfusionMatrix(n_classes=2, ignore_id=255)
        >>> alone = confusion.update(np.array([[0, 1, 1, 255]]), np.array([[0, 1, 255, 1]]))
        >>> confusion.matrix.tolist()
        [[1, 0, 0], [0, 1, 1]]
        >>> confusion.scores().iou.tolist()
        [1.0, 0.5]
    """

    def __init__(self, n_classes: int, ignore_id: int) -> None:
        if n_classes < 1:
            raise ValueError(f"expected at least one class (the background), got n_classes={n_classes}")
        if 0 <= ignore_id < n_classes:
            raise ValueError(f"ignore_id {ignore_id} is also a class id: expected one outside 0..{n_classes - 1}")
        self.n_classes, self.ignore_id = n_classes, ignore_id
        self.matrix: Counts = np.zeros((n_classes, n_classes + 1), dtype=np.int64)

    def update(self, truth: NDArray[Any], prediction: NDArray[Any]) -> ClassCounts:
        """Add one image.

        Args:
            truth: Integer array of any shape; class ids or ``ignore_id``.
            prediction: Integer array of the same shape; class ids or ``ignore_id``.

        Returns:
            The pixel counts of this image alone.

        Raises:
            ValueError: Different shapes, or a value that is neither a class id nor ``ignore_id``.
        """
        if truth.shape != prediction.shape:
            raise ValueError(f"expected truth and prediction of one shape, got {truth.shape} and {prediction.shape}")
        valid = truth != self.ignore_id
        rows = self._checked("truth", truth[valid].astype(np.int64))
        columns = prediction[valid].astype(np.int64)
        ignored = columns == self.ignore_id
        self._checked("prediction", columns[~ignored])
        columns[ignored] = self.n_classes
        width = self.n_classes + 1
        added = np.bincount(rows * width + columns, minlength=self.matrix.size).reshape(self.matrix.shape)
        self.matrix += added
        return _counts(added)

    def _checked(self, name: str, values: Counts) -> Counts:
        if values.size and (values.min() < 0 or values.max() >= self.n_classes):
            strange = np.unique(values[(values < 0) | (values >= self.n_classes)]).tolist()
            raise ValueError(
                f"{name} holds {strange[:10]}; expected class ids 0..{self.n_classes - 1} or {self.ignore_id} (ignore)"
            )
        return values

    def counts(self) -> ClassCounts:
        """The pixel counts a class."""
        return _counts(self.matrix)

    def scores(self) -> Scores:
        """All scores of what was counted so far."""
        return self.counts().scores()


def _counts(matrix: Counts) -> ClassCounts:
    square = matrix[:, :-1]
    return ClassCounts(
        hits=np.diagonal(square).copy(),
        predicted=square.sum(axis=0),
        truth=matrix.sum(axis=1),
        unanswered=matrix[:, -1].copy(),
    )


def _ratio(numerator: Any, denominator: Any) -> Fractions:
    """Division that gives NaN, without a warning, where there is nothing to divide by."""
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    ratio: Fractions = np.divide(top, bottom, out=np.full(bottom.shape, np.nan), where=bottom > 0)
    return ratio


def _mean(values: Fractions) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else float("nan")
