"""Backbones by timm name: last features for class maps, a pyramid of depths for other heads."""

from __future__ import annotations

import difflib
from typing import Any, cast

import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn

from recamlabel.errors import ConfigError


class Backbone(nn.Module):
    """A timm convolutional network without its classifier, batch-norm frozen.

    Args:
        name: timm model name, for example ``"resnet50"``.
        output_stride: Image pixels per feature pixel, 8, 16 or 32.
        frozen_stages: Stages after the stem whose weights are not trained. The stem itself
            never is (docs/method.md, 1: conv1 and bn1 frozen).

    Attributes:
        channels: D, channels of the last features.
        mean, std: Input normalisation, three numbers each for RGB in 0..1.

    Raises:
        ConfigError: Unknown name, a stride the network cannot have, or a network whose last
            features are not a (B, D, h, w) map.

    Example:
        >>> backbone = Backbone("resnet18", output_stride=16)
        >>> backbone(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 512, 4, 4])
    """

    def __init__(self, name: str, output_stride: int = 16, frozen_stages: int = 0) -> None:
        super().__init__()
        self.name, self.output_stride = name, output_stride
        self.net = _create(name, output_stride)
        settings: dict[str, Any] = self.pretrained_settings
        self.mean = tuple(float(value) for value in settings.get("mean", (0.485, 0.456, 0.406)))
        self.std = tuple(float(value) for value in settings.get("std", (0.229, 0.224, 0.225)))
        self.channels = self._probe_channels()
        self._freeze(frozen_stages)

    @property
    def pretrained_settings(self) -> dict[str, Any]:
        """What timm knows of the pretrained weights: ``mean``, ``std``, ``classifier`` …"""
        return dict(cast(Any, self.net).pretrained_cfg)

    def forward(self, images: Tensor) -> Tensor:
        """Last features: images (B, 3, H, W) normalised -> (B, D, ceil(H/s), ceil(W/s))."""
        features = cast(Tensor, cast(Any, self.net).forward_features(images))
        return features.permute(0, 3, 1, 2) if self._channels_last_output else features

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Features at every depth that changes stride or ends a stage, shallow to deep, each (B, C_i, h_i, w_i)."""
        return list(cast(Any, self.net).forward_intermediates(images, intermediates_only=True, norm=False))

    def all_depths(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Last features as :meth:`forward` gives them, and the :meth:`pyramid`, in one pass.

        The pyramid is empty for a network that timm cannot take apart.
        """
        net = cast(Any, self.net)
        if not hasattr(net, "forward_intermediates"):
            return cast(Tensor, self(images)), []
        last, pyramid = net.forward_intermediates(images, norm=False)
        return last.permute(0, 3, 1, 2) if self._channels_last_output else last, list(pyramid)

    def train(self, mode: bool = True) -> Backbone:
        """Training mode, except that batch-norm keeps its ImageNet statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def _probe_channels(self) -> int:
        self._channels_last_output = False
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                features = cast(Any, self.net).forward_features(torch.zeros(1, 3, 64, 64))
        except AssertionError as error:
            raise ConfigError(
                f"backbone {self.name!r} takes images of one size only ({error}); choose another"
            ) from None
        self.train(was_training)
        if features.ndim != 4:
            raise ConfigError(
                f"backbone {self.name!r} gives features of shape {tuple(features.shape)}; expected a (B, D, h, w) map, "
                "as convolutional networks and Swin have"
            )
        if getattr(self.net, "output_fmt", "NCHW") == "NHWC":
            self._channels_last_output = True
            return int(features.shape[-1])
        return int(features.shape[1])

    def _freeze(self, stages: int) -> None:
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for parameter in module.parameters():
                    parameter.requires_grad = False
        groups = group_parameters(self.net, cast(Any, self.net).group_matcher(coarse=True), reverse=True)
        by_name = dict(self.net.named_parameters())
        for name, group in groups.items():
            if group <= stages:
                by_name[name].requires_grad = False


def any_size(name: str) -> dict[str, Any]:
    """What timm has to be told so that a network takes images of any size."""
    return {"strict_img_size": False} if name.startswith(("swin_", "swinv2_")) else {}


def _create(name: str, output_stride: int) -> nn.Module:
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ConfigError(f"backbone.name: timm {timm.__version__} has no model {name!r}{hint}")
    try:
        return timm.create_model(name, num_classes=0, output_stride=output_stride)
    except (TypeError, RuntimeError, AssertionError, NotImplementedError):
        pass  # timm's four ways to refuse a stride; the net's own may be the one that is asked for
    net = timm.create_model(name, num_classes=0, **any_size(name))
    stride = cast(Any, net).feature_info[-1]["reduction"] if hasattr(net, "feature_info") else None
    if stride != output_stride:
        raise ConfigError(
            f"backbone.output_stride: {name!r} cannot have output stride {output_stride}"
            + (f"; set backbone.output_stride={stride}" if stride else "")
        )
    return net
