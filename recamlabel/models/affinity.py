"""The affinity net: class boundaries and displacements on a frozen backbone, and its losses (docs/method.md, 4).

Source: Ahn et al., "Weakly Supervised Learning of Instance Segmentation with Inter-pixel
Relations" (IRN), CVPR 2019, section 3, equations 3 to 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recamlabel.core.ranks import batch_total
from recamlabel.errors import RecamlabelError
from recamlabel.models.affinity_pairs import PairPaths, pair_affinity, pair_labels

LOG_EPS = 1e-5
OUTPUT_STRIDE = 4
EDGE_CHANNELS = 32
FUSED_CHANNELS = 256
DISPLACEMENT_CHANNELS = (64, 128, 256, 256, 256)


class AffinityLosses(NamedTuple):
    """Scalars >= 0, each 0 (with zero gradient) where the batch has no such pair.

    Attributes:
        pos_bg, pos_fg: Mean ``-log(affinity)`` of background pairs, of pairs within a class.
        neg: Mean ``-log(1 - affinity)`` of pairs of two classes.
        dp_fg, dp_bg: L1 of ``d_src - d_dst`` to the offset within a class, to 0 in the background:
            mean over pairs and the two channels.
        total: ``(pos + neg) / 2 + (dp_fg + dp_bg) / 2`` with ``pos = (pos_bg + pos_fg) / 2``.
    """

    pos_bg: Tensor
    pos_fg: Tensor
    neg: Tensor
    dp_fg: Tensor
    dp_bg: Tensor
    total: Tensor


def affinity_losses(
    edge_logits: Tensor, displacement: Tensor, labels: Tensor, paths: PairPaths, ignore_id: int = 255
) -> AffinityLosses:
    """All losses of the affinity net (IRN, equations 4 to 8; docs/method.md, 4).

    Args:
        edge_logits: ``(B, 1, h, w)`` boundary logits.
        displacement: ``(B, 2, h, w)`` in pixels of this map, channel 0 along rows (dy), 1 along columns (dx).
        labels: ``(B, h, w)`` integer seeds at the same size: 0 background, class ids, ``ignore_id``.
        paths: From :func:`recamlabel.models.affinity_pairs.pair_paths`.
        ignore_id: Pixels without a seed.

    Returns:
        The five losses and their total.

    Raises:
        RecamlabelError: Shapes that do not go together.

    Example:
        >>> from recamlabel.models.affinity_pairs import pair_paths
        >>> seeds = torch.zeros(1, 8, 8, dtype=torch.int64)
        >>> losses = affinity_losses(torch.zeros(1, 1, 8, 8), torch.zeros(1, 2, 8, 8), seeds, pair_paths(3))
        >>> round(losses.pos_bg.item(), 3), losses.neg.item()  # log 2, and no pair of two classes
        (0.693, 0.0)
    """
    batch, height, width = labels.shape if labels.ndim == 3 else (0, 0, 0)
    if edge_logits.shape != (batch, 1, height, width) or displacement.shape != (batch, 2, height, width):
        raise RecamlabelError(
            "expected edge logits (B, 1, h, w), displacement (B, 2, h, w) and labels (B, h, w), got "
            f"{tuple(edge_logits.shape)}, {tuple(displacement.shape)} and {tuple(labels.shape)}"
        )
    # In half precision 1 + 1e-5 is 1 and a sure affinity's logarithm minus infinity.
    if edge_logits.dtype in (torch.float16, torch.bfloat16):
        edge_logits, displacement = edge_logits.float(), displacement.float()
    affinity = pair_affinity(edge_logits.sigmoid(), paths)
    pairs = pair_labels(labels, paths, ignore_id)
    inside, outside = _where(pairs.foreground), _where(pairs.background)
    pos_bg = _mean(-(affinity[outside] + LOG_EPS).log())
    pos_fg = _mean(-(affinity[inside] + LOG_EPS).log())
    neg = _mean(-(1 + LOG_EPS - affinity[pairs.different]).log())
    offsets = torch.tensor(paths.offsets, device=labels.device).reshape(-1, 2)[inside[1]]
    dp_fg = _mean((_pair_displacement(displacement, inside, paths) - offsets).abs())
    dp_bg = _mean(_pair_displacement(displacement, outside, paths).abs())
    total = ((pos_bg + pos_fg) / 2 + neg) / 2 + (dp_fg + dp_bg) / 2
    return AffinityLosses(pos_bg, pos_fg, neg, dp_fg, dp_bg, total)


def _mean(values: Tensor) -> Tensor:
    return values.sum() / batch_total(values.numel())


def _where(chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Image, offset and source place ``(n,)`` of the n chosen of all pairs ``(B, P, S)``."""
    image, offset, place = chosen.nonzero(as_tuple=True)
    return image, offset, place


def _pair_displacement(displacement: Tensor, pairs: tuple[Tensor, Tensor, Tensor], paths: PairPaths) -> Tensor:
    """``d_src - d_dst`` ``(n, 2)`` of the n chosen pairs; the others are never computed."""
    image, offset, place = pairs
    size = (displacement.shape[2], displacement.shape[3])
    source = paths.sources(*size).to(displacement.device)[place]
    target = paths.targets(*size).to(displacement.device)[offset, place]
    flat = displacement.flatten(2).transpose(1, 2)
    return flat[image, source] - flat[image, target]


