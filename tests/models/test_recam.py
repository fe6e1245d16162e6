"""Softmax re-activation: equal to the written-out formula, without its memory."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from recamlabel.errors import ConfigError, RecamlabelError
from recamlabel.models.cam import class_activation, normalise_by_max
from recamlabel.models.recam import (
    COMBINE_RULES,
    Competing,
    ReCamHead,
    combine_weights,
    label_masks,
    label_slots,
    reactivated_features,
    softmax_reactivation_loss,
)

LABELS = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, -1], [-1, -1, -1, -1, -1]])


class Case(NamedTuple):
    features: Tensor
    fc1: Tensor
    fc2: Tensor


def make_case(dtype: torch.dtype = torch.float32, labels: Tensor = LABELS, side: int = 4) -> Case:
    torch.manual_seed(3)
    batch, classes = labels.shape
    weights = [torch.randn(classes, 6, dtype=dtype).requires_grad_() for _ in range(2)]
    return Case(torch.rand(batch, 6, side, side + 1, dtype=dtype).requires_grad_(), *weights)


def written_out(case: Case, labels: Tensor) -> Tensor:
    """METHOD 2 word by word, with the (B, K, D, N) product."""
    masks = normalise_by_max(class_activation(case.features, case.fc1))
    scores = (masks[:, :, None] * case.features[:, None]).mean(dim=(3, 4)) @ case.fc2.T
    total = case.features.new_zeros(())
    for image in range(labels.shape[0]):
        chosen = (labels[image] > 0).nonzero()[:, 0]
        if chosen.numel():
            total = total + F.cross_entropy(scores[image, chosen], chosen)
    return total / labels.shape[0]


def test_class_features_by_hand() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    maps = torch.tensor([[[[1.0, 0.5]], [[0.0, 0.0]], [[0.0, 1.0]]]])
    assert reactivated_features(features, maps).tolist() == [[[1.0, 2.5], [0.0, 0.0], [1.0, 2.0]]]


def test_class_features_are_the_mean_of_the_product() -> None:
    features, maps = torch.rand(2, 7, 3, 5), torch.rand(2, 4, 3, 5)
    expected = (maps[:, :, None] * features[:, None]).mean(dim=(3, 4))
    torch.testing.assert_close(reactivated_features(features, maps), expected)


def test_label_slots_list_each_images_labels_in_order() -> None:
    classes, valid = label_slots(LABELS)
    assert [row[ok].tolist() for row, ok in zip(classes, valid, strict=True)] == [[0, 2, 3], [], [1], []]


def test_loss_and_gradients_equal_the_written_out_formula() -> None:
    case = make_case(torch.float64)
    loss, _ = softmax_reactivation_loss(*case, LABELS)
    expected = written_out(case, LABELS)
    torch.testing.assert_close(loss, expected)
    ours, theirs = torch.autograd.grad(loss, case), torch.autograd.grad(expected, case)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_by_hand_one_class_at_one_pixel() -> None:
    # A = 2 / (2 + 1e-5), f_1 = A * 1; z = (f, -f): -log softmax = log(1 + exp(-2f))
    loss, accuracy = softmax_reactivation_loss(
        torch.ones(1, 1, 1, 1), torch.tensor([[2.0], [0.0]]), torch.tensor([[1.0], [-1.0]]), torch.tensor([[1, 0]])
    )
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)), abs=1e-4)
    assert accuracy.item() == 1.0


def test_gradcheck_through_mask_and_maximum() -> None:
    case = make_case(torch.float64, side=2)
    assert torch.autograd.gradcheck(lambda f, w, v: softmax_reactivation_loss(f, w, v, LABELS)[0], tuple(case))


def test_images_without_labels_only_count() -> None:
    case = make_case()
    alone = Case(case.features[:1], case.fc1, case.fc2)
    one, _ = softmax_reactivation_loss(*alone, LABELS[:1])
    twice, _ = softmax_reactivation_loss(case.features[:2], case.fc1, case.fc2, LABELS[:2])
    torch.testing.assert_close(twice, one / 2)


def test_no_label_at_all_is_zero_with_zero_gradients() -> None:
    case = make_case()
    loss, accuracy = softmax_reactivation_loss(*case, torch.full((4, 5), -1))
    assert (loss.item(), accuracy.item()) == (0.0, 0.0)
    for gradient in torch.autograd.grad(loss, case, allow_unused=True):
        assert gradient is None or not gradient.any()


def test_class_order_does_not_matter() -> None:
    case, order = make_case(), torch.tensor([4, 2, 0, 1, 3])
    loss, accuracy = softmax_reactivation_loss(*case, LABELS)
    turned = softmax_reactivation_loss(case.features, case.fc1[order], case.fc2[order], LABELS[:, order])
    torch.testing.assert_close(turned, (loss, accuracy))


def test_accuracy_counts_image_label_pairs() -> None:
    fc2 = torch.zeros(5, 6)
    fc2[2] = 1.0  # every class feature is classified as class 2: right for one of the four pairs
    case = make_case()
    assert softmax_reactivation_loss(case.features, case.fc1.abs(), fc2, LABELS)[1].item() == 0.25


def test_any_map_can_be_the_mask() -> None:
    case = make_case()
    masks = normalise_by_max(class_activation(case.features, case.fc1))
    given = softmax_reactivation_loss(*case, LABELS, maps=masks)
    torch.testing.assert_close(given, softmax_reactivation_loss(*case, LABELS))
    fc1_gradient = torch.autograd.grad(given[0], case.fc1, retain_graph=True)[0]
    assert fc1_gradient.any()
    detached, _ = softmax_reactivation_loss(*case, LABELS, maps=masks.detach())
    assert torch.autograd.grad(detached, case.fc1, allow_unused=True)[0] is None


def test_masks_of_another_size_are_resized() -> None:
    case = make_case()
    masks = torch.rand(4, 5, 9, 13)
    small = F.interpolate(masks, size=(4, 5), mode="bilinear", align_corners=False)
    torch.testing.assert_close(
        softmax_reactivation_loss(*case, LABELS, maps=masks), softmax_reactivation_loss(*case, LABELS, maps=small)
    )
    none = softmax_reactivation_loss(*case, torch.zeros(4, 5), maps=masks)
    assert none[0].item() == 0.0


def test_label_smoothing_is_pytorchs() -> None:
    case = make_case()
    classes, valid = label_slots(LABELS)
    scores = F.linear(
        reactivated_features(case.features, label_masks(case.features, case.fc1, classes))[valid], case.fc2
    )
    losses = F.cross_entropy(scores, classes[valid], reduction="none", label_smoothing=0.2)
    expected = (losses[:3].mean() + losses[3]) / 4
    torch.testing.assert_close(softmax_reactivation_loss(*case, LABELS, label_smoothing=0.2)[0], expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_competing_classes(smoothing: float) -> None:
    case = make_case()
    classes, valid = label_slots(LABELS)
    scores = F.linear(
        reactivated_features(case.features, label_masks(case.features, case.fc1, classes))[valid], case.fc2
    )
    absent, present = [[0, 1, 4], [1, 2, 4], [1, 3, 4]], [[0, 2, 3]] * 3
    choices: tuple[tuple[Competing, list[list[int]]], ...] = (("absent", absent), ("present", present))
    for competing, rivals in choices:
        first = [
            F.cross_entropy(scores[row, rivals[row]], torch.tensor(rivals[row].index(label)), label_smoothing=smoothing)
            for row, label in enumerate((0, 2, 3))
        ]
        loss, _ = softmax_reactivation_loss(
            case.features[:1], case.fc1, case.fc2, LABELS[:1], competing=competing, label_smoothing=smoothing
        )
        torch.testing.assert_close(loss, torch.stack(first).mean())
    alone = softmax_reactivation_loss(case.features[2:3], case.fc1, case.fc2, LABELS[2:3], competing="present")[0]
    assert alone.item() == pytest.approx(0.0)


@pytest.mark.parametrize(("classes", "side"), [(1, 3), (200, 3), (200, 1)])
def test_one_class_200_classes_one_pixel(classes: int, side: int) -> None:
    labels = (torch.rand(3, classes) < 0.5).float()
    labels[0] = 1
    case = make_case(labels=labels, side=side)
    loss, _ = softmax_reactivation_loss(*case, labels)
    torch.testing.assert_close(loss, written_out(case, labels))
    assert all(torch.isfinite(gradient).all() for gradient in torch.autograd.grad(loss, case))


def test_an_all_zero_map_is_a_defined_result() -> None:
    features, fc1 = torch.rand(1, 6, 3, 3), -torch.ones(5, 6)
    loss, _ = softmax_reactivation_loss(features, fc1, torch.randn(5, 6), LABELS[:1])
    assert loss.item() == pytest.approx(math.log(5), abs=1e-6)  # a zero feature says nothing


def test_features_or_maps_that_are_not_finite_are_refused() -> None:
    case = make_case()
    features = case.features.detach().clone()
    features[0, 0, 0, 0] = math.nan
    with pytest.raises(RecamlabelError, match="NaN or infinity"):
        softmax_reactivation_loss(features, case.fc1, case.fc2, LABELS)
    with pytest.raises(RecamlabelError, match="NaN or infinity"):
        softmax_reactivation_loss(*case, LABELS, maps=torch.full((4, 5, 4, 5), math.nan))


def test_bad_arguments_are_named() -> None:
    case = make_case()
    with pytest.raises(RecamlabelError, match=r"labels \(4, 5\)"):
        softmax_reactivation_loss(*case, LABELS[:, :3])
    with pytest.raises(ConfigError, match="label_smoothing"):
        softmax_reactivation_loss(*case, LABELS, label_smoothing=1.0)
    with pytest.raises(ConfigError, match="all, absent, present"):
        softmax_reactivation_loss(*case, LABELS, competing="some")  # type: ignore[arg-type]
    with pytest.raises(RecamlabelError, match="same B, h, w"):
        reactivated_features(torch.rand(1, 2, 3, 3), torch.rand(1, 2, 3, 4))


def test_head_inits() -> None:
    fc1 = torch.randn(5, 6)
    assert not ReCamHead(5, 6).weight.any()
    assert torch.equal(ReCamHead(5, 6, "copy", fc1).weight, fc1)
    drawn = ReCamHead(5, 6, "random").weight
    assert 0 < drawn.abs().max() <= 1 / 6**0.5
    with pytest.raises(ConfigError, match="zero, random, copy"):
        ReCamHead(5, 6, "ones")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"\(5, 6\), got none"):
        ReCamHead(5, 6, "copy")


def test_head_is_the_function_with_its_weight() -> None:
    case = make_case()
    head = ReCamHead(5, 6, "copy", case.fc2)
    torch.testing.assert_close(head(case.features, case.fc1, LABELS), softmax_reactivation_loss(*case, LABELS))


def test_combine_rules_by_hand() -> None:
    fc1, fc2 = torch.tensor([[3.0, -4.0], [0.0, 0.0]]), torch.tensor([[0.0, -2.0], [1.0, 0.0]])
    expected = {
        "product": [[0.0, 8.0], [0.0, 0.0]],
        "fc1": [[3.0, -4.0], [0.0, 0.0]],
        "fc2": [[0.0, -2.0], [1.0, 0.0]],
        "sum": [[3.0, -6.0], [1.0, 0.0]],
        "unit_sum": [[0.6, -1.8], [1.0, 0.0]],
        "relu_product": [[0.0, 0.0], [0.0, 0.0]],
    }
    assert set(expected) == set(COMBINE_RULES)
    for rule, values in expected.items():
        combined = combine_weights(fc1, fc2, rule)
        torch.testing.assert_close(combined, torch.tensor(values))
        combined.add_(1)  # a new tensor, so nothing leaks back
    assert fc1.tolist() == [[3.0, -4.0], [0.0, 0.0]]


def test_an_unknown_rule_lists_the_rules() -> None:
    with pytest.raises(ConfigError, match="'max'; the rules are: product, fc1, fc2, sum, unit_sum, relu_product"):
        combine_weights(torch.zeros(1, 1), torch.zeros(1, 1), "max")
    with pytest.raises(RecamlabelError, match="one shape"):
        combine_weights(torch.zeros(1, 1), torch.zeros(1, 2))


def test_the_loss_never_builds_the_product() -> None:
    """No tensor of the graph is as large as batch x classes x channels x pixels, nor all classes' maps."""
    labels = torch.zeros(2, 40)
    labels[0, 3] = labels[1, 7] = labels[1, 8] = 1
    case = make_case(labels=labels, side=16)
    largest = 0

    def note(tensor: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        torch.autograd.grad(softmax_reactivation_loss(*case, labels)[0], case)
    assert largest <= case.features.numel()
