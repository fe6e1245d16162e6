"""Class maps spread along the similarity of an image's patches (docs/method.md, 3).

Patches of one thing have features that resemble each other, wherever they are; a patch that a class map missed gets
what the patches like it have. With *phi* the features of the last depth less their mean over the image,

    a_nm = max(0, cos(phi_n, phi_m))^beta,    m'_k = sum_m a_nm m_k[m] / sum_m a_nm

at the features' positions; the difference m' - m is brought to the maps' own size and added, so that what is finer than
a patch stays. No training and no mask has a part in it.

Sources: the cosine of a self-supervised transformer's patches as an image's affinity is that of Simeoni et al.,
"Localizing Objects with Self-Supervised Transformers and no Labels" (LOST), BMVC 2021, section 3.1, and of Wang et al.,
"TokenCut", CVPR 2022, equation 3, where it is cut off; as a refinement of class maps by one product with the affinity,
of Ru et al., "Learning Affinity from Attention", CVPR 2022, section 3.4. The mean over the image is taken off here
because features of convolutional networks are all on one side.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from recamlabel.errors import RecamlabelError

# Patches of one image: a matrix of so many squared takes 64 MB.
MOST_PATCHES = 4096
EPS = 1e-6


def patch_affinity(features: Tensor, beta: float) -> Tensor:
    """How alike an image's patches are, each row summing to 1.

    Args:
        features: ``(D, h, w)``, finite.
        beta: Exponent of the cosine, > 0; higher lets fewer patches speak.

    Returns:
        ``(h w, h w)`` in [0, 1].

    Example:
        >>> import torch
        >>> two_things = torch.tensor([[[1.0, 1.0, -1.0, -1.0]]])
        >>> patch_affinity(two_things, 2.0)[0].tolist()
        [0.5, 0.5, 0.0, 0.0]
    """
    rows = features.flatten(1).T.float()
    rows = F.normalize(rows - rows.mean(dim=0), dim=1, eps=EPS)
    alike = (rows @ rows.T).clamp_(min=0).pow_(beta)
    # A patch that is the mean resembles nothing, and stays as it is.
    alike.diagonal().clamp_(min=1.0)
    return alike / alike.sum(dim=1, keepdim=True)


def spread_maps(maps: Tensor, features: Tensor, beta: float, weight: float = 1.0) -> Tensor:
    """Class maps, each moved to the mean of what the patches alike have.

    Args:
        maps: ``(C, H, W)`` in [0, 1]; C may be 0.
        features: ``(D, h, w)`` of the same image, at most :data:`MOST_PATCHES` positions.
        beta: As of :func:`patch_affinity`.
        weight: Share of the way, in [0, 1].

    Returns:
        ``(C, H, W) float32`` in [0, 1], each class with the maximum that it had.

    Raises:
        RecamlabelError: More patches than :data:`MOST_PATCHES`.

    Example:
        >>> import torch
        >>> maps = torch.tensor([[[1.0, 0.0, 0.0, 0.2]]])
        >>> spread_maps(maps, torch.tensor([[[1.0, 1.0, -1.0, -1.0]]]), 2.0).tolist()
        [[[1.0, 1.0, 0.20000000298023224, 0.20000000298023224]]]
    """
    if features.shape[1] * features.shape[2] > MOST_PATCHES:
        raise RecamlabelError(f"{tuple(features.shape[1:])} patches: expected at most {MOST_PATCHES} in all")
    maps = maps.float()
    if len(maps) == 0:
        return maps
    coarse = F.interpolate(maps[None], features.shape[1:], mode="area")[0]
    moved = (patch_affinity(features, beta) @ coarse.flatten(1).T).T.view_as(coarse) - coarse
    finer = F.interpolate(moved[None], maps.shape[1:], mode="bilinear", align_corners=False)[0]
    spread = (maps + weight * finer).clamp(0, 1)
    peak = maps.amax(dim=(1, 2), keepdim=True)
    return spread * (peak / spread.amax(dim=(1, 2), keepdim=True).clamp(min=EPS)).clamp(max=1 / EPS)
