r"""Gaussian filtering on the permutohedral lattice, in PyTorch on any device (docs/method.md, 3).

A Gaussian over d features of every pixel against every other costs O(N^2). The lattice does it in O(d N): pixels are
*splatted* onto the d + 1 corners of the simplex that holds them, values on lattice points are *blurred* along the
d + 1 directions with (1/2, 1, 1/2), and pixels *slice* their value from the same corners.

**Form.** There is no hash table here: the points in use are what sorting the corners' keys leaves (one sort gives the
points and, per point, the pixels on it), neighbours are found by bisection, and splat and slice are sums of weighted
rows (``embedding_bag``). A key packs d coordinates into one whole number, linear in them, so that a neighbour's key is
a point's key plus a constant.

Sources: Adams, Baek & Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010,
sections 3 and 4; used for mean-field inference by Kraehenbuehl & Koltun, "Efficient Inference in Fully Connected CRFs
with Gaussian Edge Potentials", NeurIPS 2011.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recamlabel.errors import RecamlabelError

# Keeps the normalisation of a pixel without neighbours finite, as the published code does.
NORM_EPS = 1e-20
LARGEST_KEY = 2**62


class Lattice:
    """The filter ``D^-1/2 G D^-1/2`` of one set of features, G the lattice's Gaussian and D its row sums.

    Symmetrically normalised, as the dense CRF of Kraehenbuehl & Koltun uses it.

    Args:
        features: ``(N, d) float32``, N and d >= 1, each divided by its standard deviation; finite.

    Attributes:
        row_sums: ``(N,) float32``: what the filter makes of ones.

    Raises:
        RecamlabelError: Features spread over more lattice points than a 64-bit key can number.

    Example:
        >>> lattice = Lattice(torch.tensor([[0.0], [0.0], [100.0]]))
        >>> lattice.filter(torch.tensor([[1.0], [0.0], [1.0]])).squeeze().round(decimals=3).tolist()
        [0.5, 0.5, 1.0]
    """

    def __init__(self, features: Tensor) -> None:
        self.pixels, self.dimensions = features.shape
        base, rank, weights = _simplices(features)
        corners = self.dimensions + 1
        keys, steps = _keys(base, rank)
        # Stable, so that a point's pixels are summed in one order whatever the number of threads.
        ordered, order = keys.flatten().sort(stable=True)
        is_new = torch.ones_like(ordered, dtype=torch.bool)
        torch.ne(ordered[1:], ordered[:-1], out=is_new[1:])
        self._points = ordered[is_new]
        on_point = torch.empty_like(order)
        on_point[order] = is_new.cumsum(0) - 1
        self._corners = on_point.view(-1, corners)
        self._splat_pixels = order // corners
        self._splat_starts = is_new.nonzero().squeeze(1)
        self._neighbours = [self._find_neighbours(step) for step in steps]
        self._triples: list[Tensor] = []
        self._weigh(weights, order)

    def _find_neighbours(self, step: int) -> tuple[Tensor, Tensor]:
        """Indices ``(M,)`` of the points one step ahead and one behind; M, a row of zeros, where there is none."""
        count = len(self._points)
        ahead_key = self._points + step
        at = torch.searchsorted(self._points, ahead_key).clamp_(max=count - 1)
        found = self._points[at] == ahead_key
        ahead = torch.where(found, at, count)
        behind = torch.full_like(at, count)
        behind[at[found]] = torch.arange(count, device=at.device)[found]
        return ahead, behind

    def _weigh(self, weights: Tensor, order: Tensor) -> None:
        """Fold the normalisation into the weights of splat and slice."""
        self._slice_weights, self._splat_weights = weights, weights.flatten()[order]
        ones = torch.ones((self.pixels, 1), device=weights.device)
        norm = (self._gaussian(ones) + NORM_EPS).rsqrt()
        self._slice_weights = weights * norm
        self._splat_weights = self._slice_weights.flatten()[order]
        self.row_sums = self._gaussian(ones).squeeze(1)

    def filter(self, values: Tensor) -> Tensor:
        """Filtered values ``(N, channels) float32`` of values of the same shape."""
        return self._gaussian(values)

    def _gaussian(self, values: Tensor) -> Tensor:
        points = values.new_zeros((len(self._points) + 1, values.shape[1]))
        points[:-1] = F.embedding_bag(
            self._splat_pixels, values, self._splat_starts, mode="sum", per_sample_weights=self._splat_weights
        )
        if points.is_cuda:
            # One kernel a direction: launching five takes longer than what they do.
            for around in self._around():
                points = F.embedding_bag(around, points, mode="sum", per_sample_weights=self._blur)
            return self._slice(points)
        other = torch.zeros_like(points)
        for ahead, behind in self._neighbours:
            torch.index_select(points, 0, ahead, out=other[:-1])
            other[:-1] += points.index_select(0, behind)
            other.mul_(0.5).add_(points)
            points, other = other, points
        return self._slice(points)

    def _around(self) -> list[Tensor]:
        """For each direction the point, the one ahead and the one behind, ``(M + 1, 3)``; and their weights, once."""
        if not self._triples:
            count = len(self._points)
            own = torch.arange(count + 1, device=self._points.device)
            for ahead, behind in self._neighbours:
                self._triples.append(
                    torch.stack([own, F.pad(ahead, (0, 1), value=count), F.pad(behind, (0, 1), value=count)], 1)
                )
            self._blur = torch.tensor([1.0, 0.5, 0.5], device=own.device).expand(count + 1, 3).contiguous()
        return self._triples

    def _slice(self, points: Tensor) -> Tensor:
        # What the blur of the lattice loses or gains against a Gaussian of the same width (Adams et al., section 3.2).
        alpha = 1 / (1 + 2**-self.dimensions)
        return F.embedding_bag(self._corners, points, mode="sum", per_sample_weights=self._slice_weights * alpha)


def _simplices(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The simplex of each pixel: its corner of remainder 0, the rank of each coordinate, the corners' weights.

    Each is ``(N, d + 1)``: whole numbers in float32, whole numbers, barycentric weights >= 0 that sum to 1.
    """
    d = features.shape[1]
    # Rounded as the published code rounds: a pixel on the edge of a simplex then falls to the same side.
    deviation = float(np.float32(math.sqrt(2 / 3) * (d + 1)))
    share = float(np.float32(1 / (d + 1)))
    scale = torch.tensor(
        [deviation / math.sqrt((i + 2) * (i + 1)) for i in range(d)], dtype=torch.float32, device=features.device
    )
    scaled = features.float() * scale
    # Onto the plane whose coordinates sum to 0: coordinate j is the sum of those after it less j times its own.
    elevated = torch.empty((len(features), d + 1), device=features.device)
    total = torch.zeros(len(features), device=features.device)
    for j in range(d, 0, -1):
        elevated[:, j] = total - j * scaled[:, j - 1]
        total = total + scaled[:, j - 1]
    elevated[:, 0] = total
    steps = (elevated * share).round()
    base = steps * (d + 1)
    excess = steps.sum(1, keepdim=True).long()
    rest = elevated - base
    rank = torch.zeros_like(rest, dtype=torch.long)
    for i in range(d):
        for j in range(i + 1, d + 1):
            less = rest[:, i] < rest[:, j]
            rank[:, i] += less
            rank[:, j] += ~less
    rank += excess
    low, high = rank < 0, rank > d
    shift = (low.long() - high.long()) * (d + 1)
    rank += shift
    base += shift
    offsets = (elevated - base) * share
    weights = torch.zeros((len(features), d + 2), device=features.device)
    weights.scatter_add_(1, d - rank, offsets)
    weights.scatter_add_(1, d + 1 - rank, -offsets)
    weights[:, 0] += 1 + weights[:, d + 1]
    return base, rank, weights[:, : d + 1].contiguous()