class AffinityNet(nn.Module):
    """Edge and displacement branches over a frozen backbone's features (IRN, section 3.1).

    Each depth goes through its own 1x1 convolution and group norm, is resized to stride 4 and the
    depths are fused by 1x1 convolutions. The features are detached: the backbone never learns here.

    Args:
        channels: Feature channels of each depth, shallow to deep; 1 to 5 depths.
        strides: Image pixels per feature pixel of each depth, as many (ResNet-50 at output stride 16:
            4, 4, 8, 16, 16). Depths finer than stride 4 are max-pooled to it.

    Raises:
        RecamlabelError: No depth, more than 5, or lists of different length.

    Example:
        >>> net = AffinityNet([16, 24], [4, 8]).eval()
        >>> edge, displacement = net([torch.rand(1, 16, 10, 12), torch.rand(1, 24, 5, 6)])
        >>> edge.shape, displacement.shape
        (torch.Size([1, 1, 10, 12]), torch.Size([1, 2, 10, 12]))
    """

    displacement_mean: Tensor

    def __init__(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        if not 1 <= len(channels) <= len(DISPLACEMENT_CHANNELS) or len(channels) != len(strides):
            raise RecamlabelError(
                f"expected 1 to {len(DISPLACEMENT_CHANNELS)} depths with a stride each, "
                f"got channels {list(channels)} and strides {list(strides)}"
            )
        self.channels, self.strides = tuple(channels), tuple(strides)
        widths = DISPLACEMENT_CHANNELS[: len(channels)]
        self.edge_depths = nn.ModuleList(_block(inside, EDGE_CHANNELS, groups=4) for inside in channels)
        self.edge_head = nn.Conv2d(EDGE_CHANNELS * len(channels), 1, 1)
        self.displacement_depths = nn.ModuleList(
            _block(inside, out, groups=max(1, out // 16)) for inside, out in zip(channels, widths, strict=True)
        )
        self.displacement_fuse = _block(sum(widths), FUSED_CHANNELS, groups=16)
        self.displacement_head = nn.Conv2d(FUSED_CHANNELS, 2, 1, bias=False)
        self.register_buffer("displacement_mean", torch.zeros(2))

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Boundary logits ``(B, 1, h, w)`` and displacement ``(B, 2, h, w)`` (dy, dx) at stride 4.

        In eval mode ``displacement_mean`` is subtracted; see :meth:`measure_displacement_mean`.

        Args:
            features: One ``(B, D_i, h_i, w_i)`` per depth, in the order of ``channels``.

        Raises:
            RecamlabelError: Another number of depths or channels than the net was made for.
        """
        edge = self.edge_logits(features)
        fixed = [feature.detach() for feature in features]
        size = self._size(fixed)
        fused = self.displacement_fuse(_resized(self.displacement_depths, fixed, size))
        displacement = self.displacement_head(fused)
        if not self.training:
            displacement = displacement - self.displacement_mean.to(displacement.dtype)[:, None, None]
        return edge, displacement

    def edge_logits(self, features: Sequence[Tensor]) -> Tensor:
        """The boundary logits of :meth:`forward` alone: all that a random walk needs, at a tenth of the work."""
        found = tuple(feature.shape[1] for feature in features)
        if found != self.channels:
            raise RecamlabelError(f"expected features with {self.channels} channels, got {found}")
        fixed = [feature.detach() for feature in features]
        logits: Tensor = self.edge_head(_resized(self.edge_depths, fixed, self._size(fixed)))
        return logits

    @torch.no_grad()
    def measure_displacement_mean(self, batches: Iterable[Sequence[Tensor]]) -> Tensor:
        """Set and return the mean displacement ``(2,)`` over feature batches; call it once after training.

        A constant added to all displacements changes no loss, so training leaves it arbitrary.
        Raises RecamlabelError where there is no batch.
        """
        training, self.training = self.training, True
        total, count = torch.zeros_like(self.displacement_mean, dtype=torch.float64), 0
        try:
            for features in batches:
                displacement = self(features)[1]
                total += displacement.double().mean(dim=(2, 3)).sum(dim=0)
                count += displacement.shape[0]
        finally:
            self.training = training
        if count == 0:
            raise RecamlabelError("the mean displacement needs at least one batch of features")
        self.displacement_mean.copy_(total / count)
        return self.displacement_mean

    def _size(self, features: Sequence[Tensor]) -> tuple[int, int]:
        """Size at stride 4, taken from the depth whose stride is nearest to it."""
        nearest = min(range(len(features)), key=lambda depth: abs(self.strides[depth] - OUTPUT_STRIDE))
        height, width = features[nearest].shape[2:]
        factor = self.strides[nearest] / OUTPUT_STRIDE
        return max(1, round(height * factor)), max(1, round(width * factor))


def _block(inside: int, out: int, groups: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, out, 1, bias=False), nn.GroupNorm(groups, out), nn.ReLU())


def _resized(blocks: nn.ModuleList, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Each depth through its block at the smaller of its own size and ``size``, resized and concatenated."""
    parts: list[Tensor] = []
    for block, feature in zip(blocks, features, strict=True):
        smaller = (min(size[0], feature.shape[2]), min(size[1], feature.shape[3]))
        values = block(feature if feature.shape[2:] == smaller else F.adaptive_max_pool2d(feature, smaller))
        if smaller != size:
            values = F.interpolate(values, size=size, mode="bilinear", align_corners=False)
        parts.append(values)
    return torch.cat(parts, dim=1)
