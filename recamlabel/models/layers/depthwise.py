"""Depthwise convolutions whose input gradient is a convolution forward: the same numbers, a tenth of the time on a CPU.

oneDNN's backward of a depthwise convolution costs some fifteen times its forward (half of a training step of an
EfficientNet). With stride 1 the gradient of the input is the convolution of the output's gradient with the mirrored
kernel (Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, section 4.3),
which is as quick as the forward.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        padding: tuple[int, int],
        dilation: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.padding, ctx.dilation = padding, dilation
        return F.conv2d(images, weight, bias, 1, padding, dilation, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        gradient, groups = gradients[0], weight.shape[0]
        of_images = of_weight = None
        if ctx.needs_input_grad[0]:
            sides = zip(ctx.dilation, weight.shape[2:], ctx.padding, strict=True)
            padding = tuple(spread * (side - 1) - pad for spread, side, pad in sides)
            of_images = F.conv2d(gradient, weight.flip(-2, -1), None, 1, padding, ctx.dilation, groups)
        if ctx.needs_input_grad[1]:
            options = (None, (1, 1), ctx.padding, ctx.dilation, False, (0, 0), groups, (False, True, False))
            of_weight = torch.ops.aten.convolution_backward(gradient, images, weight, *options)[1]
        return of_images, of_weight, None, None, None


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise :class:`torch.nn.Conv2d` of stride 1 with the quick gradient; the same parameters and results.

    Example:
        >>> plain = nn.Conv2d(2, 2, 3, padding=1, groups=2, bias=False)
        >>> torch.equal(DepthwiseConv2d.forward(plain, torch.ones(1, 2, 4, 4)), plain(torch.ones(1, 2, 4, 4)))
        True
    """

    def forward(self, input: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C, H', W')``."""
        if not input.requires_grad or input.is_cuda:
            return F.conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        return quick_depthwise(input, self.weight, None, self)


def quick_depthwise(images: Tensor, weight: Tensor, bias: Tensor | None, like: nn.Conv2d) -> Tensor:
    """Depthwise convolution of stride 1 with the quick gradient; none goes to ``bias``.

    Args:
        images: ``(B, C, H, W)``.
        weight: ``(C, 1, k, k)``.
        bias: ``(C,)``, constant.
        like: Has the padding and the dilation.
    """
    padding, dilation = cast(tuple[int, int], like.padding), cast(tuple[int, int], like.dilation)
    return cast(Tensor, _Depthwise.apply(images, weight, bias, padding, dilation))


def quicken_depthwise(net: nn.Module) -> int:
    """Give every depthwise convolution of stride 1 its quick gradient, in place; returns how many there were."""
    quick = [module for module in net.modules() if type(module) is nn.Conv2d and takes_quick_gradient(module)]
    for module in quick:
        module.__class__ = DepthwiseConv2d
    return len(quick)


def takes_quick_gradient(module: nn.Conv2d) -> bool:
    """Whether it is a depthwise convolution of a kind that the quick gradient is right for.

    Example:
        >>> takes_quick_gradient(nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)), takes_quick_gradient(
        ...     nn.Conv2d(4, 4, 3, padding=1, bias=False)
        ... )
        (True, False)
    """
    if isinstance(module.padding, str) or module.bias is not None or module.padding_mode != "zeros":
        return False
    depthwise = module.groups == module.in_channels == module.out_channels > 1
    sides = zip(module.dilation, module.kernel_size, module.padding, strict=True)
    fits = all(pad <= spread * (side - 1) for spread, side, pad in sides)
    return depthwise and fits and tuple(module.stride) == (1, 1)
