"""The multi-label loss with unknown labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recamlabel.errors import RecamlabelError
from recamlabel.models.losses import masked_multilabel_loss, rare_class_weights


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


def test_weights_by_hand() -> None:
    """Entries: 3 log 2 and log 4 of the first class, 5 log(4/3) of the second, of which one label is unknown."""
    logits = torch.tensor([[0.0, math.log(3.0)], [math.log(3.0), -100.0]])
    labels = torch.tensor([[1, 1], [0, -1]])
    loss = masked_multilabel_loss(logits, labels, torch.tensor([3.0, 5.0], dtype=torch.float64))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx((3 * math.log(2) + math.log(4) + 5 * math.log(4 / 3)) / 3)


def test_the_gradient_of_a_present_label_has_its_weight() -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    labels = torch.tensor([[1, 0], [0, 1]])
    torch.autograd.backward(masked_multilabel_loss(logits, labels, torch.tensor([3.0, 1.0])))
    assert logits.grad is not None
    assert logits.grad.tolist() == [[-0.375, 0.125], [0.125, -0.125]]


def test_weights_of_one_are_no_weights() -> None:
    logits, labels = torch.randn(4, 3), torch.tensor([[1, 0, -1]] * 4)
    torch.testing.assert_close(
        masked_multilabel_loss(logits, labels, torch.ones(3)), masked_multilabel_loss(logits, labels)
    )


def test_rare_class_weights_by_hand() -> None:
    # Present and absent: 1 and 3; 3 and 1; 1 and 1 (two unknown); never present; always present; all unknown.
    labels = np.array(
        [[1, 1, 1, 0, 1, -1], [0, 1, 0, 0, 1, -1], [0, 1, -1, 0, 1, -1], [0, 0, -1, 0, 1, -1]], dtype=np.int8
    )
    weights = {limit: rare_class_weights(labels, limit) for limit in (10.0, 2.5, 1.0)}
    assert weights[1.0] is None
    assert weights[10.0] is not None and weights[10.0].tolist() == [3, 1, 1, 1, 1, 1]
    assert weights[2.5] is not None and weights[2.5].tolist() == [2.5, 1, 1, 1, 1, 1]
