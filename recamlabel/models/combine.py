"""How the classifier FC1 and the softmax head FC2 make the weight of the ReCAM maps.

Source: Chen et al., "Class Re-Activation Maps for Weakly-Supervised Semantic Segmentation",
CVPR 2022 (arXiv 2203.00962), equation 6 and table 3; ``contrast`` is this project's own
(benchmarks/recam_ablation.md).
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from recamlabel.core.registry import Registry
from recamlabel.errors import RecamlabelError

CONTRAST = 1.5


def contrast(fc1: Tensor, fc2: Tensor, weight: float = CONTRAST) -> Tensor:
    """``unit(FC1_k * relu(FC2_k)) + weight * unit(FC2_k - FC2_background)``.

    The first part is the published product without its flaw (two negative weights make a positive
    one). It says where the class is, but it is hardly ever negative, so the background keeps half of
    the peak. The second part is negative where the background is likelier than the class.

    Args:
        fc1: ``(K, D)``.
        fc2: ``(K, D)``, then the background counts as 0, or ``(K + 1, D)``, its row last.
        weight: Of the second part.

    Returns:
        ``(K, D)``.
    """
    class_rows = fc2[: len(fc1)]
    rival = fc2[len(fc1) :]
    margin = class_rows - rival if len(rival) else class_rows
    return F.normalize(fc1 * class_rows.relu(), dim=1) + weight * F.normalize(margin, dim=1)


COMBINE_RULES: Registry[Callable[[Tensor, Tensor], Tensor]] = Registry(
    "recam.combine",
    "rule",
    {
        "contrast": contrast,
        "product": lambda fc1, fc2: fc1 * fc2[: len(fc1)],
        "fc1": lambda fc1, fc2: fc1.clone(),
        "fc2": lambda fc1, fc2: fc2[: len(fc1)].clone(),
        "sum": lambda fc1, fc2: fc1 + fc2[: len(fc1)],
        # Rows of FC1 and FC2 differ in length by the training's whim; unit rows weigh both alike.
        "unit_sum": lambda fc1, fc2: F.normalize(fc1, dim=1) + F.normalize(fc2[: len(fc1)], dim=1),
        # Two negative weights multiply to a positive one: evidence against the class twice becomes evidence for it.
        "relu_product": lambda fc1, fc2: fc1.relu() * fc2[: len(fc1)].relu(),
    },
)


def check_combine(rule: str) -> None:
    """Refuse a combination rule that does not exist. Raises ConfigError with the list of rules."""
    COMBINE_RULES.find(rule)


def combine_weights(fc1: Tensor, fc2: Tensor, rule: str = "product") -> Tensor:
    """The weight whose class maps are the ReCAM maps (ReCAM, equation 6 and table 3).

    Args:
        fc1: ``(K, D)`` classifier weight.
        fc2: ``(K, D)`` softmax head's weight, or ``(K + 1, D)`` with the background's row last.
        rule: ``"product"`` (published), ``"contrast"``, ``"fc1"``, ``"fc2"``, ``"sum"``, ``"unit_sum"``
            (rows scaled to unit L2 length first; an all-zero row stays zero) or ``"relu_product"``.
            Only ``contrast`` uses the background's row.

    Returns:
        A new ``(K, D)`` tensor.

    Raises:
        ConfigError: A rule that does not exist (the message lists them).
        RecamlabelError: The shapes do not go together.

    Example:
        >>> import torch
        >>> combine_weights(torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, -1.0]]), "relu_product").tolist()
        [[3.0, 0.0]]
    """
    check_combine(rule)
    rows = fc2.shape[0] - fc1.shape[0]
    if fc1.ndim != 2 or fc2.ndim != 2 or fc1.shape[1] != fc2.shape[1] or rows not in {0, 1}:
        raise RecamlabelError(
            f"expected FC1 (K, D) and FC2 of the same shape or with one row more, "
            f"got {tuple(fc1.shape)} and {tuple(fc2.shape)}"
        )
    return COMBINE_RULES[rule](fc1, fc2)
