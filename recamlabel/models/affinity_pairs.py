"""Neighbour pairs of a map, the paths between them, and what both ends' labels say (docs/method.md, 4).

Source: Ahn et al., "Weakly Supervised Learning of Instance Segmentation with Inter-pixel
Relations" (IRN), CVPR 2019, sections 3.2 and 3.3, equations 3 to 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from recamlabel.core.classes import BACKGROUND_ID
from recamlabel.errors import ConfigError, RecamlabelError

Offset = tuple[int, int]


@dataclass(frozen=True)
class PairPaths:
    """The half-plane neighbours of a pixel within a radius, and the pixels between.

    Make it with :func:`pair_paths`.

    Attributes:
        radius: r: neighbours are closer than r pixels.
        offsets: ``(dy, dx)`` of each of the P neighbours, dy >= 0, in raster order.
        paths: For each neighbour the ``(dy, dx)`` of the pixels on its path, both ends included.
    """

    radius: int
    offsets: tuple[Offset, ...]
    paths: tuple[tuple[Offset, ...], ...]

    def sources(self, height: int, width: int) -> Tensor:
        """Row-major indices ``(S,) int64`` of the pixels all of whose neighbours lie in the map.

        Rows 0..h-r, columns r-1..w-r: ``S = max(0, h-r+1) * max(0, w-2r+2)``.
        """
        margin = self.radius - 1
        grid = torch.arange(height * width).view(height, width)
        return grid[: max(0, height - margin), margin : max(margin, width - margin)].flatten()

    def targets(self, height: int, width: int) -> Tensor:
        """Row-major indices ``(P, S) int64`` of each source's neighbours."""
        steps = torch.tensor([dy * width + dx for dy, dx in self.offsets], dtype=torch.int64)
        return self.sources(height, width)[None] + steps[:, None]


@lru_cache(maxsize=32)
def pair_paths(radius: int) -> PairPaths:
    """Neighbours and paths for a radius: 10 in the published training, 5 in its random walk.

    Neighbours are ``(0, 1..r-1)`` and ``(1..r-1, |dx| < r)`` with ``dx^2 + dy^2 < r^2``; a path is
    every pixel of the pair's bounding box closer than 1 to the segment between both ends.

    Args:
        radius: >= 1; 1 gives no neighbour, 5 gives 34, 10 gives 152.

    Raises:
        ConfigError: A radius below 1.

    Example:
        >>> pair_paths(2).offsets, pair_paths(3).paths[-1]
        (((0, 1), (1, -1), (1, 0), (1, 1)), ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2)))
    """
    if radius < 1:
        raise ConfigError(f"the neighbour radius must be at least 1 pixel, got {radius}")
    offsets = [(0, dx) for dx in range(1, radius)]
    for dy in range(1, radius):
        offsets += [(dy, dx) for dx in range(1 - radius, radius) if dy * dy + dx * dx < radius * radius]
    return PairPaths(radius, tuple(offsets), tuple(_path(dy, dx) for dy, dx in offsets))


def _path(dy: int, dx: int) -> tuple[Offset, ...]:
    columns = range(min(0, dx), max(0, dx) + 1)
    # |cross product| / length < 1, squared, in integers: no rounding decides about a pixel.
    return tuple((y, x) for y in range(dy + 1) for x in columns if (dx * y - dy * x) ** 2 < dx * dx + dy * dy)


def path_maximum(edge: Tensor, path: tuple[Offset, ...], offset: Offset) -> Tensor:
    """Largest value on the path from every pixel whose neighbour at ``offset`` lies in the map.

    Args:
        edge: ``(..., h, w)``, any real dtype.
        path: Pixels of the path, relative to its start.
        offset: ``(dy, dx)`` of its end, dy >= 0.

    Returns:
        ``(..., h-dy, w-|dx|)`` (a side may be 0); entry (0, 0) starts at row 0, column ``max(0, -dx)``.

    Example:
        >>> path_maximum(torch.tensor([[1.0, 5.0, 2.0, 3.0]]), ((0, 0), (0, 1), (0, 2)), (0, 2)).tolist()
        [[5.0, 5.0]]
    """
    dy, dx = offset
    rows, columns = max(0, edge.shape[-2] - dy), max(0, edge.shape[-1] - abs(dx))
    left = max(0, -dx)
    shifted = [edge[..., y : y + rows, left + x : left + x + columns] for y, x in path]
    if rows == 0 or columns == 0:
        return edge.new_zeros((*edge.shape[:-2], rows, columns))
    largest = shifted[0]
    for values in shifted[1:]:
        largest = torch.maximum(largest, values)
    return largest


