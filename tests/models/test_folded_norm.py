"""Batch norm as part of the convolution before it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from recamlabel.models.backbones import Backbone
from recamlabel.models.layers.depthwise import quicken_depthwise
from recamlabel.models.layers.folded_norm import NormedConv2d, fold_norms


def with_statistics(name: str, **settings: int) -> Backbone:
    """A backbone whose batch norms do something."""
    torch.manual_seed(0)
    net = Backbone(name, **settings)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return net


def test_by_hand() -> None:
    conv = nn.Conv2d(1, 1, 1, bias=False)
    norm = nn.BatchNorm2d(1).eval()
    nn.init.constant_(conv.weight, 3.0)
    norm.running_mean, norm.running_var, norm.eps = torch.tensor([2.0]), torch.tensor([4.0]), 0.0
    nn.init.constant_(norm.bias, 5.0)
    conv.__dict__["norm_after"] = (norm,)
    conv.__class__ = NormedConv2d
    assert conv(torch.full((1, 1, 1, 1), 2.0)).item() == (3 * 2 - 2) / 2 + 5


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "resnetv2_50", "convnext_atto"])
def test_the_same_features_gradients_and_names(name: str) -> None:
    plain = with_statistics(name, output_stride=32)
    folded = copy.deepcopy(plain)
    count = fold_norms(folded)
    assert (count > 10) == (name != "convnext_atto")
    quicken_depthwise(folded)
    images = torch.randn(2, 3, 64, 96)
    for net in (plain, folded):
        net.train()
        net(images).square().mean().backward()
    assert plain.state_dict().keys() == folded.state_dict().keys()
    one, two = plain(images), folded(images)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-4 * float(one.detach().abs().max()))
    for (key, first), (other, second) in zip(plain.named_parameters(), folded.named_parameters(), strict=True):
        assert key == other and (first.grad is None) == (second.grad is None)
        if first.grad is not None and second.grad is not None:
            assert (first.grad - second.grad).norm() <= 5e-3 * first.grad.norm() + 1e-7, key


def test_weights_that_are_loaded_afterwards_count() -> None:
    net = Backbone("resnet18")
    fold_norms(net)
    other = with_statistics("resnet18")
    net.load_state_dict(other.state_dict())
    images = torch.randn(1, 3, 64, 64)
    expected = other.eval()(images)
    torch.testing.assert_close(net.eval()(images), expected, rtol=0, atol=1e-4 * float(expected.detach().abs().max()))


def test_folding_twice_changes_nothing() -> None:
    net = Backbone("resnet18")
    assert fold_norms(net) == 20 and fold_norms(net) == 0


def test_a_convolution_that_is_used_twice_keeps_its_norm() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)

        def forward_features(self, images: Tensor) -> Tensor:
            made: Tensor = self.conv(images)
            normed: Tensor = self.norm(made)
            return made + normed

    net = Backbone("resnet18")
    net.net = Twice()
    for parameter in net.net.norm.parameters():
        parameter.requires_grad = False
    nn.init.constant_(net.net.norm.running_mean, 3.0)
    images = torch.randn(1, 3, 8, 8)
    before = net.eval()(images)
    assert fold_norms(net) == 0 and torch.equal(net(images), before) and type(net.net.conv) is nn.Conv2d
