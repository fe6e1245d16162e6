"""Class logits, class maps and their normalisation."""

from __future__ import annotations

import pytest
import torch

from recamlabel.errors import RecamlabelError
from recamlabel.models.cam import CamHead, class_activation, class_logits, normalise_by_max

FEATURES = torch.tensor([[[[1.0, 0.0], [3.0, 0.0]], [[0.0, 2.0], [0.0, 6.0]]]])  # one image, 2 channels, 2x2
WEIGHT = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]])


def test_logits_by_hand() -> None:
    assert class_logits(FEATURES, WEIGHT).tolist() == [[1.0, 1.0, -3.0]]


def test_activation_by_hand() -> None:
    expected = [[[[1.0, 0.0], [3.0, 0.0]], [[0.0, 2.0], [0.0, 6.0]], [[0.0, 0.0], [0.0, 0.0]]]]
    assert class_activation(FEATURES, WEIGHT).tolist() == expected


def test_the_mean_of_a_map_without_negatives_is_the_logit() -> None:
    features, weight = torch.rand(3, 8, 5, 7), torch.rand(4, 8)
    torch.testing.assert_close(class_activation(features, weight).mean(dim=(2, 3)), class_logits(features, weight))


@pytest.mark.parametrize("keep", [[2, 0], [1], []])
def test_keep_computes_just_these_maps(keep: list[int]) -> None:
    chosen = class_activation(FEATURES, WEIGHT, keep=torch.tensor(keep, dtype=torch.int64))
    assert torch.equal(chosen, class_activation(FEATURES, WEIGHT)[:, keep])


def test_keep_takes_a_boolean_mask() -> None:
    kept = class_activation(FEATURES, WEIGHT, keep=torch.tensor([True, False, True]))
    assert torch.equal(kept, class_activation(FEATURES, WEIGHT)[:, [0, 2]])


def test_normalise_by_hand() -> None:
    maps = torch.tensor([[[[0.0, 1.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    expected = torch.tensor([[[[0.0, 0.25], [0.75, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    torch.testing.assert_close(normalise_by_max(maps), expected, atol=1e-5, rtol=0)


def test_normalised_maps_lie_below_one_and_do_not_see_the_scale() -> None:
    maps = torch.rand(2, 200, 6, 5) * 50
    normal = normalise_by_max(maps)
    assert normal.min() >= 0
    assert normal.max() < 1
    torch.testing.assert_close(normalise_by_max(maps * 7), normal, atol=1e-4, rtol=0)


def test_one_pixel() -> None:
    features = torch.full((1, 3, 1, 1), 2.0)
    maps = normalise_by_max(class_activation(features, torch.tensor([[1.0, 1.0, 1.0], [-1.0, 0.0, 0.0]])))
    assert maps[0, :, 0, 0].tolist() == pytest.approx([1.0, 0.0], abs=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_never_make_a_map(value: float) -> None:
    features = torch.rand(2, 4, 3, 3)
    features[1, 2, 0, 0] = value
    maps = class_activation(features, torch.rand(5, 4) + 0.1)
    with pytest.raises(RecamlabelError, match="5 of 10 class maps hold NaN or infinity"):
        normalise_by_max(maps)


def test_gradients() -> None:
    torch.manual_seed(0)
    features = torch.rand(2, 3, 3, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(class_logits, (features, weight))
    assert torch.autograd.gradcheck(lambda f, w: normalise_by_max(class_activation(f, w)), (features, weight))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtype_is_kept_and_inputs_are_not_changed(dtype: torch.dtype) -> None:
    features, weight = torch.rand(1, 4, 3, 3).to(dtype), torch.rand(2, 4).to(dtype)
    before = features.clone(), weight.clone()
    assert class_logits(features, weight).dtype == dtype
    assert normalise_by_max(class_activation(features, weight)).dtype == dtype
    assert torch.equal(features, before[0])
    assert torch.equal(weight, before[1])


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(RecamlabelError, match=r"\(1, 2, 2, 2\) and \(3, 5\)"):
        class_logits(FEATURES, torch.rand(3, 5))
    with pytest.raises(RecamlabelError, match="without pixels"):
        class_activation(torch.rand(1, 2, 0, 3), WEIGHT)
    with pytest.raises(RecamlabelError, match="without pixels"):
        normalise_by_max(torch.rand(1, 2, 0, 3))


def test_head_holds_one_weight_and_matches_the_functions() -> None:
    head = CamHead(3, 2)
    assert {name: tuple(value.shape) for name, value in head.state_dict().items()} == {"weight": (3, 2)}
    assert torch.equal(head(FEATURES), class_logits(FEATURES, head.weight))
    keep = torch.tensor([1])
    assert torch.equal(head.activation(FEATURES, keep=keep), class_activation(FEATURES, head.weight, keep=keep))
    assert head.weight.abs().max() <= 1 / 2**0.5
    with pytest.raises(RecamlabelError, match="at least 1 class"):
        CamHead(0, 2)
