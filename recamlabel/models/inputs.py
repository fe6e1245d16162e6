"""Images of any size as network inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recamlabel.core.devices import autocast
from recamlabel.data.batches import Normalisation, resize

LARGEST_REDUCTION = 8


def working_size(height: int, width: int, max_side: int) -> tuple[int, int]:
    """Image size with its long side brought down to ``max_side`` where it is above.

    Example:
        >>> working_size(3000, 4000, 640), working_size(10, 20, 640)
        ((480, 640), (10, 20))
    """
    scale = min(1.0, max_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


class Pixels:
    """B images ``(H, W, 3) uint8`` of one size as network inputs of any size, on the network's device.

    On a GPU the images are copied there once and resized there: bicubic with antialiasing as on the CPU, but for
    rounding (by one grey level).

    Args:
        images: All of one size.
        normalisation: Of the inputs.
        device: Where the network is.

    Example:
        >>> plain = Normalisation((0.0,) * 3, (1.0,) * 3)
        >>> Pixels([np.full((4, 6, 3), 255, np.uint8)], plain, torch.device("cpu")).at(2, 3).amin().item()
        1.0
    """

    def __init__(self, images: Sequence[np.ndarray], normalisation: Normalisation, device: torch.device) -> None:
        self.images, self.normalisation, self.device = images, normalisation, device
        self._there: Tensor | None = None
        if device.type != "cpu":
            copied = torch.from_numpy(np.stack(images)).to(device, non_blocking=True)
            self._there = copied.permute(0, 3, 1, 2).float()
            both = torch.tensor([normalisation.mean, normalisation.std])
            self._mean, self._std = both.to(device, non_blocking=True).view(2, 3, 1, 1)

    def at(self, height: int, width: int) -> Tensor:
        """``(B, 3, height, width) float32``, channels-last."""
        if self._there is None:
            arrays = [self.normalisation.apply(resize(image, height, width)) for image in self.images]
            return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
        scaled = resized(self._there, height, width).div(255)
        return scaled.sub_(self._mean).div_(self._std).contiguous(memory_format=torch.channels_last)


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """``(B, 3, H, W) float32`` in 0..255 to whole numbers of ``(B, 3, height, width)``, as Pillow's bicubic filter.

    Example:
        >>> resized(torch.full((1, 3, 40, 80), 7.0), 2, 4).unique().tolist()
        [7.0]
    """
    if images.shape[2:] == (height, width):
        return images
    # Of an image many times too large whole blocks are averaged first: the filter's support has a limit on a GPU.
    block = int(min(images.shape[2] / height, images.shape[3] / width) / LARGEST_REDUCTION)
    if block > 1:
        images = F.avg_pool2d(images, block, ceil_mode=True, count_include_pad=False)
    scaled = F.interpolate(images, (height, width), mode="bicubic", align_corners=False, antialias=True)
    return scaled.round_().clamp_(0, 255)


@torch.no_grad()
def run_network(
    net: Callable[[Tensor], Tensor],
    images: Sequence[np.ndarray],
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
    inputs = Pixels(images, normalisation, device).at(*size)  # (B, 3, height, width)
    with autocast(device, amp):
        return net(inputs.contiguous(memory_format=torch.channels_last))
