"""Training in bf16 on CPUs that compute in it."""

from __future__ import annotations

import copy

import pytest
import torch

from recamlabel.models.backbones import Backbone
from recamlabel.models.layers import bf16
from recamlabel.models.layers.bf16 import learning_in_bf16
from recamlabel.models.layers.depthwise import quicken_depthwise
from recamlabel.models.layers.folded_norm import fold_norms
from tests.models.test_folded_norm import with_statistics

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def any_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU with bf16: others emulate it, which is slow and gives the same."""
    monkeypatch.setattr(bf16, "cpu_has_bf16", lambda: True)


@pytest.mark.parametrize(
    ("name", "count"), [("resnet18", 20), ("tf_efficientnet_lite0", 44), ("resnetv2_50", 32), ("convnext_atto", 0)]
)
def test_nearly_the_features_and_gradients_of_float32(name: str, count: int) -> None:
    exact = with_statistics(name, output_stride=32)
    fold_norms(exact)
    quicken_depthwise(exact)
    rounded = copy.deepcopy(exact)
    images = torch.randn(2, 3, 64, 96)
    exact(images).square().mean().backward()
    with learning_in_bf16(rounded, CPU) as found:
        assert found == count
        features = rounded(images)
        last, pyramid = rounded.all_depths(images)
        features.square().mean().backward()
    assert {one.dtype for one in (features, last, *pyramid)} == {torch.float32}
    assert {parameter.dtype for parameter in rounded.parameters()} == {torch.float32}
    wanted = exact(images).detach()
    error = float((features.detach() - wanted).norm() / wanted.norm())
    assert (0 < error < 0.05) if count else error == 0  # another arithmetic, and no other network
    gradients = [
        torch.cat([one.grad.flatten() for one in net.parameters() if one.grad is not None]) for net in (exact, rounded)
    ]
    assert torch.cosine_similarity(*gradients, dim=0) > 0.95
    torch.testing.assert_close(rounded(images).detach(), wanted, rtol=0, atol=0)  # afterwards as before


@pytest.mark.parametrize(("device", "enabled"), [(CPU, False), (torch.device("meta"), True)])
def test_only_where_it_is_wanted_and_quick(device: torch.device, enabled: bool) -> None:
    net = Backbone("resnet18", output_stride=32)
    fold_norms(net)
    with learning_in_bf16(net, device, enabled) as count:
        assert count == 0 and type(net) is Backbone


def test_not_on_a_cpu_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bf16, "cpu_has_bf16", lambda: False)
    net = Backbone("resnet18", output_stride=32)
    fold_norms(net)
    with learning_in_bf16(net, CPU) as count:
        assert count == 0
