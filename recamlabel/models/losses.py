"""Classification loss for labels with three states: present, absent, unknown; weights of rare classes."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from recamlabel.core.ranks import batch_total
from recamlabel.errors import RecamlabelError

UNKNOWN_LABEL = -1


def masked_multilabel_loss(logits: Tensor, labels: Tensor, positive_weights: Tensor | None = None) -> Tensor:
    """Multi-label soft-margin loss over the known labels only (docs/method.md, 1; ReCAM, equation 2).

    With every label known it equals ``torch.nn.functional.multilabel_soft_margin_loss``: the mean of
    the per-class binary cross-entropies over classes and batch. Unknown entries are in neither the
    sum nor the count, so an image with many unknown labels weighs less, not wrongly. A weight ``w_k``
    makes the entry of a present class ``w_k`` times as large: ``-w y log s - (1 - y) log(1 - s)``.

    Args:
        logits: ``(B, K)``, floating point.
        labels: ``(B, K)``, any dtype: 1 present, 0 absent (values between count as soft targets),
            below 0 unknown.
        positive_weights: ``(K,)`` > 0, of :func:`rare_class_weights`; None: 1 each.

    Returns:
        Scalar >= 0; exactly 0, with a zero gradient, when no label is known.

    Raises:
        RecamlabelError: The shapes of logits and labels differ.

    Example:
        >>> masked_multilabel_loss(torch.zeros(1, 3), torch.tensor([[1, 0, -1]])).item()  # log 2
        0.6931471824645996
    """
    if logits.shape != labels.shape or logits.ndim != 2:
        raise RecamlabelError(
            f"expected logits and labels of one shape (B, K), got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    known = labels >= 0
    # Selecting before the loss keeps whatever stands at unknown entries (inf, NaN) out of the gradient.
    picked = torch.where(known, logits, torch.zeros_like(logits))
    entries = F.binary_cross_entropy_with_logits(
        picked,
        labels.clamp(min=0).to(logits.dtype),
        reduction="none",
        pos_weight=None if positive_weights is None else positive_weights.to(logits, non_blocking=True),
    )
    return (entries * known).sum() / batch_total(known.sum())


def rare_class_weights(labels: NDArray[np.integer], limit: float) -> NDArray[np.float64] | None:
    """Weights of the present labels: ``w_k = min(limit, max(1, absent_k / present_k))``.

    Up to the limit a class's present and absent labels weigh the same in sum (PyTorch's ``pos_weight``, as its
    documentation has it). Classes that are present more often than absent are left at 1.

    Args:
        labels: ``(N, K)`` in {1 present, 0 absent, -1 unknown}.
        limit: Largest weight, at least 1.

    Returns:
        ``(K,) float64`` in 1..limit; 1 for a class that is never present. None where the limit is 1, so that the
        loss is computed as without weights, to the last bit.

    Example:
        >>> labels = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [0, -1, 0]])
        >>> [weight.tolist() for weight in (rare_class_weights(labels, 10), rare_class_weights(labels, 2))]
        [[3.0, 1.0, 1.0], [2.0, 1.0, 1.0]]
    """
    if limit == 1:
        return None
    present, absent = (labels == 1).sum(axis=0), (labels == 0).sum(axis=0)
    weights: NDArray[np.float64] = np.clip(absent / np.maximum(present, 1), 1.0, limit)
    return np.where(present > 0, weights, 1.0)
