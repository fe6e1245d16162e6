r"""Random walk over a boundary map, in O(N) memory (docs/method.md, 4).

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

whatever the image. d is the smallest degree that makes it 1e-5: about 90 in place of 256 products.
(Sachdeva & Vishnoi, "Faster Algorithms via Approximation Theory", 2014, section 3.)

**Precision.** The sums run in float64. In float32 a pixel loses its weak neighbours' contributions
to rounding, always downwards, 256 times over: up to 2e-4 off, more than all else together. It costs
1.6 times the time.

Source: Ahn et al. (IRN), CVPR 2019, section 4.2, equations 9 and 10.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from recamlabel.errors import ConfigError, RecamlabelError
from recamlabel.models.affinity_pairs import PairPaths, pair_paths, path_maximum

RADIUS = 5
BETA = 10.0
LOG2_STEPS = 8
TOLERANCE = 1e-5
MAX_LOG2_STEPS = 16
# On the CPU an operation on more elements is split over threads, each paying a barrier; on busy
# cores a barrier costs a thousand times the work. Below it also stays in the second-level cache.
CPU_BLOCK = 16_384


def random_walk(
    maps: Tensor, edge: Tensor, *, radius: int = RADIUS, beta: float = BETA, log2_steps: int = LOG2_STEPS
) -> Tensor:
    """Spread class maps along affinities: ``(maps * (1 - edge)) T^(2^log2_steps)``.

    Equal to dense matrix squaring within 1e-5 of the largest input (float32 squaring itself is off
    by up to 6e-5), in about ``8 (P + 5 K) h w`` bytes (P = 34 at radius 5). Each output value is a
    weighted mean of its map's inputs ``maps * (1 - edge)``.

    Args:
        maps: ``(K, h, w)``, or ``(B, K, h, w)`` for a batch of equal sizes; finite, usually in [0, 1].
            K may be 0.
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
        >>> random_walk(maps, wall).round(decimals=4).tolist()  # nothing crosses a sure boundary
        [[[1.0, 0.0, 0.0]]]
    """
    _check_settings(radius, beta, log2_steps)
    batch, boundary = _as_batch(maps, edge)
    if batch.numel() == 0:
        return maps.clone()
    # Apple's GPUs have no float64.
    dtype = torch.float32 if maps.device.type == "mps" else torch.float64
    with torch.no_grad():
        boundary = boundary.to(dtype)
        walk = _Walk(boundary, pair_paths(radius), beta)
        walked = walk.power(batch * (1 - boundary[:, None]), 2**log2_steps)
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
        (90, 4)
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
    value = math.comb(steps, up) / 2**steps  # Python divides whole numbers of any length exactly
    for k in range(start, steps + 1, 2):
        coefficients[k] = value if k == 0 else 2 * value
        value *= (steps - k) / (steps + k + 2)
    return coefficients


Sums = list[tuple[Tensor, Tensor, Tensor]]
"""``(into, weights, values)``: parts of images whose multiply-adds make up a product with the matrix."""


class _Walk:
    """The matrix ``2 S`` of a batch of boundary maps ``(B, h, w)``, as one image per half-plane offset."""

    def __init__(self, edge: Tensor, paths: PairPaths, beta: float) -> None:
        self.batch, self.height, self.width = edge.shape
        # Zeros at a row's end take what a shift carries over it.
        self.padded = self.width + paths.radius - 1
        self.size = self.height * self.padded
        self.shifts = [dy * self.padded + dx for dy, dx in paths.offsets]
        self.on_cpu = edge.device.type == "cpu"
        self.weights = self._affinities(edge, paths, beta).flatten(3)
        column_sums = edge.new_ones((self.batch, 1, self.size))
        self._add_neighbours(column_sums.clone(), column_sums)
        self.root = column_sums.sqrt()
        self.own = 2 / column_sums
        self._make_symmetric()

    def _affinities(self, edge: Tensor, paths: PairPaths, beta: float) -> Tensor:
        """``(B, P, 1, h, padded)``: affinity of a pixel to its neighbour, 0 where that lies outside."""
        weights = edge.new_zeros((self.batch, len(paths.offsets), 1, self.height, self.padded))
        strip = max(1, CPU_BLOCK // (self.batch * self.width)) if self.on_cpu else self.height
        for top in range(0, self.height, strip):
            window = edge[:, top : top + strip + paths.radius - 1]
            for index, (offset, path) in enumerate(zip(paths.offsets, paths.paths, strict=True)):
                affinity = (1 - path_maximum(window, path, offset)[:, :strip]).pow_(beta)
                rows, columns, left = affinity.shape[1], affinity.shape[2], max(0, -offset[1])
                weights[:, index, 0, top : top + rows, left : left + columns] = affinity
        return weights

    def _make_symmetric(self) -> None:
        inverse = 1 / self.root
        for start, end in self._blocks(channels=1):
            for index, shift in enumerate(self.shifts):
                stop = min(end, self.size - shift)
                if stop > start:
                    scale = inverse[..., start:stop] * inverse[..., start + shift : stop + shift]
                    self.weights[:, index, :, start:stop] *= scale.mul_(2)

    def _blocks(self, channels: int) -> list[tuple[int, int]]:
        """Ranges of pixels to handle at a time."""
        step = max(1, CPU_BLOCK // (self.batch * channels)) if self.on_cpu else self.size
        return [(start, min(self.size, start + step)) for start in range(0, self.size, step)]

    def _neighbours(self, source: Tensor, target: Tensor, start: int, end: int) -> Sums:
        """What adds ``2 S source`` without its diagonal to one block of ``target``."""
        sums: Sums = []
        for index, shift in enumerate(self.shifts):
            weight = self.weights[:, index]
            stop, first = min(end, self.size - shift), max(start, shift)
            if stop > start:
                ahead = source[..., start + shift : stop + shift]
                sums.append((target[..., start:stop], weight[..., start:stop], ahead))
            if end > first:
                back = slice(first - shift, end - shift)
                sums.append((target[..., first:end], weight[..., back], source[..., back]))
        return sums

    def _gathered(self) -> tuple[Tensor, Tensor]:
        """Weights ``(B, 2 P, size)`` of both half-planes, and where in a row padded at both ends each finds its value.

        For a GPU, where one sum over all neighbours is quicker than a launch for each.
        """
        forth = self.weights[:, :, 0]
        moved = zip(forth.unbind(1), self.shifts, strict=True)
        back = torch.stack([F.pad(one, (shift, 0))[..., : self.size] for one, shift in moved], 1)
        margin = max(self.shifts)
        shifts = torch.tensor([*self.shifts, *(-shift for shift in self.shifts)], device=forth.device)
        place = torch.arange(margin, margin + self.size, device=forth.device)
        return torch.cat([forth, back], 1), shifts[:, None] + place

    def _add_neighbours(self, source: Tensor, target: Tensor) -> None:
        for block in self._blocks(source.shape[1]):
            for into, weight, values in self._neighbours(source, target, *block):
                into.addcmul_(weight, values)

    def power(self, maps: Tensor, steps: int) -> Tensor:
        """``maps T^steps`` for maps ``(B, K, h, w)``."""
        degree = chebyshev_degree(steps, self.height * self.width, len(self.shifts))
        start = F.pad(maps, (0, self.padded - self.width)).flatten(2) * self.root
        result = self._sum_chebyshev(start, chebyshev_coefficients(steps)[: degree + 1])
        result = (result / self.root).view(*maps.shape[:2], self.height, self.padded)
        return result[..., : self.width].contiguous()

    def _sum_chebyshev(self, start: Tensor, coefficients: list[float]) -> Tensor:
        """``sum_k a_k T_k(S) start`` by ``T_{k+1} = 2 S T_k - T_{k-1}``; overwrites ``start``."""
        result = start * coefficients[0]
        if len(coefficients) == 1:
            return result
        before, now = start, start * self.own
        self._add_neighbours(before, now)
        now.mul_(0.5)
        result.add_(now, alpha=coefficients[1])
        if not self.on_cpu:
            return self._sum_gathered(before, now, result, coefficients)
        # Two buffers take turns and keep their place, so their views are made once.
        turns = [self._recurrence(now, before, result), self._recurrence(before, now, result)]
        for k, coefficient in enumerate(coefficients[2:]):
            for into, own, values, total, neighbours in turns[k % 2]:
                into.neg_().addcmul_(own, values)
                for part, weight, others in neighbours:
                    part.addcmul_(weight, others)
                if coefficient:
                    total.add_(into, alpha=coefficient)
        return result

    def _sum_gathered(self, before: Tensor, now: Tensor, result: Tensor, coefficients: list[float]) -> Tensor:
        weights, place = self._gathered()
        margin = max(self.shifts)
        for coefficient in coefficients[2:]:
            around = F.pad(now, (margin, margin))[..., place]  # (B, K, 2 P, size)
            after = torch.einsum("bkps,bps->bks", around, weights).addcmul_(self.own, now).sub_(before)
            before, now = now, after
            if coefficient:
                result.add_(now, alpha=coefficient)
        return result

    def _recurrence(
        self, now: Tensor, before: Tensor, result: Tensor
    ) -> list[tuple[Tensor, Tensor, Tensor, Tensor, Sums]]:
        """Per block the tensors of ``before <- 2 S now - before`` and ``result += a_k before``."""
        blocks = self._blocks(now.shape[1])
        cut = [(slice(None), slice(None), slice(*block)) for block in blocks]
        return [
            (before[at], self.own[at], now[at], result[at], self._neighbours(now, before, *block))
            for at, block in zip(cut, blocks, strict=True)
        ]


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
