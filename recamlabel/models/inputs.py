"""Images of any size as network inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recamlabel.core.devices import looking
from recamlabel.data.batches import Normalisation, normalise_, resize

LARGEST_REDUCTION = 8
# What is not in an image's pixels is not to be found in more of them.
MOST_ENLARGED = 3.0
# Pixels; twice the usual output stride.
STEP = 32
# Pixels of a tile and of its margin: whole multiples of the strides that networks have.
TILE, OVERLAP = 1024, 128


def input_size(shape: tuple[int, ...], max_side: int, device: torch.device) -> tuple[int, int]:
    """Height and width at which an image of a shape is looked at, at scale 1.

    On a GPU whole multiples of 32 pixels: images of nearly one size share a batch, which is ten times as fast as one
    at a time, and their aspect changes by a few per cent at most.

    Example:
        >>> [input_size((300, 401, 3), 640, torch.device(name)) for name in ("cpu", "cuda")]
        [(300, 401), (288, 416)]
    """
    height, width = working_size(shape[0], shape[1], max_side)
    if device.type == "cpu":
        return height, width
    return _in_steps(height), _in_steps(width)


def _in_steps(side: int) -> int:
    return max(STEP, round(side / STEP) * STEP) if side >= STEP else side


def working_size(height: int, width: int, max_side: int) -> tuple[int, int]:
    """Image size with its long side brought down to ``max_side`` where it is above.

    Example:
        >>> working_size(3000, 4000, 640), working_size(10, 20, 640)
        ((480, 640), (10, 20))
    """
    scale = min(1.0, max_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def scaled_size(shape: tuple[int, ...], side: int, device: torch.device) -> tuple[int, int]:
    """Height and width with the long side brought to ``side``, up or down, by at most ``MOST_ENLARGED``.

    Example:
        >>> [scaled_size(shape, 400, torch.device("cpu")) for shape in ((100, 200, 3), (3000, 4000, 3), (30, 40, 3))]
        [(200, 400), (300, 400), (90, 120)]
    """
    scale = min(MOST_ENLARGED, side / max(shape[:2]))
    height, width = (max(1, round(length * scale)) for length in shape[:2])
    return (height, width) if device.type == "cpu" else (_in_steps(height), _in_steps(width))


class Pixels:
    """B images ``(H, W, 3) uint8`` as network inputs of any size, on the network's device.

    On a GPU the images, which may differ in size, are copied there once and resized there: bicubic with antialiasing
    as on the CPU, but for rounding (by one grey level or two).

    Args:
        images: The images.
        normalisation: Of the inputs.
        device: Where the network is.

    Example:
        >>> plain = Normalisation((0.0,) * 3, (1.0,) * 3)
        >>> Pixels([np.full((4, 6, 3), 255, np.uint8)], plain, torch.device("cpu")).at(2, 3).amin().item()
        1.0
    """

    def __init__(self, images: Sequence[np.ndarray], normalisation: Normalisation, device: torch.device) -> None:
        self.images, self.normalisation, self.device = images, normalisation, device
        self._there: list[Tensor] = []
        if device.type != "cpu":
            # Equal sizes, the usual case, are copied and resized together.
            equal = len({image.shape for image in images}) == 1
            for stack in [np.stack(images)] if equal else [image[None] for image in images]:
                copied = torch.from_numpy(stack).to(device, non_blocking=True)
                self._there.append(copied.permute(0, 3, 1, 2).float())
            self._normalisation = normalisation.tensor().to(device, non_blocking=True)

    def at(self, height: int, width: int) -> Tensor:
        """``(B, 3, height, width) float32``, channels-last."""
        if not self._there:
            arrays = [self.normalisation.apply(resize(image, height, width)) for image in self.images]
            return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
        # `cat` copies: what is held stays as it is.
        scaled = torch.cat([resized(part, height, width) for part in self._there])
        return normalise_(scaled, self._normalisation).contiguous(memory_format=torch.channels_last)


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
        amp: bf16 where the device is quick at it.
    """
    inputs = Pixels(images, normalisation, device).at(*size)  # (B, 3, height, width)
    with looking(device, amp):
        return net(inputs.contiguous(memory_format=torch.channels_last))


@torch.no_grad()
def run_in_tiles(
    net: Callable[[Tensor], Tensor],
    images: Sequence[np.ndarray],
    size: tuple[int, int],
    stride: int,
    normalisation: Normalisation,
    device: torch.device,
    amp: bool,
) -> Tensor:
    """As :func:`run_network`, on the CPU; a large input is looked at in overlapping tiles, in bounded memory.

    Tiles are whole multiples of the network's stride apart, so that their grids of features are one grid, and each
    gives what lies ``OVERLAP`` pixels within it: positions whose surroundings it has not cut off.

    Args:
        net: In eval mode, on ``device``; gives ``(B, D, ceil(height / stride), ceil(width / stride))``.
        images: All of one size.
        size: Height and width of the input, pixels.
        stride: Pixels between two positions of the output.
        normalisation: Of the input.
        device: Where the network is.
        amp: bf16 where the device is quick at it.
    """
    return in_tiles(net, Pixels(images, normalisation, device).at(*size), stride, device, amp)


def in_tiles(net: Callable[[Tensor], Tensor], inputs: Tensor, stride: int, device: torch.device, amp: bool) -> Tensor:
    """:func:`run_in_tiles` of inputs ``(B, 3, height, width)`` that are normalised; without gradients."""
    if inputs.shape[2] * inputs.shape[3] <= TILE**2:
        with looking(device, amp):
            return net(inputs.contiguous(memory_format=torch.channels_last)).cpu()
    rows = []
    for top, bottom, first, last in tiles(inputs.shape[2], stride):
        row = []
        for left, right, start, stop in tiles(inputs.shape[3], stride):
            part = inputs[..., top:bottom, left:right].contiguous(memory_format=torch.channels_last)
            with looking(device, amp):
                row.append(net(part)[..., first:last, start:stop].half().cpu())
        rows.append(torch.cat(row, dim=3))
    return torch.cat(rows, dim=2).float()


def tiles(length: int, stride: int) -> list[tuple[int, int, int | None, int | None]]:
    """Start and stop of each tile along a side, in pixels, and of what it gives, in positions of its features.

    Example:
        >>> tiles(1000, 16)
        [(0, 1000, None, None)]
        >>> tiles(1800, 16)
        [(0, 1024, None, 56), (768, 1792, 8, 56), (1536, 1800, 8, None)]
    """
    step, inner = TILE - 2 * OVERLAP, OVERLAP // stride
    if length <= TILE:
        return [(0, length, None, None)]
    starts = list(range(0, length - 2 * OVERLAP, step))
    ends = [start == starts[-1] for start in starts]
    return [
        (start, length if end else start + TILE, inner if start else None, None if end else TILE // stride - inner)
        for start, end in zip(starts, ends, strict=True)
    ]
