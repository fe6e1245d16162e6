r"""Random walk over a boundary map, in O(N) memory (METHOD 4).

With ``A`` the symmetric affinities of pixel pairs closer than the radius (self-affinity 1, each
raised to beta), ``c`` its column sums and ``T = A / c``, the walk is ``(maps * (1 - edge)) T^n``.

**Form.** The similar matrix ``S = A_ij / sqrt(c_i c_j)`` is symmetric, so one half-plane of offsets
(34 at radius 5) is stored as whole images and applied as shifted multiply-adds: no index, no
N x N array, any device, batched. Rows are padded so that a two-dimensional shift is a
one-dimensional one, contiguous over all pixels.

**Acceleration, with its bound.** ``S`` is symmetric with its spectrum in [-1, 1] (it is similar to
the stochastic T). On that interval ``x^n = sum_k a_k T_k(x)`` with Chebyshev polynomials and
``a_k >= 0``, ``sum_k a_k = 1`` (the chance that n fair +-1 steps end at distance k). Cutting the sum
after degree d leaves ``|x^n - p(x)| <= tail(d) = sum_{k>d} a_k``. With ``y = x sqrt(c)`` the error of
output pixel j is at most ``tail(d) ||y||_2 / sqrt(c_j)``; as ``1 <= c <= 2P + 1`` (P offsets)

    ``max |error| <= tail(d) sqrt((2P + 1) N) max |input|``

whatever the image. d is the smallest degree that makes it 1e-6: about 100 in place of 256 products.
(Sachdeva & Vishnoi, "Faster Algorithms via Approximation Theory", 2014, section 3.)

Source: Ahn et al. (IRN), CVPR 2019, section 4.2, equations 9 and 10.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recamlabel.errors import ConfigError, RecamlabelError
from recamlabel.models.affinity_pairs import PairPaths, pair_paths, path_maximum

RADIUS = 5
BETA = 10.0
LOG2_STEPS = 8
TOLERANCE = 1e-6
MAX_LOG2_STEPS = 16
# On the CPU an operation on more elements is split over threads, each paying a barrier; on busy
# cores a barrier costs a thousand times the work. Below it also stays in the second-level cache.
CPU_BLOCK = 32_768


def random_walk(
    maps: Tensor, edge: Tensor, *, radius: int = RADIUS, beta: float = BETA, log2_steps: int = LOG2_STEPS
) -> Tensor:
    """Spread class maps along affinities: ``(maps * (1 - edge)) T^(2^log2_steps)``.

    Equal to dense matrix squaring within 1e-6 of the largest input plus float32 rounding, in
    ``(P + 5 K) h w`` numbers of memory (P = 34 at radius 5). Each output value is a weighted mean of
    its map's inputs, so it stays between their extremes.

    Args:
        maps: ``(K, h, w)``, or ``(B, K, h, w)`` for a batch of equal sizes; finite, usually in [0, 1].
            K may be 0. Half precision is computed in float32.
        edge: Boundary probabilities in [0, 1] of the same pixels: ``(h, w)`` or ``(1, h, w)``, for a
            batch ``(B, h, w)`` or ``(B, 1, h, w)``.
        radius: Pairs closer than this many map pixels are neighbours, >= 1.
        beta: Exponent of the affinities, > 0; higher respects weak boundaries more.
        log2_steps: The walk has ``2^log2_steps`` steps, 0..16.

    Returns:
        The shape, dtype and device of ``maps``.

    Raises:
        RecamlabelError: Shapes that do not go together, NaN or infinity, an edge outside [0, 1].
        ConfigError: A setting out of range.

    Example:
        >>> maps = torch.tensor([[[1.0, 0.0, 0.0]]])
        >>> wall = torch.tensor([[0.0, 1.0, 0.0]])
        >>> random_walk(maps, wall).tolist()  # nothing crosses a sure boundary
        [[[1.0, 0.0, 0.0]]]
    """
    _check_settings(radius, beta, log2_steps)
    batch, boundary = _as_batch(maps, edge)
    if batch.numel() == 0:
        return maps.clone()
    dtype = torch.promote_types(maps.dtype, torch.float32)
    with torch.no_grad():
        boundary = boundary.to(dtype)
        walk = _Walk(boundary, pair_paths(radius), beta)
        walked = walk.power(batch.to(dtype) * (1 - boundary[:, None]), 2**log2_steps)
    return walked.view_as(maps).to(maps.dtype)


def chebyshev_degree(steps: int, pixels: int, neighbours: int, tolerance: float = TOLERANCE) -> int:
    """Smallest degree whose error bound (see the module's text) is below ``tolerance``.

    Args:
        steps: n of ``T^n``, >= 1.
        pixels: N.
        neighbours: P, offsets of the half-plane.
        tolerance: Largest error wanted, relative to the largest input.

    Returns:
        In 0..steps (``steps`` is exact).

    Example:
        >>> chebyshev_degree(256, 54 * 80, 34), chebyshev_degree(4, 54 * 80, 34)
        (96, 4)
    """
    allowed = tolerance / math.sqrt((2 * neighbours + 1) * pixels)
    tail = 0.0
    for degree, coefficient in reversed(list(enumerate(chebyshev_coefficients(steps)))):
        tail += coefficient
        if tail > allowed:
            return degree
    return 0


def chebyshev_coefficients(steps: int) -> list[float]:
    """``a_0..a_n`` of ``x^n = sum_k a_k T_k(x)``: all >= 0, summing to 1.

    Example:
        >>> chebyshev_coefficients(2)  # x^2 = (T_0 + T_2) / 2
        [0.5, 0.0, 0.5]
    """
    coefficients = [0.0] * (steps + 1)
    start = steps % 2
    up = (steps + start) // 2
    log_value = math.lgamma(steps + 1) - math.lgamma(up + 1) - math.lgamma(steps - up + 1) - steps * math.log(2)
    value = math.exp(log_value)
    for k in range(start, steps + 1, 2):
        coefficients[k] = value if k == 0 else 2 * value
        value *= (steps - k) / (steps + k + 2)
    return coefficients


class _Walk:
    """The symmetric matrix S of a batch of boundary maps, as one image per half-plane offset."""

    def __init__(self, edge: Tensor, paths: PairPaths, beta: float) -> None:
        self.batch, self.height, self.width = edge.shape
        # Zeros at a row's end take what a shift carries over it.
        self.padded = self.width + paths.radius - 1
        self.shifts = [dy * self.padded + dx for dy, dx in paths.offsets]
        self.weights = self._affinities(edge, paths, beta).flatten(3)
        self.size = self.weights.shape[3]
        ones = torch.ones_like(self.weights[:, 0])
        self.degree = ones.clone()
        self._add_neighbours(ones, self.degree)
        self._make_symmetric()
        self.own = 1 / self.degree

    def _affinities(self, edge: Tensor, paths: PairPaths, beta: float) -> Tensor:
        """``(B, P, 1, h, padded)``: affinity of a pixel to its neighbour, 0 where that lies outside."""
        shape = (self.batch, len(paths.offsets), 1, self.height, self.padded)
        weights = edge.new_zeros(shape)
        for index, (offset, path) in enumerate(zip(paths.offsets, paths.paths, strict=True)):
            affinity = (1 - path_maximum(edge, path, offset)).pow_(beta)
            rows, columns, left = affinity.shape[1], affinity.shape[2], max(0, -offset[1])
            weights[:, index, 0, :rows, left : left + columns] = affinity
        return weights

    def _make_symmetric(self) -> None:
        root = self.degree.rsqrt()
        for index, shift in enumerate(self.shifts):
            span = max(0, self.size - shift)
            self.weights[:, index, :, :span] *= root[..., :span] * root[..., shift : shift + span]

    def _add_neighbours(self, source: Tensor, target: Tensor) -> None:
        for into, weight, values in self._views(source, target):
            into.addcmul_(weight, values)

    def _views(self, source: Tensor, target: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """``(part of target, weights, part of source)`` whose multiply-adds give the neighbours' sum."""
        block = self.size
        if source.device.type == "cpu":
            block = max(1, CPU_BLOCK // max(1, source.shape[0] * source.shape[1]))
        views: list[tuple[Tensor, Tensor, Tensor]] = []
        for start in range(0, self.size, block):
            end = min(self.size, start + block)
            for index, shift in enumerate(self.shifts):
                weight = self.weights[:, index]
                stop, first = min(end, self.size - shift), max(start, shift)
                if stop > start:
                    ahead = source[..., start + shift : stop + shift]
                    views.append((target[..., start:stop], weight[..., start:stop], ahead))
                if end > first:
                    back = slice(first - shift, end - shift)
                    views.append((target[..., first:end], weight[..., back], source[..., back]))
        return views

    def power(self, maps: Tensor, steps: int) -> Tensor:
        """``maps T^steps`` for maps ``(B, K, h, w)``, by the Chebyshev recurrence on S."""
        neighbours = len(self.shifts)
        degree = chebyshev_degree(steps, self.height * self.width, neighbours)
        coefficients = chebyshev_coefficients(steps)[: degree + 1]
        root = self.degree.sqrt()
        now = torch.nn.functional.pad(maps, (0, self.padded - self.width)).flatten(2) * root
        result = now * coefficients[0]
        if degree > 0:
            result = self._recur(now, result, coefficients)
        result = (result / root).view(*maps.shape[:2], self.height, self.padded)
        return result[..., : self.width].contiguous()

    def _recur(self, now: Tensor, result: Tensor, coefficients: list[float]) -> Tensor:
        after = now * self.own
        self._add_neighbours(now, after)
        if coefficients[1]:
            result += coefficients[1] * after
        before, now = now, after
        # T_{k+1} = 2 S T_k - T_{k-1}: the 2 goes into the weights, the minus into the buffer written over.
        self.weights *= 2
        own = 2 * self.own
        # Both buffers keep their place, so their views are made once and used in turn.
        turns = [self._views(now, before), self._views(before, now)]
        for k in range(2, len(coefficients)):
            torch.addcmul(before.neg_(), own, now, out=before)
            for into, weight, values in turns[k % 2]:
                into.addcmul_(weight, values)
            before, now = now, before
            if coefficients[k]:
                result.add_(now, alpha=coefficients[k])
        self.weights /= 2
        return result


def _as_batch(maps: Tensor, edge: Tensor) -> tuple[Tensor, Tensor]:
    """Maps as ``(B, K, h, w)`` and edge as ``(B, h, w)``, checked."""
    batch = maps[None] if maps.ndim == 3 else maps
    boundary = edge[None] if edge.ndim == 2 else edge
    if boundary.ndim == 4 and boundary.shape[1] == 1:
        boundary = boundary[:, 0]
    if batch.ndim != 4 or boundary.ndim != 3 or boundary.shape != (batch.shape[0], *batch.shape[2:]):
        raise RecamlabelError(
            "expected maps (K, h, w) and edge (h, w), or maps (B, K, h, w) and edge (B, h, w), "
            f"got {tuple(maps.shape)} and {tuple(edge.shape)}"
        )
    if not (maps.is_floating_point() and edge.is_floating_point()) or maps.device != edge.device:
        raise RecamlabelError(
            f"expected floating-point maps and edge on one device, got {maps.dtype} on {maps.device} "
            f"and {edge.dtype} on {edge.device}"
        )
    if not bool(torch.isfinite(maps).all()):
        raise RecamlabelError("the class maps given to the random walk hold NaN or infinity")
    if not bool(((edge >= 0) & (edge <= 1)).all()):
        raise RecamlabelError("the boundary map given to the random walk has values outside [0, 1] or NaN")
    return batch, boundary


def _check_settings(radius: int, beta: float, log2_steps: int) -> None:
    if radius < 1:
        raise ConfigError(f"the random walk's radius must be at least 1 pixel, got {radius}")
    if not 0 < beta < math.inf:
        raise ConfigError(f"the random walk's beta must be above 0 and finite, got {beta}")
    if not 0 <= log2_steps <= MAX_LOG2_STEPS:
        raise ConfigError(f"the random walk's log2_steps must lie in 0..{MAX_LOG2_STEPS}, got {log2_steps}")