def _keys(base: Tensor, rank: Tensor) -> tuple[Tensor, list[int]]:
    """Keys ``(N, d + 1)`` of each pixel's corners, and what a step in each of the d + 1 directions adds to a key."""
    d = base.shape[1] - 1
    whole = base[:, :d].long()
    low, high = (whole.amin(0) - (d + 1)).tolist(), (whole.amax(0) + (d + 1)).tolist()
    # A step changes a coordinate by d at most: with room for it on both sides no key stands for two points.
    radix = [top - bottom + 1 + 2 * d for bottom, top in zip(low, high, strict=True)]
    strides = [math.prod(radix[i + 1 :]) for i in range(d)]
    if math.prod(radix) > LARGEST_KEY:
        raise RecamlabelError(
            "the dense CRF's kernels are too narrow for an image of this size: widen gaussian_sxy, bilateral_sxy "
            "or bilateral_srgb, or refine smaller images (refine.max_side)"
        )
    stride = torch.tensor(strides, device=base.device)
    lowest = torch.tensor(low, device=base.device)
    first = ((whole - lowest) * stride).sum(1)
    keys = torch.empty((len(base), d + 1), dtype=torch.long, device=base.device)
    for corner in range(d + 1):
        # The corner of remainder r: r more on each coordinate, less d + 1 on those of the r highest ranks.
        wrapped = (rank[:, :d] > d - corner).long()
        keys[:, corner] = first + ((corner - (d + 1) * wrapped) * stride).sum(1)
    every = sum(strides)
    return keys, [(d + 1) * strides[j] - every if j < d else -every for j in range(d + 1)]
