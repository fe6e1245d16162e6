"""Softmax re-activation of class maps (docs/method.md, 2).

Shapes: ``B`` images, ``K`` foreground classes, ``D`` feature channels, ``h x w`` feature pixels.

The class features come from :mod:`recamlabel.models.reactivation`.

Source: Chen et al., "Class Re-Activation Maps for Weakly-Supervised Semantic Segmentation",
CVPR 2022 (arXiv 2203.00962), section 3.2, equations 3 and 4.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from recamlabel.core.ranks import batch_total
from recamlabel.core.registry import check_choice
from recamlabel.errors import ConfigError, RecamlabelError
from recamlabel.models.cam import PEAK_EPS, check_head
from recamlabel.models.reactivation import ClassVectors, class_vectors

Competing = Literal["all", "absent", "present"]
HeadInit = Literal["zero", "random", "copy"]
# A class in two images of a thousand would else have steps as large as the weights.
MOST_WEIGHT = 20.0


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
    width: int | None = None,
    class_weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Softmax cross-entropy of the re-activated class features (ReCAM, equations 3 and 4).

    For each label k of an image ``z_k = FC2 f_k`` is classified as k. The loss is the mean over an
    image's labels, summed over images, divided by the batch size: an image without labels adds
    nothing but counts.

    Where ``fc2`` has one row more than ``fc1``, that row is a background class (not published; it
    gives the head what a class has to differ from): every image whose labels are all known has one
    more label, with the feature of :func:`background_features`.

    Args:
        features: ``(B, D, h, w)``, floating point.
        fc1: ``(K, D)`` classifier weight; makes the masks where ``maps`` is not given.
        fc2: ``(K, D)`` softmax head's weight, or ``(K + 1, D)`` with the background's row last.
        labels: ``(B, K)``: above 0 present; 0 absent, below 0 unknown (taken as not present).
        maps: ``(B, K, H, W)`` masks in [0, 1] from any CAM variant, used as they are, resized
            bilinearly where (H, W) differs from (h, w). ``None``: max-normalised CAM of ``fc1``.
        label_smoothing: In [0, 1); the share spread evenly over the competing classes.
        competing: Classes in the softmax beside k: ``"all"`` (published), ``"absent"`` (not the
            image's other labels) or ``"present"`` (only the image's labels).
        eps: Added to each mask's maximum.
        width: The largest number of labels of an image, where it is known.
        class_weights: ``(K,)`` or ``(K + 1,)``, :func:`balanced_weights`; None: 1 each, as published.

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
    background = fc2.shape[0] > fc1.shape[0]
    vectors = class_vectors(features, fc1, labels, maps=maps, background=background, eps=eps, width=width)
    scores = F.linear(vectors.vectors, fc2)
    losses = vector_losses(scores, vectors, label_smoothing=label_smoothing, competing=competing)
    share = vectors.share if class_weights is None else vectors.share * class_weights[vectors.targets]
    loss = (losses * share).sum() / batch_total(labels.shape[0])
    real = vectors.share > 0
    hits = (scores.detach().argmax(dim=1) == vectors.targets) & real
    return loss, hits.sum() / batch_total(real.sum())


def softmax_labels(labels: NDArray[np.integer], background: bool) -> NDArray[np.bool_]:
    """Which classes the softmax meets in each image: its labels, and the background where all of them are known.

    Args:
        labels: ``(N, K)`` in {1, 0, -1}.
        background: Whether the softmax has a background class.

    Returns:
        ``(N, K)`` or ``(N, K + 1)``.

    Example:
        >>> softmax_labels(np.array([[1, 0], [1, -1]]), True).tolist()
        [[True, False, True], [True, False, False]]
    """
    present = labels > 0
    return np.concatenate([present, (labels >= 0).all(axis=1, keepdims=True)], axis=1) if background else present


def balanced_weights(labels: NDArray[np.integer], background: bool, balance: float) -> NDArray[np.float32]:
    """``w_k = (mean_j m_j / m_k)^a``, at most ``MOST_WEIGHT``: a rare class counts as much as one that all images have.

    ``m_k`` is how often the softmax meets class k: its (image, label) pairs, each with its share of its image as in
    :func:`softmax_reactivation_loss`. Without it FC2 gives the rare class of an image up for the others. Inverse
    frequencies are the usual answer to imbalance: Cui et al., "Class-Balanced Loss Based on Effective Number of
    Samples", CVPR 2019, equation 10, of which this is the limit beta -> 1.

    Args:
        labels: ``(N, K)`` in {1, 0, -1} of the training images.
        background: Whether the softmax has a background class.
        balance: a; 0 gives ones.

    Returns:
        ``(K,)`` or ``(K + 1,) float32``; 1 for a class without images.

    Example:
        >>> balanced_weights(np.array([[1, 0], [1, 0], [1, 0], [0, 1]]), False, 2.0).round(1).tolist()[1]
        4.0
    """
    present = softmax_labels(labels, background)
    met = (present / np.maximum(1, present.sum(axis=1, keepdims=True))).sum(axis=0)
    weights = np.ones(len(met), dtype=np.float32)
    there = met > 0
    if there.any():
        weights[there] = np.minimum(MOST_WEIGHT, (met[there].mean() / met[there]) ** balance)
    return weights


def vector_losses(
    scores: Tensor, vectors: ClassVectors, *, label_smoothing: float = 0.0, competing: Competing = "all"
) -> Tensor:
    """Cross-entropy ``(P,)`` of the head's scores ``(P, K or K + 1)`` of class vectors."""
    rivals = None if competing == "all" else _rivals(vectors, competing)
    return _cross_entropy(scores, vectors.targets, rivals, label_smoothing)


