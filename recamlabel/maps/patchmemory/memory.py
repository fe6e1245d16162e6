"""Which patches of the normal images are remembered, and how far other patches are from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Rows that the coreset is chosen from, for each row that it has: PatchCore keeps 1 to 25 % of its patches.
CANDIDATES = 8
# Dimensions that the coreset is chosen in (Johnson and Lindenstrauss 1984); the distances keep all.
PROJECTED = 64
# Similarities that are computed at a time: 64 MB.
SIMILARITIES = 1 << 24


@dataclass(frozen=True)
class PatchMemory:
    """Patches of normal images.

    Attributes:
        patches: ``(M, D) float32`` of unit length.
        images: ``(M,) int64``, the number of the image that each is from.
    """

    patches: Tensor
    images: Tensor

    def distances(self, features: Tensor, images: Tensor | None = None) -> Tensor:
        """``d(f) = 1 - max_m cos(f, m)``: the cosine distance to the nearest patch (AnomalyDINO, equation 1).

        Args:
            features: ``(N, D) float32`` of unit length.
            images: ``(N,)``: patches of the memory that are from the same image are passed over.

        Returns:
            ``(N,) float32`` in [0, 2]; infinity where all patches are passed over.

        Example:
            >>> memory = PatchMemory(torch.eye(2), torch.tensor([0, 1]))
            >>> memory.distances(torch.tensor([[1.0, 0.0], [0.6, 0.8]])).round(decimals=1).tolist()
            [0.0, 0.20000000298023224]
            >>> memory.distances(torch.eye(2), torch.tensor([0, 0])).tolist()
            [1.0, 0.0]
        """
        rows = max(1, SIMILARITIES // max(1, len(self.patches)))
        found = []
        for start in range(0, len(features), rows):
            similar = features[start : start + rows] @ self.patches.T
            if images is not None:
                similar.masked_fill_(images[start : start + rows, None] == self.images[None], -math.inf)
            found.append((1 - similar.max(dim=1).values).clamp(min=0))
        return torch.cat(found) if found else features.new_zeros(0)


class Reservoir:
    """A uniform sample of the rows of a stream, in bounded memory.

    Every row gets a random key, and the rows with the smallest keys stay (Efraimidis and Spirakis, "Weighted random
    sampling with a reservoir", 2006, with equal weights).

    Args:
        size: Rows that stay, at least 1.
        generator: Of the keys; on the CPU.

    Attributes:
        rows: ``(n, D)``, n at most ``size``, in the order in which they came.
        images: ``(n,) int64``, the number of each row's image.

    Example:
        >>> kept = Reservoir(3, torch.Generator().manual_seed(0))
        >>> for image in range(4):
        ...     kept.add(torch.full((2, 1), float(image)), image)
        >>> kept.rows.shape, kept.images.tolist() == kept.rows[:, 0].tolist()
        (torch.Size([3, 1]), True)
    """

    def __init__(self, size: int, generator: torch.Generator) -> None:
        self.size, self.generator = size, generator
        self.rows, self.images, self._keys = torch.empty(0), torch.empty(0, dtype=torch.int64), torch.empty(0)

    def add(self, rows: Tensor, image: int) -> None:
        """Offer the ``(n, D)`` rows of one image."""
        keys = torch.rand(len(rows), generator=self.generator).to(rows.device)
        numbers = torch.full((len(rows),), image, device=rows.device)
        if len(self._keys):
            rows, keys = torch.cat([self.rows, rows]), torch.cat([self._keys, keys])
            numbers = torch.cat([self.images, numbers])
        if len(keys) > self.size:
            kept = keys.topk(self.size, largest=False).indices.sort().values
            rows, keys, numbers = rows[kept], keys[kept], numbers[kept]
        self.rows, self._keys, self.images = rows, keys, numbers


def coreset(rows: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Rows that leave none of the others far from all of them: each next one is the farthest from those before.

    Greedy k-centre in a random projection (PatchCore, algorithm 1).

    Args:
        rows: ``(N, D)``, N at least 1.
        size: How many are wanted.
        generator: Of the projection and of the first row; on the CPU.

    Returns:
        ``(M,) int64`` positions, M at most ``size``; fewer where all others are equal to a chosen one.

    Example:
        >>> rows = torch.tensor([[0.0], [0.1], [5.0], [9.0]])
        >>> sorted(coreset(rows, 3, torch.Generator().manual_seed(0)).tolist())[-2:]
        [2, 3]
        >>> len(coreset(torch.ones(5, 2), 3, torch.Generator()))
        1
    """
    if rows.shape[1] > PROJECTED:
        projection = torch.randn(rows.shape[1], PROJECTED, generator=generator) / math.sqrt(PROJECTED)
        rows = rows @ projection.to(rows)
    chosen = [int(torch.randint(len(rows), (1,), generator=generator))]
    nearest = (rows - rows[chosen[0]]).square().sum(dim=1)
    while len(chosen) < min(size, len(rows)):
        farthest = int(nearest.argmax())
        if not float(nearest[farthest]) > 0:
            break
        chosen.append(farthest)
        nearest = torch.minimum(nearest, (rows - rows[farthest]).square().sum(dim=1))
    return torch.tensor(chosen, device=rows.device)


def remember(kept: Reservoir, size: int) -> PatchMemory:
    """The coreset of a sample."""
    chosen = coreset(kept.rows, size, kept.generator)
    return PatchMemory(kept.rows[chosen], kept.images[chosen])


def normal_distances(memory: PatchMemory, kept: Reservoir, limit: int) -> Tensor:
    """How far patches of normal images are from the memory of the *other* normal images.

    Args:
        memory: Of ``kept``.
        kept: The sample that it was chosen from.
        limit: Most rows to ask about, spread evenly.

    Returns:
        ``(n,) float32``; with a single image, which no other can speak for, of its own rows that were not chosen. May
        be empty.
    """
    step = max(1, math.ceil(len(kept.rows) / limit))
    rows, images = kept.rows[::step], kept.images[::step]
    if bool((kept.images != kept.images[0]).any()):
        found = memory.distances(rows, images)
        return found[found.isfinite()]
    found = memory.distances(rows)
    return found[found > 1e-6]
