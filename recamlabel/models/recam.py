"""Softmax re-activation of class maps (METHOD 2).

Shapes: ``B`` images, ``K`` foreground classes, ``D`` feature channels, ``h x w`` feature pixels,
``M`` the largest number of labels an image of the batch has.

The class feature ``f_k = mean_n A_k[n] f[:, n]`` is one batched matrix product. The (B, K, D, h*w)
array of the written-out formula is never built, and only the labels' classes are ever computed.

Source: Chen et al., "Class Re-Activation Maps for Weakly-Supervised Semantic Segmentation",
CVPR 2022 (arXiv 2203.00962), section 3.2, equations 3 to 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recamlabel.errors import ConfigError, RecamlabelError
from recamlabel.models.cam import PEAK_EPS, check_head, normalise_by_max

Competing = Literal["all", "absent", "present"]
HeadInit = Literal["zero", "random", "copy"]


def reactivated_features(features: Tensor, maps: Tensor) -> Tensor:
    """Class features ``f_k = mean_n A_k[n] f[:, n]`` (ReCAM, equation 3).

    Args:
        features: ``(B, D, h, w)``, floating point.
        maps: ``(B, C, h, w)`` masks ``A``, any number of classes C, same dtype; usually in [0, 1].

    Returns:
        ``(B, C, D)``.

    Raises:
        RecamlabelError: The shapes do not go together.

    Example:
        >>> reactivated_features(torch.ones(1, 2, 1, 4), torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]])).tolist()
        [[[0.5, 0.5]]]
    """
    if (
        features.ndim != 4
        or maps.ndim != 4
        or features.shape[0] != maps.shape[0]
        or features.shape[2:] != maps.shape[2:]
    ):
        raise RecamlabelError(
            "expected features (B, D, h, w) and maps (B, C, h, w) with the same B, h, w, "
            f"got {tuple(features.shape)} and {tuple(maps.shape)}"
        )
    pixels = features.shape[2] * features.shape[3]
    # Features first: their gradient then comes out in their own memory layout, where the other
    # gradients are added to it; transposed, those additions cost more than the products.
    weights = (maps.flatten(2) / pixels).transpose(1, 2)
    return torch.bmm(features.flatten(2), weights).transpose(1, 2)


def label_slots(labels: Tensor) -> tuple[Tensor, Tensor]:
    """The label's classes of each image, padded to the largest number of labels in the batch.

    Args:
        labels: ``(B, K)``: above 0 present; 0 absent and below 0 unknown are both "not present".

    Returns:
        ``classes (B, M)`` int64 class indices, ascending within an image, and ``valid (B, M)`` bool:
        False marks padding. M may be 0.

    Example:
        >>> label_slots(torch.tensor([[0, 1, 1], [0, 0, -1]]))[1].tolist()
        [[True, True], [False, False]]
    """
    present = labels > 0
    width = int(present.sum(dim=1).max()) if labels.shape[0] else 0
    order = torch.argsort(present.to(torch.uint8), dim=1, descending=True, stable=True)[:, :width]
    return order, present.gather(1, order)


def label_masks(features: Tensor, fc1: Tensor, classes: Tensor, eps: float = PEAK_EPS) -> Tensor:
    """Max-normalised class maps of chosen classes per image: the published mask ``A_k``.

    Args:
        features: ``(B, D, h, w)``.
        fc1: ``(K, D)`` classifier weight.
        classes: ``(B, M)`` int64 class indices, as :func:`label_slots` gives them.
        eps: Added to each map's maximum.

    Returns:
        ``(B, M, h, w)`` in [0, 1); the gradient flows through map and maximum.

    Raises:
        RecamlabelError: Shapes that do not go together, or features that are not finite.
    """
    check_head(features, fc1)
    raw = torch.bmm(fc1[classes], features.flatten(2)).relu()
    return normalise_by_max(raw.view(*classes.shape, *features.shape[2:]), eps)


def softmax_reactivation_loss(
    features: Tensor,
    fc1: Tensor,
    fc2: Tensor,
    labels: Tensor,
    *,
    maps: Tensor | None = None,
    label_smoothing: float = 0.0,
    competing: Competing = "all",
    eps: float = PEAK_EPS,
) -> tuple[Tensor, Tensor]:
    """Softmax cross-entropy of the re-activated class features (ReCAM, equations 3 and 4).

    For each label k of an image ``z_k = FC2 f_k`` is classified as k. The loss is the mean over an
    image's labels, summed over images, divided by the batch size: an image without labels adds
    nothing but counts.

    Args:
        features: ``(B, D, h, w)``, floating point.
        fc1: ``(K, D)`` classifier weight; makes the masks where ``maps`` is not given.
        fc2: ``(K, D)`` softmax head's weight.
        labels: ``(B, K)``: above 0 present; 0 absent, below 0 unknown (taken as not present).
        maps: ``(B, K, H, W)`` masks in [0, 1] from any CAM variant, used as they are, resized
            bilinearly where (H, W) differs from (h, w). ``None``: max-normalised CAM of ``fc1``.
        label_smoothing: In [0, 1); the share spread evenly over the competing classes.
        competing: Classes in the softmax beside k: ``"all"`` (published), ``"absent"`` (not the
            image's other labels) or ``"present"`` (only the image's labels).
        eps: Added to each mask's maximum.

    Returns:
        ``loss`` (scalar >= 0 with gradient) and ``accuracy`` (scalar in [0, 1] without: the share of
        (image, label) pairs whose highest score is the label; 0 where the batch has no label).

    Raises:
        RecamlabelError: Shapes that do not go together, or maps that are not finite.
        ConfigError: ``label_smoothing`` or ``competing`` out of range.

    Example:
        >>> f, w = torch.rand(2, 4, 3, 3), torch.rand(5, 4)
        >>> loss, accuracy = softmax_reactivation_loss(f, w, torch.zeros(5, 4), torch.eye(5)[:2])
        >>> round(loss.item(), 4)  # log 5: a zero head knows nothing
        1.6094
    """
    _check_loss_inputs(features, fc1, fc2, labels, label_smoothing, competing)
    classes, valid = label_slots(labels)
    masks = label_masks(features, fc1, classes, eps) if maps is None else _pick_maps(features, maps, classes)
    scores = F.linear(reactivated_features(features, masks)[valid], fc2)
    targets = classes[valid]
    rivals = None if competing == "all" else _rivals(labels > 0, valid, targets, competing)
    losses = _cross_entropy(scores, targets, rivals, label_smoothing)
    share = (valid / valid.sum(dim=1, keepdim=True).clamp(min=1))[valid]
    loss = (losses * share).sum() / max(1, labels.shape[0])
    hits = scores.detach().argmax(dim=1) == targets
    return loss, hits.sum() / max(1, hits.numel())


class ReCamHead(nn.Module):
    """The softmax head FC2: one ``(K, D)`` weight, no bias.

    Args:
        classes: Number of foreground classes K, >= 1.
        channels: Feature channels D, >= 1.
        init: ``"zero"``, ``"random"`` (PyTorch's default of a linear layer) or ``"copy"`` (of ``fc1``).
        fc1: ``(K, D)`` weight, needed for ``"copy"``.

    Raises:
        ConfigError: Unknown ``init``, or ``"copy"`` without an ``fc1`` of the right shape.

    Example:
        >>> head = ReCamHead(3, 8)
        >>> loss, accuracy = head(torch.rand(2, 8, 4, 4), torch.rand(3, 8), torch.tensor([[1, 0, 1], [0, 1, 0]]))
    """

    def __init__(self, classes: int, channels: int, init: HeadInit = "zero", fc1: Tensor | None = None) -> None:
        super().__init__()
        if init not in get_args(HeadInit):
            raise ConfigError(f"unknown recam.head_init {init!r}; the choices are: {', '.join(get_args(HeadInit))}")
        self.weight = nn.Parameter(torch.zeros(classes, channels))
        if init == "random":
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if init == "copy":
            if fc1 is None or fc1.shape != self.weight.shape:
                found = "none" if fc1 is None else tuple(fc1.shape)
                raise ConfigError(f"head_init 'copy' needs an FC1 weight of shape {(classes, channels)}, got {found}")
            self.weight.data.copy_(fc1.detach())

    def forward(
        self,
        features: Tensor,
        fc1: Tensor,
        labels: Tensor,
        *,
        maps: Tensor | None = None,
        label_smoothing: float = 0.0,
        competing: Competing = "all",
    ) -> tuple[Tensor, Tensor]:
        """``(loss, accuracy)``; see :func:`softmax_reactivation_loss`."""
        return softmax_reactivation_loss(
            features, fc1, self.weight, labels, maps=maps, label_smoothing=label_smoothing, competing=competing
        )

    def extra_repr(self) -> str:
        """Sizes for ``print(module)``."""
        return f"classes={self.weight.shape[0]}, channels={self.weight.shape[1]}"


COMBINE_RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "product": lambda fc1, fc2: fc1 * fc2,
    "fc1": lambda fc1, fc2: fc1.clone(),
    "fc2": lambda fc1, fc2: fc2.clone(),
    "sum": lambda fc1, fc2: fc1 + fc2,
    # Rows of FC1 and FC2 differ in length by the training's whim; unit rows weigh both alike.
    "unit_sum": lambda fc1, fc2: F.normalize(fc1, dim=1) + F.normalize(fc2, dim=1),
    # Two negative weights multiply to a positive one: evidence against the class twice becomes evidence for it.
    "relu_product": lambda fc1, fc2: fc1.relu() * fc2.relu(),
}


def check_combine(rule: str) -> None:
    """Refuse a combination rule that does not exist. Raises ConfigError with the list of rules."""
    if rule not in COMBINE_RULES:
        raise ConfigError(f"unknown recam.combine {rule!r}; the rules are: {', '.join(COMBINE_RULES)}")


def combine_weights(fc1: Tensor, fc2: Tensor, rule: str = "product") -> Tensor:
    """The weight whose class maps are the ReCAM maps (ReCAM, equation 6 and table 3).

    Args:
        fc1: ``(K, D)`` classifier weight.
        fc2: ``(K, D)`` softmax head's weight.
        rule: ``"product"`` (published), ``"fc1"``, ``"fc2"``, ``"sum"``, ``"unit_sum"`` (rows scaled
            to unit L2 length first; an all-zero row stays zero) or ``"relu_product"``.

    Returns:
        A new ``(K, D)`` tensor.

    Raises:
        ConfigError: A rule that does not exist (the message lists them).
        RecamlabelError: The shapes differ.

    Example:
        >>> combine_weights(torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, -1.0]]), "relu_product").tolist()
        [[3.0, 0.0]]
    """
    check_combine(rule)
    if fc1.shape != fc2.shape or fc1.ndim != 2:
        raise RecamlabelError(
            f"expected two weights of one shape (K, D), got {tuple(fc1.shape)} and {tuple(fc2.shape)}"
        )
    return COMBINE_RULES[rule](fc1, fc2)


def _pick_maps(features: Tensor, maps: Tensor, classes: Tensor) -> Tensor:
    """The classes' masks ``(B, M, h, w)`` out of all masks ``(B, K, H, W)``, at the features' size."""
    picked = maps.gather(1, classes[:, :, None, None].expand(-1, -1, *maps.shape[2:])).to(features.dtype)
    if picked.shape[2:] != features.shape[2:] and picked.shape[1] > 0:
        picked = F.interpolate(picked, size=features.shape[2:], mode="bilinear", align_corners=False)
    elif picked.shape[1] == 0:
        picked = features.new_zeros((features.shape[0], 0, *features.shape[2:]))
    if not bool(torch.isfinite(picked).all()):
        raise RecamlabelError("the class maps given as masks hold NaN or infinity")
    return picked


def _rivals(present: Tensor, valid: Tensor, targets: Tensor, competing: Competing) -> Tensor:
    """``(P, K)`` bool: the classes in the softmax of each (image, label) pair, the label always included."""
    rows = present[valid.nonzero()[:, 0]]
    chosen = rows if competing == "present" else ~rows
    return chosen.scatter(1, targets[:, None], True)


def _cross_entropy(scores: Tensor, targets: Tensor, rivals: Tensor | None, smoothing: float) -> Tensor:
    """Cross-entropy ``(P,)`` with the softmax and the smoothing over the rival classes only."""
    if rivals is None:
        return F.cross_entropy(scores, targets, reduction="none", label_smoothing=smoothing)
    log_p = scores.masked_fill(~rivals, -math.inf).log_softmax(dim=1)
    hard = -log_p.gather(1, targets[:, None])[:, 0]
    soft = -log_p.masked_fill(~rivals, 0.0).sum(dim=1) / rivals.sum(dim=1)
    return (1 - smoothing) * hard + smoothing * soft


def _check_loss_inputs(
    features: Tensor, fc1: Tensor, fc2: Tensor, labels: Tensor, smoothing: float, competing: str
) -> None:
    check_head(features, fc2)
    expected = (features.shape[0], fc2.shape[0])
    if labels.shape != expected or fc1.shape != fc2.shape:
        raise RecamlabelError(
            f"expected labels {expected} and FC1 {tuple(fc2.shape)}, got {tuple(labels.shape)} and {tuple(fc1.shape)}"
        )
    if not 0 <= smoothing < 1:
        raise ConfigError(f"label_smoothing must lie in [0, 1), got {smoothing}")
    if competing not in get_args(Competing):
        raise ConfigError(f"unknown competing {competing!r}; the choices are: {', '.join(get_args(Competing))}")
