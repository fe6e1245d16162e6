"""Batch norm over the batch of all processes, while they train a network together.

A norm that learns would else normalise each process's part of a batch by that part's own statistics, and learn other
ones than a single process does. On GPUs it is PyTorch's ``SyncBatchNorm``, which there is for CUDA alone; on CPUs the
same sums go through gloo here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from recamlabel.core import ranks


class _Summed(torch.autograd.Function):
    """The sum over all ranks; every rank's loss depends on it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        return ranks.total(values)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return ranks.total(gradients[0])


def _summed(values: Tensor) -> Tensor:
    return cast(Tensor, _Summed.apply(values))


class SharedNorm2d(nn.BatchNorm2d):
    """``BatchNorm2d`` whose statistics in training are those of all ranks' images (Ioffe and Szegedy, ICML 2015)."""

    def forward(self, input: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        count = ranks.total(torch.tensor(float(values.numel() // values.shape[1]), dtype=torch.float64)).item()
        mean = _summed(values.sum(dim=(0, 2, 3))) / count  # (C)
        centred = values - mean[:, None, None]
        variance = _summed(centred.square().sum(dim=(0, 2, 3))) / count
        self._learn(mean.detach(), variance.detach() * (count / max(1.0, count - 1)))
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        result = centred * scale[:, None, None]
        return (result + self.bias[:, None, None] if self.affine else result).to(input.dtype)

    @torch.no_grad()
    def _learn(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


@contextmanager
def shared_norms(module: nn.Module) -> Iterator[int]:
    """While it lasts, the norms of a network that learn do so over all processes; gives how many there are.

    Those in evaluation mode, which keep the statistics that they came with, stay as they are.
    """
    norms = [one for one in module.modules() if type(one) is nn.BatchNorm2d and one.training]
    learning = norms if ranks.world() > 1 else []
    for one in learning:
        cuda = next(one.parameters(), torch.empty(0)).is_cuda
        one.__class__ = cast(type[nn.BatchNorm2d], nn.SyncBatchNorm if cuda else SharedNorm2d)
        one.__dict__.setdefault("process_group", None)
    try:
        yield len(learning)
    finally:
        for one in learning:
            one.__class__ = nn.BatchNorm2d
