"""Backbones by timm name: last features for class maps, a pyramid of depths for other heads."""

from __future__ import annotations

import difflib
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]  # exported, without saying so
from torch import Tensor, nn

from recamlabel.errors import ConfigError

# Depths that a network of equal blocks (a ViT) gives: after each quarter of them.
QUARTERS = 4


class Backbone(nn.Module):
    """A timm network without its classifier, batch-norm frozen.

    A vision transformer's patch tokens become a map: images are padded at the right and at the bottom to whole
    patches, position embeddings are interpolated, class and register tokens left out (by timm).

    Args:
        name: timm model name, for example ``"resnet50"`` or ``"vit_small_patch14_reg4_dinov2"``.
        output_stride: Image pixels per feature pixel; of a ViT its patch.
        frozen_stages: Stages after the stem (of a ViT blocks) whose weights are not trained; -1: none is. The stem
            itself never is (docs/method.md, 1: conv1 and bn1 frozen).

    Attributes:
        channels: D, channels of the last features.
        mean, std: Input normalisation, three numbers each for RGB in 0..1.

    Raises:
        ConfigError: Unknown name, a stride the network cannot have, a network whose last features are no
            (B, D, h, w) map, or one that takes images of one size only.

    Example:
        >>> backbone = Backbone("resnet18", output_stride=16)
        >>> backbone(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 512, 4, 4])
        >>> Backbone("vit_tiny_patch16_224")(torch.zeros(1, 3, 50, 70)).shape
        torch.Size([1, 192, 4, 5])
    """

    def __init__(self, name: str, output_stride: int = 16, frozen_stages: int = 0) -> None:
        super().__init__()
        self.name, self.output_stride = name, output_stride
        self.net = _create(name, output_stride)
        self.tokens = _has_tokens(self.net)
        # Networks that cut images into patches refuse what is not whole patches.
        self._padded = hasattr(self.net, "patch_embed")
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
        images = self._whole(images)
        if self.tokens:
            found = cast(Any, self.net).forward_intermediates(images, indices=1, norm=True, intermediates_only=True)
            return cast(Tensor, found[-1])
        features = cast(Tensor, cast(Any, self.net).forward_features(images))
        return features.permute(0, 3, 1, 2) if self._channels_last_output else features

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Features at every depth that changes stride or ends a stage, shallow to deep, each (B, C_i, h_i, w_i).

        Of a ViT, whose blocks are all alike, those after each quarter of its blocks.
        """
        ask = cast(Any, self.net).forward_intermediates
        return list(ask(self._whole(images), indices=self._depths, intermediates_only=True, norm=False))

    def all_depths(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Last features as :meth:`forward` gives them, and the :meth:`pyramid`, in one pass.

        The pyramid is empty for a network that timm cannot take apart.
        """
        net = cast(Any, self.net)
        if not hasattr(net, "forward_intermediates"):
            return cast(Tensor, self(images)), []
        if self.tokens:
            # What is behind the last block is its norm alone.
            pyramid = self.pyramid(images)
            return self._normed(pyramid[-1]), pyramid
        last, pyramid = net.forward_intermediates(self._whole(images), norm=False)
        return last.permute(0, 3, 1, 2) if self._channels_last_output else last, list(pyramid)

    @property
    def _depths(self) -> list[int] | None:
        if not self.tokens:
            return None
        count = len(cast(Any, self.net).blocks)
        return sorted({max(1, count * quarter // QUARTERS) - 1 for quarter in range(1, QUARTERS + 1)})

    def _normed(self, features: Tensor) -> Tensor:
        if hasattr(self.net, "neck"):  # of SAM's ViT
            return cast(Tensor, cast(Any, self.net).neck(features))
        norm = cast(Any, self.net).norm
        return cast(Tensor, norm(features.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)

    def _whole(self, images: Tensor) -> Tensor:
        """Images padded to whole patches with zeros, the mean of normalised pixels."""
        if not self._padded:
            return images
        height, width, stride = images.shape[2], images.shape[3], self.output_stride
        return F.pad(images, (0, -width % stride, 0, -height % stride))

    def rate_groups(self, lr: float, decay: float = 1.0) -> list[dict[str, Any]]:
        """What is trained, with its rates: ``lr`` for the deepest layer, ``decay`` times that for the one before it.

        Clark et al., "ELECTRA", ICLR 2020, appendix A; for ViTs Bao et al., "BEiT", ICLR 2022. Layers are timm's.

        Args:
            lr: > 0.
            decay: In (0, 1]; 1 gives one group.

        Example:
            >>> [group["lr"] for group in Backbone("vit_tiny_patch16_224").rate_groups(1.0, 0.5)][-2:]
            [0.5, 1.0]
        """
        if decay >= 1:
            parameters = [one for one in self.parameters() if one.requires_grad]
            return [{"params": parameters, "lr": lr}] if parameters else []
        rates: dict[float, list[nn.Parameter]] = {}
        for group in param_groups_layer_decay(self.net, weight_decay=0.0, layer_decay=decay):
            learnt = [one for one in group["params"] if one.requires_grad]
            if learnt:
                rates.setdefault(group["lr_scale"], []).extend(learnt)
        return [{"params": found, "lr": lr * scale} for scale, found in sorted(rates.items())]

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
                images = self._whole(torch.zeros(1, 3, 64, 96))
                features = self(images) if self.tokens else cast(Any, self.net).forward_features(images)
        except (AssertionError, RuntimeError) as error:
            raise ConfigError(
                f"backbone {self.name!r} takes images of one size only ({error}); choose another, such as a ViT "
                "(vit_*, deit_*, *_dinov2, *_dinov3), a Swin or a convolutional network"
            ) from None
        self.train(was_training)
        if features.ndim != 4:
            raise ConfigError(
                f"backbone {self.name!r} gives features of shape {tuple(features.shape)}; expected a (B, D, h, w) map, "
                "as convolutional networks, ViTs and Swin have"
            )
        if getattr(self.net, "output_fmt", "NCHW") == "NHWC":
            self._channels_last_output = True
            return int(features.shape[-1])
        return int(features.shape[1])

    def _freeze(self, stages: int) -> None:
        if stages < 0:
            self.requires_grad_(False)
            return
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for parameter in module.parameters():
                    parameter.requires_grad = False
        groups = group_parameters(self.net, cast(Any, self.net).group_matcher(coarse=True), reverse=True)
        by_name = dict(self.net.named_parameters())
        for name, group in groups.items():
            if group <= stages:
                by_name[name].requires_grad = False


def _has_tokens(net: nn.Module) -> bool:
    """Whether a network is a ViT: equal blocks of tokens, all on one grid."""
    reductions = {one["reduction"] for one in getattr(net, "feature_info", ())}
    return len(reductions) == 1 and hasattr(net, "patch_embed") and hasattr(net, "blocks")


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
    net = _of_any_size(name)
    stride = cast(Any, net).feature_info[-1]["reduction"] if hasattr(net, "feature_info") else None
    if stride != output_stride:
        raise ConfigError(
            f"backbone.output_stride: {name!r} cannot have output stride {output_stride}"
            + (f"; set backbone.output_stride={stride}" if stride else "")
        )
    return net


def _of_any_size(name: str) -> nn.Module:
    """The network with what lets it take images of any size, where it knows such an option."""
    try:
        return timm.create_model(name, num_classes=0, **(any_size(name) or {"dynamic_img_size": True}))
    except TypeError:
        return timm.create_model(name, num_classes=0)
