"""The classifier's head before the first step: logistic regressions on the pretrained network's pooled features.

A head of random weights sends random gradients through the network for as long as it takes to learn what a linear
model on fixed features knows at once; on some data the network is dead by then. Fitting the head first and the
whole network after it is the linear-probe-then-fine-tune of Kumar et al., "Fine-Tuning can Distort Pretrained
Features and Underperform Out-of-Distribution", ICLR 2022, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recamlabel.gate.crossval import Features, bounded_rows, canonical_order, scaler_of

MAX_ITERATIONS = 300
# Relative to the largest deviation: features that hardly vary are not blown up.
LEAST_DEVIATION = 1e-3


def logistic_head(
    features: Features, labels: NDArray[np.int8], ids: Sequence[str], strength: float
) -> NDArray[np.float32]:
    """Weights of a linear head without bias, one logistic regression a class.

    The features are divided by their standard deviation but not centred, as the head that they are for has no
    bias: on features >= 0 their common level stands in for it.

    Args:
        features: ``(N, D)`` pooled features of the training images.
        labels: ``(N, K)`` in {1 present, 0 absent, -1 unknown}.
        ids: N image ids; the result does not depend on the order of the images.
        strength: Inverse regularisation C, on the scaled features.

    Returns:
        ``(K, D) float32``; zeros for a class that is present, or absent, in every image where it is known.

    Example:
        >>> features = np.array([[2.0, 1.0], [2.0, 0.0], [0.0, 2.0], [1.0, 2.0]])
        >>> labels = np.array([[1, 1], [1, 1], [0, 1], [0, 1]], dtype=np.int8)
        >>> head = logistic_head(features, labels, list("abcd"), strength=10.0)
        >>> ((features @ head[0]) > 0).tolist(), head[1].tolist()
        ([True, True, False, False], [0.0, 0.0])
    """
    # scikit-learn takes a second to import, which a verb that trains nothing should not pay.
    from sklearn.linear_model import LogisticRegression

    order = canonical_order(ids)
    deviation = _deviation(features, order)
    head = np.zeros((labels.shape[1], features.shape[1]))
    for class_index, column in enumerate(labels[order].T):
        labelled = np.flatnonzero(column >= 0)
        if len(np.unique(column[labelled])) < 2:
            continue
        chosen, weights = bounded_rows(column[labelled])
        model = LogisticRegression(C=strength, max_iter=MAX_ITERATIONS, fit_intercept=False)
        rows = labelled[chosen]
        scaled = np.asarray(features[order[rows]], dtype=np.float64) / deviation
        model.fit(scaled, column[rows], sample_weight=weights)
        head[class_index] = model.coef_[0] / deviation
    return head.astype(np.float32)


def _deviation(features: Features, order: NDArray[np.intp]) -> NDArray[np.float64]:
    """Standard deviations ``(D,)`` of all rows, none much below the largest."""
    deviation: NDArray[np.float64] = np.sqrt(scaler_of(features, order).var_)
    return np.maximum(deviation, LEAST_DEVIATION * max(float(deviation.max(initial=0)), 1e-12))
