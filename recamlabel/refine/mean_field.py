"""Mean-field inference of the dense CRF with Potts terms, in PyTorch, for any number of unaries at once.

Source: Kraehenbuehl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NeurIPS
2011, algorithm 1; symmetric normalisation and constants as in their published code.

**Form.** With Potts compatibility a label's message is ``w (K Q_l)``. The messages of all labels sum to ``w K 1``,
known beforehand, so the first label (background) is not filtered: what counts is every other label's *log-odds*
against it,

``z_l = u_0 - u_l + sum_k w_k (K_k Q_l - K_k Q_0)`` with ``K Q_0 = K 1 - sum_l K Q_l``,

from which ``Q_l = e^z_l / (1 + sum_m e^z_m)``. All unaries (the background levels of one image) are channels of one
filter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recamlabel.refine.permutohedral import Lattice

# e^80 times a million labels is within float32; a probability of e^-80 is 0.
LARGEST_LOG_ODDS = 80.0

Term = tuple[float, Lattice]
"""A pairwise term: its weight and its filter."""


def pairwise_terms(image: Tensor, gaussian: tuple[float, float], bilateral: tuple[float, float, float]) -> list[Term]:
    """The smoothness and the appearance term of one image; terms of weight 0 are left out.

    Args:
        image: ``(H, W, 3)``, RGB in 0..255, on the device where inference is to run.
        gaussian: Standard deviation in pixels, weight.
        bilateral: Standard deviation in pixels, in grey levels, weight.

    Raises:
        RecamlabelError: Kernels too narrow for the image's size.
    """
    height, width = image.shape[:2]
    rows = torch.arange(height, device=image.device, dtype=torch.float32)
    columns = torch.arange(width, device=image.device, dtype=torch.float32)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    place = torch.stack([x, y], -1).reshape(-1, 2)
    terms = []
    if gaussian[1] > 0:
        terms.append((gaussian[1], Lattice(place / gaussian[0])))
    if bilateral[2] > 0:
        colour = image.reshape(-1, 3).float()
        terms.append((bilateral[2], Lattice(torch.cat([place / bilateral[0], colour / bilateral[1]], 1))))
    return terms


@torch.inference_mode()
def log_odds(start: Tensor, terms: Sequence[Term], iterations: int) -> Tensor:
    """Log-odds against the first label after mean-field inference.

    Args:
        start: ``(N, L - 1, T) float32``: log-odds of T unaries of N pixels, ``u_0 - u_l``; L >= 2. Not changed.
        terms: Weights and filters of N pixels.
        iterations: How often messages are passed, >= 0.

    Returns:
        ``(N, L - 1, T) float32`` within ±80.

    Example:
        >>> filter = Lattice(torch.zeros(3, 1))
        >>> start = torch.tensor([1.0, 1.0, -1.0]).view(3, 1, 1)
        >>> log_odds(start, [(10.0, filter)], 5).sign().flatten().tolist()  # two of three carry the third with them
        [1.0, 1.0, 1.0]
    """
    pixels, others, unaries = start.shape
    fixed = start.clone()
    for weight, lattice in terms:
        fixed -= weight * lattice.row_sums[:, None, None]
    fixed, z = fixed.contiguous(), start.clamp(-LARGEST_LOG_ODDS, LARGEST_LOG_ODDS).contiguous()
    for _ in range(iterations):
        shares = probabilities(z).view(pixels, others * unaries)
        z = fixed.clone()
        for weight, lattice in terms:
            message = lattice.filter(shares).view(pixels, others, unaries)
            z.add_(message, alpha=weight)
            # A sum over an axis of 1 to 3 is slow; adding slices is not.
            total = message[:, 0] if others == 1 else _sum_of_slices(message)
            z.add_(total[:, None], alpha=weight)
        z.clamp_(-LARGEST_LOG_ODDS, LARGEST_LOG_ODDS)
    return z


def probabilities(z: Tensor) -> Tensor:
    """``e^z_l / (1 + sum_m e^z_m)``, ``(N, L - 1, T)`` of log-odds of the same shape: all labels but the first.

    Example:
        >>> probabilities(torch.zeros(1, 3, 1)).flatten().tolist()
        [0.25, 0.25, 0.25]
    """
    odds = z.exp()
    return odds.div_(_sum_of_slices(odds).add_(1)[:, None])


def _sum_of_slices(values: Tensor) -> Tensor:
    total = values[:, 0].clone()
    for index in range(1, values.shape[1]):
        total += values[:, index]
    return total
