"""Backbones by timm name: maps of any size from convolutional networks and ViTs, and checkpoints as published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torchvision.models import VisionTransformer

from recamlabel.errors import ConfigError, WeightsError
from recamlabel.models.backbones import Backbone
from recamlabel.models.layouts import looks_like, to_timm
from recamlabel.models.weights import load_backbone_weights, save_weights

VITS = [
    ("vit_tiny_patch16_224", 16),
    ("deit_tiny_patch16_224", 16),
    ("vit_small_patch14_reg4_dinov2", 14),
    ("vit_small_patch16_dinov3", 16),
    ("eva02_tiny_patch14_224", 14),
]


@pytest.mark.parametrize(("name", "stride"), VITS)
def test_patch_tokens_as_a_map_are_those_of_timm(name: str, stride: int) -> None:
    torch.manual_seed(0)
    backbone = Backbone(name, stride).eval()
    images = torch.randn(2, 3, 4 * stride, 6 * stride)
    with torch.no_grad():
        last, depths = backbone.all_depths(images)
        net: Any = backbone.net
        expected, every = net.forward_intermediates(images, norm=False)
        tokens = expected[:, net.num_prefix_tokens :]  # class and register tokens are no place
        assert (last.flatten(2).transpose(1, 2) - tokens).abs().max() < 1e-5
        assert (backbone(images) - last).abs().max() < 1e-5
    quarters = [every[len(every) * quarter // 4 - 1] for quarter in (1, 2, 3, 4)]
    assert all((one - other).abs().max() < 1e-5 for one, other in zip(depths, quarters, strict=True))
    assert backbone.channels == last.shape[1] and last.shape[2:] == (4, 6)


@pytest.mark.parametrize(("name", "stride"), [*VITS[:3], ("swin_tiny_patch4_window7_224", 32), ("resnet10t", 16)])
def test_images_of_any_size(name: str, stride: int) -> None:
    backbone = Backbone(name, stride).eval()
    with torch.no_grad():
        for height, width in ((50, 70), (7, 300), (stride, stride)):
            found = backbone(torch.randn(1, 3, height, width))
            assert found.shape == (1, backbone.channels, -(-height // stride), -(-width // stride))


def test_blocks_are_frozen_from_the_first_on() -> None:
    free = {name for name, value in Backbone("vit_tiny_patch16_224").named_parameters() if value.requires_grad}
    some = {name for name, value in Backbone("vit_tiny_patch16_224", 16, 3).named_parameters() if value.requires_grad}
    assert not any(name.startswith(("net.patch_embed", "net.pos_embed", "net.cls_token")) for name in free)
    lost = {name.split(".")[2] for name in free - some}
    assert lost == {"0", "1", "2"} and some < free


@pytest.mark.parametrize(
    ("name", "stride", "message"),
    [
        ("vit_tiny_patch16_224", 8, "cannot have output stride 8; set backbone.output_stride=16"),
        ("beit_base_patch16_224", 16, r"takes images of one size only .*; choose another, such as a ViT"),
        ("vit_tiny_patch61", 16, "has no model 'vit_tiny_patch61'; did you mean"),
    ],
)
def test_what_a_network_cannot_do(name: str, stride: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Backbone(name, stride)


def test_torchvisions_vit_says_the_same_under_timms_names() -> None:
    torch.manual_seed(0)
    theirs = VisionTransformer(224, 16, num_layers=12, num_heads=3, hidden_dim=192, mlp_dim=768).eval()
    backbone = Backbone("vit_tiny_patch16_224").eval()
    state = to_timm(backbone.net, {f"module.{name}": value for name, value in theirs.state_dict().items()})
    backbone.net.load_state_dict({name: value for name, value in state.items() if not name.startswith("head.")})
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        tokens = torch.cat([theirs.class_token, theirs._process_input(images)], dim=1)
        expected = theirs.encoder(tokens)[:, 1:].transpose(1, 2).reshape(1, 192, 14, 14)
        assert (backbone(images) - expected).abs().max() < 1e-5


def dinov2() -> dict[str, torch.Tensor]:
    """As the authors publish it: registers, a mask token, one table of positions for 37 x 37 patches and the class."""
    own = timm.create_model("vit_small_patch14_reg4_dinov2", num_classes=0).state_dict()
    kept = {name: value for name, value in own.items() if name not in ("pos_embed", "reg_token", "cls_token")}
    shapes = {"pos_embed": (1, 1 + 37 * 37), "register_tokens": (1, 4), "cls_token": (1, 1), "mask_token": (1,)}
    return kept | {name: torch.randn(*shape, 384) for name, shape in shapes.items()}


def test_dinov2_as_published(tmp_path: Path) -> None:
    published = dinov2()
    torch.save({"model": published}, tmp_path / "dinov2_vits14_reg4_pretrain.pth")
    backbone = Backbone("vit_small_patch14_reg4_dinov2", 14)
    load_backbone_weights(backbone, str(tmp_path / "dinov2_vits14_reg4_pretrain.pth"))
    own = backbone.net.state_dict()
    assert torch.equal(own["reg_token"], published["register_tokens"])
    assert torch.allclose(own["cls_token"], published["cls_token"] + published["pos_embed"][:, :1])
    assert torch.equal(own["pos_embed"], published["pos_embed"][:, 1:])


def test_a_checkpoint_of_another_network_says_of_which(tmp_path: Path) -> None:
    torch.save(dinov2(), tmp_path / "a.pth")
    save_weights(tmp_path / "b.safetensors", timm.create_model("resnet10t"), {})
    backbone = Backbone("vit_tiny_patch16_224")
    with pytest.raises(WeightsError, match=r"looks like a DINOv2 ViT with registers, 384 channels, patches of 14 pix"):
        load_backbone_weights(backbone, str(tmp_path / "a.pth"))
    with pytest.raises(WeightsError, match=r"looks like a ResNet\)"):
        load_backbone_weights(backbone, str(tmp_path / "b.safetensors"))
    assert looks_like({"something": torch.zeros(1)}) == ""
