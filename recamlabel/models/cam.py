"""Image-level classifier head and class activation maps (docs/method.md, 1).

Shapes: ``B`` images, ``K`` foreground classes, ``D`` feature channels, ``h x w`` feature pixels.
Every function keeps the device and dtype of its inputs and lets the gradient through.

Source: Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016,
section 2; in the form of Chen et al., "Class Re-Activation Maps for Weakly-Supervised
Semantic Segmentation" (ReCAM), CVPR 2022, section 3.1.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recamlabel.errors import RecamlabelError

PEAK_EPS = 1e-5


def class_logits(features: Tensor, fc1: Tensor) -> Tensor:
    """Class scores: global average pooling, then a linear layer without bias.

    Args:
        features: ``(B, D, h, w)``, floating point, non-negative in the published recipe.
        fc1: ``(K, D)`` classifier weight.

    Returns:
        ``(B, K)`` logits (unbounded).

    Raises:
        RecamlabelError: The shapes do not go together.

    Example:
        >>> class_logits(torch.ones(1, 2, 3, 3), torch.tensor([[1.0, 2.0]])).tolist()
        [[3.0]]
    """
    check_head(features, fc1)
    return F.linear(features.mean(dim=(2, 3)), fc1)


def class_activation(features: Tensor, weight: Tensor, *, keep: Tensor | None = None) -> Tensor:
    """Raw class maps ``relu(weight_k . f)``, not normalised.

    Args:
        features: ``(B, D, h, w)``, floating point.
        weight: ``(K, D)``: FC1 for CAM, a rule of :func:`recamlabel.models.recam.combine_weights` for ReCAM.
        keep: ``(C,)`` int64 class indices in 0..K-1 (a boolean ``(K,)`` works too): only these maps
            are computed. ``None`` computes all.

    Returns:
        ``(B, K or C, h, w)``, >= 0.

    Raises:
        RecamlabelError: The shapes do not go together.

    Example:
        >>> class_activation(torch.ones(1, 2, 1, 1), torch.tensor([[1.0, 2.0], [-1.0, 0.0]])).flatten().tolist()
        [3.0, 0.0]
    """
    check_head(features, weight)
    rows = weight if keep is None else weight[keep.to(weight.device)]
    if rows.shape[0] == 0:
        return features.new_zeros((features.shape[0], 0, *features.shape[2:]))
    return F.conv2d(features, rows[:, :, None, None]).relu()


def normalise_by_max(maps: Tensor, eps: float = PEAK_EPS) -> Tensor:
    """Divide each map by its own maximum over pixels plus ``eps``; the gradient flows through all of it.

    An all-zero map stays zero. Where several pixels share the maximum, one of them gets its gradient,
    as in the published recipe's max pooling.

    Args:
        maps: ``(..., h, w)``, floating point, >= 0.
        eps: Added to the maximum, > 0.

    Returns:
        Same shape, in ``[0, 1)``.

    Raises:
        RecamlabelError: A map holds NaN or infinity (the message says how many do).

    Example:
        >>> normalise_by_max(torch.tensor([[[0.0, 2.0]]])).allclose(torch.tensor([0.0, 1.0]), atol=1e-4)
        True
    """
    if maps.shape[-2] * maps.shape[-1] == 0:
        raise RecamlabelError(f"maps without pixels: shape {tuple(maps.shape)}")
    peak = maps.flatten(-2).max(dim=-1).values[..., None, None]
    # The peak alone tells: max hands on NaN and +inf, and relu has removed -inf. Checking it costs
    # B*K values instead of all pixels, and stops a NaN before it reaches a stored map.
    finite = torch.isfinite(peak)
    if is_checked(maps) and not bool(finite.all()):
        broken = int((~finite).sum())
        raise RecamlabelError(
            f"{broken} of {peak.numel()} class maps hold NaN or infinity: the features or weights are not finite; "
            "try a lower learning rate, or turn off mixed precision"
        )
    return maps / (peak + eps)


class CamHead(nn.Module):
    """The classifier FC1: one ``(K, D)`` weight, no bias, giving logits and class maps.

    Args:
        classes: Number of foreground classes K, >= 1.
        channels: Feature channels D, >= 1.

    Raises:
        RecamlabelError: A number below 1.

    Example:
        >>> head = CamHead(classes=3, channels=8)
        >>> head(torch.ones(2, 8, 4, 4)).shape, head.activation(torch.ones(2, 8, 4, 4)).shape
        (torch.Size([2, 3]), torch.Size([2, 3, 4, 4]))
    """

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        if classes < 1 or channels < 1:
            raise RecamlabelError(f"CamHead needs at least 1 class and 1 channel, got {classes} and {channels}")
        self.weight = nn.Parameter(torch.empty(classes, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's default start of a linear layer (uniform in ``+-1/sqrt(D)``)."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``(B, K)`` of features ``(B, D, h, w)``; see :func:`class_logits`."""
        return class_logits(features, self.weight)

    def activation(self, features: Tensor, *, keep: Tensor | None = None) -> Tensor:
        """Raw class maps ``(B, K or len(keep), h, w)``; see :func:`class_activation`."""
        return class_activation(features, self.weight, keep=keep)

    def extra_repr(self) -> str:
        """Sizes for ``print(module)``."""
        return f"classes={self.weight.shape[0]}, channels={self.weight.shape[1]}"


def is_checked(values: Tensor) -> bool:
    """Whether values are looked at for NaN here: a training on a GPU would wait for it, and its loss tells as well."""
    return not (values.is_cuda and torch.is_grad_enabled())


def check_head(features: Tensor, weight: Tensor) -> None:
    """Refuse features and a weight that do not go together. Raises RecamlabelError with both shapes."""
    if features.ndim != 4 or weight.ndim != 2 or features.shape[1] != weight.shape[1]:
        raise RecamlabelError(
            "expected features (B, D, h, w) and a weight (K, D) with the same D, "
            f"got {tuple(features.shape)} and {tuple(weight.shape)}"
        )
    if features.shape[2] * features.shape[3] == 0:
        raise RecamlabelError(f"features without pixels: shape {tuple(features.shape)}")
