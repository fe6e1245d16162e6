"""Layer-wise learning rates of a backbone."""

from __future__ import annotations

import pytest
import torch

from recamlabel.models.backbones import Backbone


@pytest.mark.parametrize(
    ("name", "frozen"), [("vit_tiny_patch16_224", 0), ("vit_tiny_patch16_224", 4), ("resnet18", 1)]
)
def test_every_learnt_parameter_once_and_deeper_ones_faster(name: str, frozen: int) -> None:
    backbone = Backbone(name, 16, frozen)
    learnt = {id(one) for one in backbone.parameters() if one.requires_grad}
    groups = backbone.rate_groups(0.1, 0.5)
    met = [id(one) for group in groups for one in group["params"]]
    assert sorted(met) == sorted(learnt)
    rates = [group["lr"] for group in groups]
    assert rates == sorted(rates) and rates[-1] == 0.1 and len(rates) > 2
    last = next(iter(groups[-1]["params"]))
    assert any(last is one for one in backbone.parameters())
    (whole,) = backbone.rate_groups(0.1)
    assert {id(one) for one in whole["params"]} == learnt and whole["lr"] == 0.1


def test_blocks_of_a_vit_by_depth() -> None:
    backbone = Backbone("vit_tiny_patch16_224")
    rate = {id(one): group["lr"] for group in backbone.rate_groups(1.0, 0.5) for one in group["params"]}
    blocks = backbone.net.blocks
    rates = [rate[id(block.attn.qkv.weight)] for block in blocks]
    torch.testing.assert_close(torch.tensor(rates[1:]) / torch.tensor(rates[:-1]), torch.full((11,), 2.0))
    assert Backbone("vit_tiny_patch16_224", 16, -1).rate_groups(1.0, 0.5) == []
