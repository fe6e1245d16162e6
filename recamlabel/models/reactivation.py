"""Class features of the softmax re-activation (docs/method.md, 2): one batched matrix product.

Shapes: ``B`` images, ``K`` foreground classes, ``D`` feature channels, ``h x w`` feature pixels,
``M`` the largest number of labels an image of the batch has.

The (B, K, D, h*w) array of the written-out formula ``f_k = mean_n A_k[n] f[:, n]`` is never built, and
only the labels' classes are ever computed.

Source: Chen et al., "Class Re-Activation Maps for Weakly-Supervised Semantic Segmentation",
CVPR 2022 (arXiv 2203.00962), section 3.2, equation 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from recamlabel.errors import RecamlabelError
from recamlabel.models.cam import PEAK_EPS, check_head, is_checked, normalise_by_max

# Half-covered pixels are the object's rim more often than background; 1, 2 and 4 were tried
# (benchmarks/recam_ablation.md).
BACKGROUND_POWER = 4.0


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


def background_features(features: Tensor, maps: Tensor, power: float = BACKGROUND_POWER) -> Tensor:
    """The feature of what no class map covers: ``mean_n (1 - max_k A_k[n])^power f[:, n]``.

    Args:
        features: ``(B, D, h, w)``.
        maps: ``(B, C, h, w)`` in [0, 1]; C may be 0, then all pixels count alike.
        power: The higher, the less do pixels count that a map covers in part.

    Returns:
        ``(B, 1, D)``.

    Example:
        >>> background_features(torch.ones(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]])).tolist()
        [[[0.5]]]
    """
    free = torch.ones_like(features[:, :1]) if maps.shape[1] == 0 else 1 - maps.amax(dim=1, keepdim=True)
    return reactivated_features(features, free.clamp(min=0) ** power)


def label_slots(labels: Tensor, width: int | None = None) -> tuple[Tensor, Tensor]:
    """The label's classes of each image, padded to the largest number of labels in the batch.

    Args:
        labels: ``(B, K)``: above 0 present; 0 absent and below 0 unknown are both "not present".
        width: That number, where it is known: to count labels on a GPU is to wait for it.

    Returns:
        ``classes (B, M)`` int64 class indices, ascending within an image, and ``valid (B, M)`` bool:
        False marks padding. M may be 0.

    Example:
        >>> label_slots(torch.tensor([[0, 1, 1], [0, 0, -1]]))[1].tolist()
        [[True, True], [False, False]]
    """
    present = labels > 0
    if width is None:
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


@dataclass(frozen=True)
class ClassVectors:
    """What the softmax head classifies: one row per (image, label) pair.

    Attributes:
        vectors: ``(P, D)`` class features.
        targets: ``(P,)`` int64 class indices 0..K-1; K is the background.
        present: ``(P, K)`` or ``(P, K + 1)`` bool: the labels of the pair's image.
        share: ``(P,)`` the pair's share of its image, summing to 1 an image; 0 for a row that only fills up.
    """

    vectors: Tensor
    targets: Tensor
    present: Tensor
    share: Tensor

    def pairs(self) -> ClassVectors:
        """Without the rows that only fill up."""
        real = self.share > 0
        return ClassVectors(self.vectors[real], self.targets[real], self.present[real], self.share[real])


def class_vectors(
    features: Tensor,
    fc1: Tensor,
    labels: Tensor,
    *,
    maps: Tensor | None = None,
    background: bool = False,
    power: float = BACKGROUND_POWER,
    eps: float = PEAK_EPS,
    width: int | None = None,
) -> ClassVectors:
    """The re-activated features of all labels of a batch; images with fewer labels than others are filled up.

    Args:
        features: ``(B, D, h, w)``.
        fc1: ``(K, D)`` classifier weight; makes the masks where ``maps`` is not given.
        labels: ``(B, K)``: above 0 present; 0 absent, below 0 unknown (taken as not present).
        maps: ``(B, K, H, W)`` masks in [0, 1] instead, resized where their size differs.
        background: Add a row for the background of every image whose labels are all known.
        power: See :func:`background_features`.
        eps: Added to each mask's maximum.
        width: The largest number of labels of an image, where it is known.

    Raises:
        RecamlabelError: Shapes that do not go together, features or maps that are not finite.
    """
    classes, valid = label_slots(labels, width)
    masks = label_masks(features, fc1, classes, eps) if maps is None else _pick_maps(features, maps, classes)
    vectors, present = reactivated_features(features, masks), labels > 0
    if background:
        rest = background_features(features, masks * valid[:, :, None, None], power)
        vectors = torch.cat([vectors, rest], dim=1)
        classes = F.pad(classes, (0, 1), value=fc1.shape[0])
        known = (labels >= 0).all(dim=1, keepdim=True)
        valid, present = torch.cat([valid, known], dim=1), torch.cat([present, known], dim=1)
    share = valid / valid.sum(dim=1, keepdim=True).clamp(min=1)
    rows = present[:, None].expand(-1, valid.shape[1], -1).flatten(0, 1)
    return ClassVectors(vectors.flatten(0, 1), classes.flatten(), rows, share.flatten())


def _pick_maps(features: Tensor, maps: Tensor, classes: Tensor) -> Tensor:
    """The classes' masks ``(B, M, h, w)`` out of all masks ``(B, K, H, W)``, at the features' size."""
    picked = maps.gather(1, classes[:, :, None, None].expand(-1, -1, *maps.shape[2:])).to(features.dtype)
    if picked.shape[2:] != features.shape[2:] and picked.shape[1] > 0:
        picked = F.interpolate(picked, size=features.shape[2:], mode="bilinear", align_corners=False)
    elif picked.shape[1] == 0:
        picked = features.new_zeros((features.shape[0], 0, *features.shape[2:]))
    if is_checked(picked) and not bool(torch.isfinite(picked).all()):
        raise RecamlabelError("the class maps given as masks hold NaN or infinity")
    return picked
