"""Gradients and figures of a batch that several processes have a part of each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recamlabel.core import ranks


def share_gradients(module: nn.Module, figures: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replace the gradients by their mean over all ranks, in one exchange; nothing where this process works alone.

    Losses divide by :func:`recamlabel.core.ranks.batch_total`, so that this mean is the gradient of the whole batch's
    loss. Not ``DistributedDataParallel``: a loss here asks several parts of a module, one of which may be recorded on
    the GPU (:mod:`recamlabel.training.recorded`) and gets its gradients outside of autograd, whose hooks that wrapper
    counts on.

    Args:
        module: What is trained. Parameters without a gradient have none on any rank, as the same code ran.
        figures: Scalars of this rank's part.

    Returns:
        The figures of the whole batch.
    """
    if ranks.world() == 1:
        return figures
    gradients = [one.grad for one in module.parameters() if one.grad is not None]
    rows = [part.float().reshape(-1) for part in (*gradients, *figures.values())]
    mean = ranks.total(torch.cat(rows)) / ranks.world()
    pieces = torch.split(mean, [len(row) for row in rows])
    for gradient, piece in zip(gradients, pieces, strict=False):
        gradient.copy_(piece.view_as(gradient))
    return dict(zip(figures, (piece[0] for piece in pieces[len(gradients) :]), strict=True))
