"""Softmax re-activation: equal to the written-out formula, without its memory."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from recamlabel.errors import ConfigError, RecamlabelError
from recamlabel.models.cam import class_activation, normalise_by_max
from recamlabel.models.combine import COMBINE_RULES, combine_weights, contrast
from recamlabel.models.reactivation import (
    background_features,
    class_vectors,
    label_masks,
    label_slots,
    reactivated_features,
)
from recamlabel.models.recam import Competing, ReCamHead, balanced_weights, softmax_reactivation_loss

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
    """docs/method.md, 2 word by word, with the (B, K, D, N) product."""
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
    with_background = ReCamHead(5, 6, "copy", fc1, background=True).weight
    assert torch.equal(with_background[:5], fc1) and not with_background[5:].any() and len(with_background) == 6
    with pytest.raises(ConfigError, match="zero, random, copy"):
        ReCamHead(5, 6, "ones")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"\(5, 6\), got none"):
        ReCamHead(5, 6, "copy")


def test_head_is_the_function_with_its_weight() -> None:
    case = make_case()
    head = ReCamHead(5, 6, "copy", case.fc2)
    torch.testing.assert_close(head(case.features, case.fc1, LABELS), softmax_reactivation_loss(*case, LABELS))


def test_the_background_by_hand() -> None:
    """Two pixels, one class that covers the left one: the background's feature is the right pixel's."""
    features = torch.tensor([[[[2.0, 0.0]], [[0.0, 4.0]]]])  # D = 2, 1 x 2 pixels
    masks = torch.tensor([[[[1.0, 0.0]]]])
    assert background_features(features, masks).tolist() == [[[0.0, 2.0]]]
    half = background_features(features, torch.tensor([[[[1.0, 0.5]]]]), power=2.0)
    assert half.tolist() == [[[0.0, 0.5]]]
    assert background_features(features, masks[:, :0]).tolist() == [[[1.0, 2.0]]]
    fc1, fc2 = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss, accuracy = softmax_reactivation_loss(features, fc1, fc2, torch.tensor([[1]]), maps=masks)
    # The class vector (1, 0) scores (1, 0), the background's (0, 2) scores (0, 2).
    expected = 0.5 * (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-2)))
    assert math.isclose(loss.item(), expected, rel_tol=1e-6) and accuracy == 1


def test_the_background_of_partly_unknown_labels_is_left_out() -> None:
    case = make_case()
    found = class_vectors(case.features, case.fc1, LABELS, background=True).pairs()
    # Image 0 has classes 0, 2, 3, image 1 none, image 2 class 1 and an unknown one, image 3 only unknown ones.
    assert found.targets.tolist() == [0, 2, 3, 5, 5, 1]
    torch.testing.assert_close(found.share, torch.tensor([0.25, 0.25, 0.25, 0.25, 1.0, 1.0]))
    assert found.present[3].tolist() == [True, False, True, True, False, True]


def test_an_image_without_labels_is_all_background() -> None:
    case = make_case()
    nothing = torch.zeros_like(LABELS)
    fc2 = torch.cat([case.fc2, torch.randn(1, 6)]).detach()
    loss, _ = softmax_reactivation_loss(case.features, case.fc1, fc2, nothing)
    expected = F.cross_entropy(case.features.mean(dim=(2, 3)) @ fc2.T, torch.full((4,), 5))
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("competing", ["all", "absent", "present"])
def test_padding_slots_do_not_change_the_background(competing: Competing) -> None:
    """An image's loss is the same alone and beside one with more labels."""
    case, row = make_case(), torch.randn(1, 6)
    fc2 = torch.cat([case.fc2, row])
    labels = LABELS.clamp(min=0)
    together, _ = softmax_reactivation_loss(case.features, case.fc1, fc2, labels, competing=competing)
    alone = [
        softmax_reactivation_loss(case.features[i : i + 1], case.fc1, fc2, labels[i : i + 1], competing=competing)[0]
        for i in range(4)
    ]
    torch.testing.assert_close(together, torch.stack(alone).mean())


def test_combine_rules_by_hand() -> None:
    fc1, fc2 = torch.tensor([[3.0, -4.0], [0.0, 0.0]]), torch.tensor([[0.0, -2.0], [1.0, 0.0]])
    half = 0.5**0.5
    expected = {
        # Row 1: the product's only positive FC2 weight meets a 0; unit FC2 is (0, -1), times 1.5.
        "contrast": [[0.0, -1.5], [1.5, 0.0]],
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
    with_background = torch.cat([fc2, torch.tensor([[1.0, -2.0]])])
    for rule in set(COMBINE_RULES) - {"contrast"}:  # the others do not use the background's row
        torch.testing.assert_close(combine_weights(fc1, with_background, rule), combine_weights(fc1, fc2, rule))
    # FC2 - background = (-1, 0) and (0, 2); the product of row 1 is 0.
    torch.testing.assert_close(contrast(fc1, with_background, 2.0), torch.tensor([[-2.0, 0.0], [0.0, 2.0]]))
    both = contrast(torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 2.0], [2.0, 1.0]]), 1.0)
    torch.testing.assert_close(both, torch.tensor([[half, half + 1.0]]))


def test_an_unknown_rule_lists_the_rules() -> None:
    with pytest.raises(ConfigError, match=r"'max'\. The rules are: contrast, product, fc1, fc2, sum, unit_sum"):
        combine_weights(torch.zeros(1, 1), torch.zeros(1, 1), "max")
    with pytest.raises(RecamlabelError, match="one row more"):
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


def test_balanced_weights_make_all_classes_count_alike() -> None:
    """Two labels of one image count half each; the background is one more label where all labels are known."""
    labels = np.array([[1, 1], [1, 0], [-1, 1]], dtype=np.int8)
    assert balanced_weights(labels, False, 1.0) == pytest.approx([1.0, 1.0])
    # Image 1: thirds; image 2: halves; image 3 has an unknown label, hence no background.
    met = np.array([1 / 3 + 1 / 2, 1 / 3 + 1, 1 / 3 + 1 / 2])
    assert balanced_weights(labels, True, 0.5) == pytest.approx((1 / met) ** 0.5, rel=1e-5)
    assert balanced_weights(labels, True, 0.0).tolist() == [1.0, 1.0, 1.0]


def test_balanced_weights_are_bounded_and_without_labels_one() -> None:
    assert balanced_weights(np.zeros((2, 3), dtype=np.int8), False, 1.0).tolist() == [1.0, 1.0, 1.0]
    rare = np.zeros((1000, 2), dtype=np.int8)
    rare[:, 0], rare[0] = 1, [0, 1]
    assert balanced_weights(rare, False, 1.0)[1] == 20.0


def test_balanced_the_rare_class_pulls_as_hard_as_the_frequent_one() -> None:
    """With one feature for all, the scores learn the frequencies; balanced, they have nothing left to learn."""
    features, fc1 = torch.ones(4, 1, 1, 1), torch.ones(2, 1)
    labels = torch.tensor([[1, 0], [1, 0], [1, 0], [0, 1]])
    weights = torch.from_numpy(balanced_weights(labels.numpy(), False, 1.0))
    gradients = []
    for given in (None, weights):
        fc2 = torch.zeros(2, 1, requires_grad=True)
        softmax_reactivation_loss(features, fc1, fc2, labels, class_weights=given)[0].backward()
        assert fc2.grad is not None
        gradients.append(fc2.grad[:, 0].tolist())
    assert gradients[0][0] < -0.2 and gradients[0][1] > 0.2
    assert gradients[1] == pytest.approx([0.0, 0.0], abs=1e-6)