class ReCamHead(nn.Module):
    """The softmax head FC2: one ``(K, D)`` weight, no bias; ``(K + 1, D)`` with a background class.

    Args:
        classes: Number of foreground classes K, >= 1.
        channels: Feature channels D, >= 1.
        init: ``"zero"``, ``"random"`` (PyTorch's default of a linear layer) or ``"copy"`` (of ``fc1``).
        fc1: ``(K, D)`` weight, needed for ``"copy"``.
        background: Add a row for the background (zeros at first, whatever ``init``).

    Raises:
        ConfigError: Unknown ``init``, or ``"copy"`` without an ``fc1`` of the right shape.

    Example:
        >>> head = ReCamHead(3, 8)
        >>> loss, accuracy = head(torch.rand(2, 8, 4, 4), torch.rand(3, 8), torch.tensor([[1, 0, 1], [0, 1, 0]]))
    """

    def __init__(
        self,
        classes: int,
        channels: int,
        init: HeadInit = "zero",
        fc1: Tensor | None = None,
        background: bool = False,
    ) -> None:
        super().__init__()
        check_choice("recam.head_init", init, get_args(HeadInit))
        self.weight = nn.Parameter(torch.zeros(classes + background, channels))
        if init == "random":
            nn.init.kaiming_uniform_(self.weight[:classes], a=math.sqrt(5))
        if init == "copy":
            if fc1 is None or fc1.shape != (classes, channels):
                found = "none" if fc1 is None else tuple(fc1.shape)
                raise ConfigError(f"head_init 'copy' needs an FC1 weight of shape {(classes, channels)}, got {found}")
            self.weight.data[:classes].copy_(fc1.detach())

    def forward(
        self,
        features: Tensor,
        fc1: Tensor,
        labels: Tensor,
        *,
        maps: Tensor | None = None,
        label_smoothing: float = 0.0,
        competing: Competing = "all",
        width: int | None = None,
        class_weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """``(loss, accuracy)``; see :func:`softmax_reactivation_loss`."""
        return softmax_reactivation_loss(
            features,
            fc1,
            self.weight,
            labels,
            maps=maps,
            label_smoothing=label_smoothing,
            competing=competing,
            width=width,
            class_weights=class_weights,
        )

    def extra_repr(self) -> str:
        """Sizes for ``print(module)``."""
        return f"classes={self.weight.shape[0]}, channels={self.weight.shape[1]}"


def _rivals(vectors: ClassVectors, competing: Competing) -> Tensor:
    """``(P, K)`` bool: the classes in the softmax of each (image, label) pair, the label always included."""
    chosen = vectors.present if competing == "present" else ~vectors.present
    return chosen.scatter(1, vectors.targets[:, None], True)


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
    expected = (features.shape[0], fc1.shape[0])
    rows = fc2.shape[0] - fc1.shape[0]
    if labels.shape != expected or fc1.shape[1:] != fc2.shape[1:] or rows not in {0, 1}:
        raise RecamlabelError(
            f"expected labels {expected} and FC2 {tuple(fc1.shape)} or one row more, "
            f"got {tuple(labels.shape)} and {tuple(fc2.shape)}"
        )
    if not 0 <= smoothing < 1:
        raise ConfigError(f"label_smoothing must lie in [0, 1), got {smoothing}")
    check_choice("competing", competing, get_args(Competing))
