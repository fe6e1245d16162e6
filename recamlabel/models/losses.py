"""Classification loss for labels with three states: present, absent, unknown."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recamlabel.errors import RecamlabelError

UNKNOWN_LABEL = -1


def masked_multilabel_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Multi-label soft-margin loss over the known labels only (docs/method.md, 1; ReCAM, equation 2).

    With every label known it equals ``torch.nn.functional.multilabel_soft_margin_loss``: the mean of
    the per-class binary cross-entropies over classes and batch. Unknown entries are in neither the
    sum nor the count, so an image with many unknown labels weighs less, not wrongly.

    Args:
        logits: ``(B, K)``, floating point.
        labels: ``(B, K)``, any dtype: 1 present, 0 absent (values between count as soft targets),
            below 0 unknown.

    Returns:
        Scalar >= 0; exactly 0, with a zero gradient, when no label is known.

    Raises:
        RecamlabelError: The shapes differ.

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
    entries = F.binary_cross_entropy_with_logits(picked, labels.clamp(min=0).to(logits.dtype), reduction="none")
    return (entries * known).sum() / known.sum().clamp(min=1)
