"""The contract of segmenters (``recamlabel.segmenters``)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from recamlabel.contracts.base import require
from recamlabel.models.backbones import Backbone
from recamlabel.models.segmenter import MULTIPLE


def check_segmenter(make: Callable[[Backbone, int], nn.Module], encoder: str = "resnet10t") -> None:
    """Make a network and train it for a few steps, and check what every segmenter promises.

    Args:
        make: The thing that the entry point names.
        encoder: Name of the backbone.

    Raises:
        ContractError: A promise is not kept: a module with an ``encoder``, which is the backbone or one of
            segmentation-models-pytorch; logits ``(B, outputs, H, W)`` of images whose sides 32 divides; no image
            changes another's; its parameters are reached by gradients, and it learns.

    Example:
        >>> from recamlabel.models.segmenter import SEGMENTERS
        >>> check_segmenter(SEGMENTERS["deeplabv2"])
    """
    torch.manual_seed(0)
    backbone = Backbone(encoder, frozen_stages=0)
    net = make(backbone, 2)
    require(isinstance(net, nn.Module), f"it gives a torch.nn.Module, found {type(net).__name__}")
    inner = getattr(net, "encoder", None)
    known = inner is backbone or isinstance(getattr(inner, "model", None), nn.Module)
    require(known, "encoder is the backbone that it was called with, or one of segmentation-models-pytorch")
    sides = (2 * MULTIPLE, 3 * MULTIPLE)
    images = torch.randn(2, 3, *sides)
    with torch.no_grad():
        logits = net.eval()(images)
        alone = net(images[:1])
    require(logits.shape == (2, 2, *sides), f"logits are (2, 2, {sides[0]}, {sides[1]}), found {tuple(logits.shape)}")
    require(torch.isfinite(logits).all(), "logits are finite numbers")
    require(torch.allclose(logits[:1], alone, atol=1e-4), "an image's logits do not depend on the others of its batch")
    _learns(net, images)


def _learns(net: nn.Module, images: torch.Tensor) -> None:
    """The right half is bright, and is the one class."""
    half = images.shape[3] // 2
    images, truth = images.clone(), torch.zeros(len(images), *images.shape[2:], dtype=torch.int64)
    images[..., half:] += 3
    truth[..., half:] = 1
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    losses = []
    # The statistics of two images are none; they stay those of the encoder, as they do in a run.
    net.eval()
    for _ in range(8):
        loss = nn.functional.cross_entropy(net(images), truth)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)  # as the trainings of `quick` do
        optimiser.step()
        losses.append(float(loss.detach()))
    require(any(one.grad is not None for one in net.parameters()), "gradients reach its parameters")
    require(losses[-1] < losses[0], f"it learns a bright half: loss {losses[0]:.3f} before, {losses[-1]:.3f} after")