def pair_affinity(edge_prob: Tensor, paths: PairPaths) -> Tensor:
    """Affinity of neighbour pairs: ``1 - max over the path of the boundary probability`` (IRN, equation 3).

    The gradient goes to the path's strongest pixel. What autograd keeps is one index per pair, not
    the values along its path (an order of magnitude less at radius 10).

    Args:
        edge_prob: ``(B, 1, h, w)`` or ``(B, h, w)`` boundary probabilities in [0, 1].
        paths: From :func:`pair_paths`.

    Returns:
        ``(B, P, S)`` in [0, 1]; entry (b, i, s) is for ``paths.offsets[i]`` and ``paths.sources(h, w)[s]``.

    Raises:
        RecamlabelError: An input of another shape.

    Example:
        >>> pair_affinity(torch.full((1, 4, 7), 0.25), pair_paths(2)).unique().tolist()
        [0.75]
    """
    edge = edge_prob[:, 0] if edge_prob.ndim == 4 and edge_prob.shape[1] == 1 else edge_prob
    if edge.ndim != 3:
        raise RecamlabelError(
            f"expected boundary probabilities (B, 1, h, w) or (B, h, w), got {tuple(edge_prob.shape)}"
        )
    batch, height, width = edge.shape
    source = paths.sources(height, width).to(edge.device)
    flat = edge.flatten(1)
    if source.numel() == 0 or not paths.offsets:
        return 1 - flat[:, :0].reshape(batch, len(paths.offsets), source.numel())
    with torch.no_grad():
        where = torch.stack([source + _strongest(edge, path, paths.radius - 1) for path in paths.paths], dim=1)
    return 1 - flat.gather(1, where.flatten(1)).view_as(where)


def _strongest(edge: Tensor, path: tuple[Offset, ...], margin: int) -> Tensor:
    """Row-major step ``(B, S) int64`` from each source to the largest value on its path (the first of equals)."""
    rows, columns = edge.shape[1] - margin, edge.shape[2] - 2 * margin
    shifted = [edge[:, y : y + rows, margin + x : margin + x + columns] for y, x in path]
    best = shifted[0].clone()
    # A byte per source while searching: the paths of radius 10 have 2134 pixels together.
    which = torch.zeros(best.shape, dtype=torch.uint8, device=edge.device)
    for number, values in enumerate(shifted[1:], start=1):
        which.masked_fill_(values > best, number)
        torch.maximum(best, values, out=best)
    steps = torch.tensor([dy * edge.shape[2] + dx for dy, dx in path], device=edge.device)
    return steps[which.flatten(1).long()]


@dataclass(frozen=True)
class PairLabels:
    """Which pairs teach what; boolean ``(B, P, S)`` masks, pairs touching the ignore id are in none.

    Attributes:
        background: Both ends are background: attract.
        foreground: Both ends are the same class: attract.
        different: The ends are of two classes: repel.
    """

    background: Tensor
    foreground: Tensor
    different: Tensor


def pair_labels(labels: Tensor, paths: PairPaths, ignore_id: int = 255) -> PairLabels:
    """What a label map says about each neighbour pair (IRN, section 3.3), for any number of classes.

    Args:
        labels: ``(B, h, w)`` integers: 0 background, class ids, ``ignore_id``.
        paths: From :func:`pair_paths`.
        ignore_id: Pixels without a label.

    Returns:
        Masks ``(B, P, S)``, aligned with :func:`pair_affinity`.

    Raises:
        RecamlabelError: An input of another shape.

    Example:
        >>> pair_labels(torch.tensor([[[0, 0, 7], [7, 7, 255]]]), pair_paths(2)).background.flatten().tolist()
        [False, False, False, False]
    """
    if labels.ndim != 3:
        raise RecamlabelError(f"expected a label map (B, h, w), got {tuple(labels.shape)}")
    flat = labels.flatten(1).to(torch.int64)
    source = flat[:, paths.sources(*labels.shape[1:]).to(labels.device)][:, None]
    target = flat[:, paths.targets(*labels.shape[1:]).to(labels.device)]
    known = (source != ignore_id) & (target != ignore_id)
    same = known & (source == target)
    is_background = source == BACKGROUND_ID
    return PairLabels(same & is_background, same & ~is_background, known & (source != target))
