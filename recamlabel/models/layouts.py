"""Checkpoints in the layouts that they are published in, as timm has them, and what a checkpoint looks like."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

# torchvision's ViT (torchvision/models/vision_transformer.py) to timm's, first match.
TORCHVISION_VIT = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.ln_(\d)\.", r"blocks.\1.norm\2."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_", r"blocks.\1.attn.qkv."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\.", r"blocks.\1.attn.proj."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:0|linear_1)\.", r"blocks.\1.mlp.fc1."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:3|linear_2)\.", r"blocks.\1.mlp.fc2."),
    (r"^encoder\.ln\.", "norm."),
    (r"^heads\.(?:head\.)?", "head."),
)
# What training wrappers put before every name.
WRAPPERS = ("module.", "backbone.")
# A tensor by which a family is known, and its name; the first that is there.
FAMILIES = (
    ("conv_proj.weight", "a ViT of torchvision"),
    ("image_encoder.patch_embed.proj.weight", "a whole SAM"),
    ("register_tokens", "a DINOv2 ViT with registers"),
    ("storage_tokens", "a DINOv3 ViT"),
    ("reg_token", "a ViT of timm with registers"),
    ("mask_token", "a DINOv2 ViT"),
    ("layers.0.blocks.0.attn.relative_position_bias_table", "a Swin"),
    ("patch_embed.proj.weight", "a ViT"),
    ("conv_stem.weight", "an EfficientNet or MobileNet of timm"),
    ("downsample_layers.0.0.weight", "a ConvNeXt"),
    ("stem.0.weight", "a ConvNeXt of timm"),
    ("layer1.0.conv3.weight", "a ResNet with bottlenecks"),
    ("layer1.0.conv1.weight", "a ResNet"),
    ("features.0.weight", "a VGG or AlexNet of torchvision"),
)


def to_timm(net: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's tensors under timm's names for a network; those that are unknown keep theirs.

    Wrappers' prefixes go, torchvision's ViT is translated by table, and DINO, DINOv2, DINOv3, MAE, BEiT, SAM, Swin and
    ConvNeXt by timm's own conversions, which bring position embeddings to the network's size too.

    Args:
        net: The timm network.
        state: As read from the file.
    """
    own = net.state_dict()
    result = _unwrapped(state)
    if result.keys() == own.keys():
        return result
    if "conv_proj.weight" in result:
        result = {_renamed(name): value for name, value in result.items()}
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if convert is None or result.keys() & own.keys() == own.keys():
        return result
    try:
        return dict(convert(dict(result), net))
    except (KeyError, RuntimeError, ValueError, AttributeError, TypeError, AssertionError, IndexError):
        return result  # of another network: what does not fit is said key by key


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    result = dict(state)
    for prefix in WRAPPERS:
        if result and all(name.startswith(prefix) for name in result):
            result = {name.removeprefix(prefix): value for name, value in result.items()}
    return result


def _renamed(name: str) -> str:
    for pattern, other in TORCHVISION_VIT:
        new, count = re.subn(pattern, other, name)
        if count:
            return new
    return name


def looks_like(state: Mapping[str, Any]) -> str:
    """What network a checkpoint seems to be of; empty where it is none that is known.

    Example:
        >>> import torch
        >>> looks_like({"patch_embed.proj.weight": torch.zeros(384, 3, 14, 14), "mask_token": torch.zeros(1, 384)})
        'a DINOv2 ViT, 384 channels, patches of 14 pixels'
    """
    plain = _unwrapped(state)
    family = next((text for name, text in FAMILIES if name in plain), "")
    patch = next((plain[name] for name in ("patch_embed.proj.weight", "conv_proj.weight") if name in plain), None)
    if not family or patch is None or patch.ndim != 4:
        return family
    return f"{family}, {patch.shape[0]} channels, patches of {patch.shape[-1]} pixels"
