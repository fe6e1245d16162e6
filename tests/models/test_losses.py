"""The multi-label loss with unknown labels."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from recamlabel.errors import RecamlabelError
from recamlabel.models.losses import masked_multilabel_loss


@pytest.mark.parametrize("classes", [1, 3, 200])
def test_with_all_labels_known_it_is_the_published_loss(classes: int) -> None:
    logits, labels = torch.randn(4, classes) * 5, (torch.rand(4, classes) < 0.3).float()
    expected = F.multilabel_soft_margin_loss(logits, labels)
    torch.testing.assert_close(masked_multilabel_loss(logits, labels), expected)
    torch.testing.assert_close(masked_multilabel_loss(logits, labels.to(torch.int8)), expected)


def test_by_hand() -> None:
    logits = torch.tensor([[0.0, 100.0], [math.log(3.0), -100.0]])
    labels = torch.tensor([[1, -1], [0, -1]])
    assert masked_multilabel_loss(logits, labels).item() == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_unknown_labels_have_no_gradient_whatever_their_logit() -> None:
    logits = torch.tensor([[0.5, math.inf, -1.0], [math.nan, 2.0, 1.0]], requires_grad=True)
    labels = torch.tensor([[1, -1, 0], [-1, 0, 1]])
    loss = masked_multilabel_loss(logits, labels)
    torch.autograd.backward(loss)
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert logits.grad[labels < 0].tolist() == [0.0, 0.0]
    assert (logits.grad[labels >= 0] != 0).all()


def test_no_known_label_is_zero_with_a_zero_gradient() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    loss = masked_multilabel_loss(logits, torch.full((2, 3), -1))
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_gradient() -> None:
    labels = torch.tensor([[1, 0, -1], [0, -1, 1]])
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: masked_multilabel_loss(x, labels), (logits,))


def test_shapes_that_differ_are_named() -> None:
    with pytest.raises(RecamlabelError, match=r"\(2, 3\) and \(2, 4\)"):
        masked_multilabel_loss(torch.zeros(2, 3), torch.zeros(2, 4))
