"""Images of any size as network inputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from recamlabel.core.devices import autocast
from recamlabel.data.batches import Normalisation, resize


def working_size(height: int, width: int, max_side: int) -> tuple[int, int]:
    """Image size with its long side brought down to ``max_side`` where it is above.

    Example:
        >>> working_size(3000, 4000, 640), working_size(10, 20, 640)
        ((480, 640), (10, 20))
    """
    scale = min(1.0, max_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def scaled_inputs(images: list[np.ndarray], height: int, width: int, normalisation: Normalisation) -> Tensor:
    """Network input ``(B, 3, height, width) float32`` from B images ``(H, W, 3) uint8``."""
    arrays = [normalisation.apply(resize(image, height, width)) for image in images]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)


@torch.no_grad()
def run_network(
    net: Callable[[Tensor], Tensor],
    images: list[np.ndarray],
    size: tuple[int, int],
    normalisation: Normalisation,
    device: torch.device,
    amp: bool,
) -> Tensor:
    """The output of a network for B images ``(H, W, 3) uint8`` at one input size.

    Args:
        net: In eval mode, on ``device``.
        images: All of one size.
        size: Height and width of the input, pixels.
        normalisation: Of the input.
        device: Where the network is.
        amp: bf16 autocast on CUDA.
    """
    inputs = scaled_inputs(images, *size, normalisation).to(device)  # (B, 3, height, width)
    with autocast(device, amp):
        return net(inputs.contiguous(memory_format=torch.channels_last))
