"""Training in bf16 on CPUs that compute in it: where it is quicker than float32, and nowhere else.

Autocast's bf16 makes a training step on a CPU slower, as the backward pass of a depthwise convolution takes twice as
long in it. Here the dense convolutions of a backbone (nearly all of them 1 x 1) and what passes between them are bf16,
the gradients of depthwise weights, sums over all pixels, float32; parameters, optimiser and heads stay float32, as in
Micikevicius et al., "Mixed Precision Training", ICLR 2018.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from recamlabel.core.devices import cpu_has_bf16
from recamlabel.models.backbones import Backbone
from recamlabel.models.layers.folded_norm import NormedConv2d, is_folded


class Bf16Backbone(Backbone):
    """A backbone whose convolutions work in bf16; its features are float32."""

    def forward(self, images: Tensor) -> Tensor:
        """As :meth:`Backbone.forward`."""
        return super().forward(images).float()

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """As :meth:`Backbone.pyramid`."""
        return [features.float() for features in super().pyramid(images)]

    def all_depths(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As :meth:`Backbone.all_depths`."""
        last, pyramid = super().all_depths(images)
        return last.float(), [features.float() for features in pyramid]


def _as_float32(module: nn.Module, inputs: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(one.float() if isinstance(one, Tensor) else one for one in inputs)


@contextmanager
def learning_in_bf16(net: nn.Module, device: torch.device, enabled: bool = True) -> Iterator[int]:
    """While it lasts, the folded convolutions of backbones work in bf16.

    Args:
        net: After :func:`recamlabel.models.layers.folded_norm.fold_norms`. Other layers with parameters stay float32.
        device: Nothing is changed on another than a CPU that computes in bf16.
        enabled: Whether bf16 is wanted.

    Yields:
        How many convolutions work in bf16.
    """
    usable = enabled and device.type == "cpu" and cpu_has_bf16()
    backbones = [module for module in net.modules() if type(module) is Backbone] if usable else []
    parts = [module for backbone in backbones for module in backbone.modules()]
    convolutions = [module for module in parts if type(module) is NormedConv2d]
    others = [module for module in parts if not is_folded(module) and list(module.parameters(recurse=False))]
    hooks = [module.register_forward_pre_hook(_as_float32) for module in others if convolutions]
    try:
        for conv in convolutions:
            conv.__dict__["in_bf16"] = True
        for backbone in backbones:
            backbone.__class__ = Bf16Backbone
        yield len(convolutions)
    finally:
        for conv in convolutions:
            conv.__dict__.pop("in_bf16", None)
        for backbone in backbones:
            backbone.__class__ = Backbone
        for hook in hooks:
            hook.remove()
