"""Batch norm that always keeps its statistics, as part of the convolution before it: a pass over the pixels less.

A backbone's batch norm is frozen (docs/method.md, 1), so ``norm(conv(x, w))`` is ``conv(x, w * scale) + shift`` with
``scale = weight / sqrt(var + eps)`` and ``shift = bias - mean * scale`` per channel. The convolution scales its weight
anew in every pass, so that training has the same gradients, files the same names, and loading works as before.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from recamlabel.models.backbones import Backbone
from recamlabel.models.layers.depthwise import DepthwiseConv2d, quick_depthwise, takes_quick_gradient

# Of the largest value: what rounding makes of some fifty layers, and far below what a wrong pair would make.
TOLERANCE = 1e-3


class NormedConv2d(nn.Conv2d):
    """A convolution that does the work of the batch norm after it; the same parameters."""

    def forward(self, input: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C', H', W')``, normalised."""
        (norm,) = self.__dict__["norm_after"]
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()  # (C')
        weight = self.weight * scale[:, None, None, None]
        shift = norm.bias - norm.running_mean * scale
        if self.bias is not None:
            shift = shift + self.bias * scale
        if input.requires_grad and not input.is_cuda and takes_quick_gradient(self):
            return quick_depthwise(input, weight, shift, self)
        return F.conv2d(input, weight, shift, self.stride, self.padding, self.dilation, self.groups)


class _PassedNorm(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return input


class _PassedNormAct(BatchNormAct2d):
    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.act(self.drop(x)))


_PASSED: dict[type, type] = {nn.BatchNorm2d: _PassedNorm, BatchNormAct2d: _PassedNormAct}


def fold_norms(net: nn.Module) -> int:
    """Let the convolutions of every :class:`Backbone` in a network do the work of their batch norms, in place.

    A pair is found by running the backbone: a norm whose input is the output of a convolution. Where the outcome is
    another one afterwards (a network that uses the convolution's output twice), nothing is changed.

    Args:
        net: Any module, on any device.

    Returns:
        How many pairs there were.

    Example:
        >>> fold_norms(Backbone("resnet18"))
        20
    """
    backbones = [module for module in net.modules() if isinstance(module, Backbone)]
    return sum(_fold(backbone) for backbone in backbones)


@torch.no_grad()
def _fold(backbone: Backbone) -> int:
    was_training, device = backbone.training, next(backbone.parameters()).device
    backbone.eval()
    probe = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(device)
    try:
        pairs = _pairs(backbone, probe)
        if not pairs:
            return 0
        before = _outputs(backbone, probe)
        for conv, norm in pairs:
            conv.__dict__["norm_after"] = (norm,)
            conv.__dict__["class_before"] = type(conv)
            conv.__class__ = NormedConv2d
            norm.__class__ = _PASSED[type(norm)]
        if _differ(before, _outputs(backbone, probe)):
            _unfold(pairs)
            return 0
        return len(pairs)
    finally:
        backbone.train(was_training)


def _unfold(pairs: list[tuple[nn.Conv2d, nn.Module]]) -> None:
    plain = {passed: norm for norm, passed in _PASSED.items()}
    for conv, norm in pairs:
        conv.__class__ = conv.__dict__.pop("class_before")
        del conv.__dict__["norm_after"]
        norm.__class__ = plain[type(norm)]


def _pairs(backbone: Backbone, probe: Tensor) -> list[tuple[nn.Conv2d, nn.Module]]:
    """Convolutions whose output is the next norm's input, in one run."""
    made_by: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # the tensor is kept, so that its id is not given out again
    uses: dict[int, int] = {}
    pairs: list[tuple[nn.Conv2d, nn.Module]] = []

    def after(module: nn.Module, inputs: Any, output: Tensor) -> None:
        conv = cast(nn.Conv2d, module)
        made_by[id(output)] = (conv, output)
        uses[id(conv)] = uses.get(id(conv), 0) + 1

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in made_by:
            pairs.append((made_by[id(inputs[0])][0], module))

    hooks = []
    for module in backbone.modules():
        if type(module) in (nn.Conv2d, DepthwiseConv2d) and cast(nn.Conv2d, module).padding_mode == "zeros":
            hooks.append(module.register_forward_hook(after))
        elif type(module) in _PASSED and _is_plain(cast(nn.BatchNorm2d, module)):
            hooks.append(module.register_forward_pre_hook(before))
    try:
        backbone(probe)
    finally:
        for hook in hooks:
            hook.remove()
    return [(conv, norm) for conv, norm in pairs if uses[id(conv)] == 1]


def _is_plain(norm: nn.BatchNorm2d) -> bool:
    frozen = all(not parameter.requires_grad for parameter in norm.parameters())
    return norm.affine and norm.track_running_stats and frozen


def _outputs(backbone: Backbone, probe: Tensor) -> list[Tensor]:
    last, pyramid = backbone.all_depths(probe)
    return [backbone(probe), last, *pyramid]


def _differ(before: list[Tensor], after: list[Tensor]) -> bool:
    return any(
        not torch.allclose(one, two, rtol=0, atol=TOLERANCE * max(float(one.abs().max()), 1e-6))
        for one, two in zip(before, after, strict=True)
    )
