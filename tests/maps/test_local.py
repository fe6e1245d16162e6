"""Local heads: they find the place that an image label is about, and are judged on images they have not seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor

from recamlabel.data.batches import Normalisation
from recamlabel.maps.local import (
    CrossFittedHeads,
    Precision,
    Projection,
    cross_fit,
    fit_projection,
    held_out_precision,
    local_maps,
    pool_largest,
    weighted_precision,
)
from recamlabel.models.inputs import run_in_tiles
from recamlabel.stages.joined import joined
from recamlabel.stages.local_choice import Tried, admission, choose_setting, ladder, searched


def drawn(count: int = 24) -> tuple[list[Tensor], NDArray[np.int8], list[int]]:
    """Noise of 6 channels on a grid of 5 x 4; where the label says so, one place has 3 more in channel 2."""
    generator = torch.Generator().manual_seed(0)
    images, places = [], []
    labels = (np.arange(count) % 2).astype(np.int8)[:, None]
    for present in labels[:, 0]:
        image = 0.3 * torch.randn(6, 5, 4, generator=generator)
        place = int(torch.randint(20, (1,), generator=generator))
        image.flatten(1)[2, place] += 3.0 * present
        images.append(image.half())
        places.append(place)
    return images, labels, places


def test_the_head_of_another_fold_finds_the_place() -> None:
    images, labels, places = drawn()
    folds = np.arange(len(images)) // 2 % 3
    heads = cross_fit(images, labels, folds, 0.05, seed=0)
    for image, label, place, fold in zip(images, labels[:, 0], places, folds, strict=True):
        if label:
            assert int(heads.values(image, [0], int(fold)).argmax()) == place
    logits = np.stack([heads.logits(image, int(fold)) for image, fold in zip(images, folds, strict=True)])
    assert held_out_precision(labels, logits, seed=0)[0].value == 1.0


def test_a_head_does_not_depend_on_the_labels_of_its_own_fold() -> None:
    images, labels, _ = drawn(12)
    folds = np.arange(12) // 2 % 3
    other = labels.copy()
    other[folds == 1] = 1 - other[folds == 1]
    one, two = (cross_fit(images, each, folds, 0.05, seed=0) for each in (labels, other))
    assert torch.equal(one.weight[1], two.weight[1])
    assert not torch.equal(one.weight[0], two.weight[0])


def test_unknown_labels_teach_nothing() -> None:
    images, labels, _ = drawn(8)
    unknown = np.full_like(labels, -1)
    heads = cross_fit(images, unknown, np.arange(8) % 2, 0.05, seed=0)
    assert not heads.weight.any() and not heads.bias.any()


def test_images_of_several_sizes_are_fitted_together() -> None:
    images, labels, _ = drawn(8)
    images[3] = torch.cat([images[3], images[3]], dim=1)
    assert cross_fit(images, labels, np.arange(8) % 2, 0.1, seed=0).weight.shape == (2, 1, 6)


def test_an_image_outside_the_folds_gets_the_mean_of_the_heads() -> None:
    heads = CrossFittedHeads(torch.tensor([[[1.0]], [[3.0]]]), torch.tensor([[0.0], [1.0]]), 1.0)
    image = torch.tensor([[[2.0, 4.0]]])
    assert heads.values(image, [0], 1).tolist() == [[[7.0, 13.0]]]
    assert heads.values(image, [0], None).tolist() == [[[4.5, 8.5]]]
    assert heads.logits(image, None).tolist() == [6.5]


def test_pooling_of_a_share_takes_one_value_at_least() -> None:
    values = torch.tensor([[1.0, 5.0, 3.0], [0.0, -1.0, -2.0]])
    assert pool_largest(values, 0.01).tolist() == [5.0, 0.0]
    assert pool_largest(values, 0.67).tolist() == [4.0, -0.5]
    assert pool_largest(values, 1.0).tolist() == [3.0, -1.0]


def test_weighted_precision_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    present, scores = random.random(30) < 0.3, random.random(30)
    weights = random.integers(0, 3, (5, 30))
    expected = [average_precision_score(present, scores, sample_weight=row) for row in weights]
    assert weighted_precision(present, scores, weights) == pytest.approx(expected)


def test_a_class_in_every_image_has_no_precision() -> None:
    found = held_out_precision(np.array([[1, 1], [1, 0], [1, -1]]), np.zeros((3, 2)), seed=0)
    assert math.isnan(found[0].value) and not math.isnan(found[1].value)


def test_projected_components_have_no_common_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(400, 3, generator=generator) @ torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 1.0]])
    projection = fit_projection(rows, 3, seed=0)
    made = projection(rows.T[:, :, None]).float().flatten(1)  # (3, 400)
    assert torch.cov(made).numpy() == pytest.approx(np.eye(3), abs=0.02)


def test_local_maps_are_what_speaks_for_the_class() -> None:
    maps = local_maps(torch.tensor([[[-2.0, 1.0, 4.0]], [[0.0, 0.0, 0.0]]]))
    assert maps.tolist() == [[[0.0, 0.25, 1.0]], [[0.0, 0.0, 0.0]]]


def test_joined_maps_lie_on_the_finer_grid() -> None:
    coarse, fine = np.array([[[1.0]]], np.float16), np.array([[[0.0, 1.0], [0.5, 0.0]]], np.float16)
    assert joined(coarse, fine, 0.25).tolist() == [[[0.75, 1.0], [0.875, 0.75]]]


def test_joined_maps_have_their_peak_at_1_wherever_both_peaks_are() -> None:
    one, other = np.array([[[1.0, 0.0, 0.5]]], np.float16), np.array([[[0.0, 1.0, 0.5]]], np.float16)
    assert joined(one, other, 0.5).tolist() == [[[1.0, 1.0, 1.0]]]
    assert joined(0 * one, 0 * other, 0.5).tolist() == [[[0.0, 0.0, 0.0]]]


@pytest.mark.parametrize(
    ("longest", "sizes"),
    [
        (64, [64, 128]),
        (200, [200, 400]),
        (320, [320, 512]),
        (640, [320, 640]),
        (1024, [320, 512, 1024]),
        (4000, [320, 512, 819, 1310, 2096, 4000]),
        (30_000, [320, 512, 819, 1310, 2096, 4096]),
    ],
)
def test_sizes_go_from_small_to_the_images_own(longest: int, sizes: list[int]) -> None:
    assert ladder(longest) == sizes


def tried(side: int, depth: str, value: float, error: float = 0.02, share: float = 0.1) -> Tried:
    projection = Projection(torch.zeros(1), torch.ones(1), torch.ones(1, 1))
    heads = CrossFittedHeads(torch.zeros(1, 2, 1), torch.zeros(1, 2), 1.0)
    return Tried(side, depth, share, projection, heads, [Precision(value, error), Precision(math.nan, math.nan)], {})


def test_of_settings_that_recognise_as_much_the_most_local_is_taken() -> None:
    small, large, deep = tried(320, "middle", 0.70), tried(1024, "middle", 0.79), tried(1024, "last", 0.80)
    assert choose_setting([small, deep, large]) is large
    assert choose_setting([small, deep]) is deep
    assert choose_setting([tried(320, "last", 0.90), large, deep]).side == 320
    few, fewer = tried(1024, "last", 0.81, share=0.01), tried(1024, "last", 0.90, share=0.001)
    assert choose_setting([deep, few]) is deep
    assert choose_setting([deep, few, fewer]) is fewer


def test_the_search_ends_where_larger_inputs_recognise_clearly_less() -> None:
    sizes = [tried(320, "last", 0.50), tried(512, "last", 0.80), tried(819, "last", 0.79), tried(1310, "last", 0.70)]
    assert not searched(sizes)
    assert searched([*sizes, tried(2048, "last", 0.75)])
    # Nothing is told at any size so far: noise is no reason to stop.
    assert not searched([tried(side, "last", 0.5 - side / 1e5, 0.05) for side in (320, 512, 819, 1310)])


def test_local_maps_take_part_only_where_they_recognise_as_much_as_the_whole_image() -> None:
    found, nothing = tried(1024, "last", 0.80), (math.nan, math.nan)
    verdict = admission(found, [(0.77, 0.2), (0.99, 0.5)])  # the second class has no figure of the local heads
    assert (
        verdict.admitted and "0.80 ± 0.02 by the best 0.1 of the places of inputs of 1024 pixels, 0.77" in verdict.line
    )
    assert verdict.whole_share == pytest.approx((0.77 - 0.2) / (0.80 - 0.2))
    assert admission(found, [(0.1, 0.2), nothing]).whole_share == 0.0  # worse than guessing tells nothing
    assert admission(found, [(0.80, 0.2), nothing]).admitted
    worse = admission(found, [(0.81, 0.2), nothing])
    assert not worse.admitted and worse.line.startswith("left out: held-out")
    assert not admission(found, [nothing, nothing]).admitted


class Pooled(torch.nn.Module):
    """Features of stride 16 that see no more than their own 16 x 16 pixels."""

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(pixels, 16, ceil_mode=True, count_include_pad=False)


@pytest.mark.parametrize("size", [(40, 1300), (1100, 1100), (1025, 64)])
def test_features_in_tiles_are_those_of_the_whole(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8)
    plain, cpu = Normalisation((0.0,) * 3, (1.0,) * 3), torch.device("cpu")
    monkeypatch.setattr("recamlabel.models.inputs.TILE", 512)
    tiled = run_in_tiles(Pooled(), [image, image], size, 16, plain, cpu, False)
    monkeypatch.setattr("recamlabel.models.inputs.TILE", 4096)
    whole = run_in_tiles(Pooled(), [image, image], size, 16, plain, cpu, False)
    assert tiled.shape == whole.shape == (2, 3, -(-size[0] // 16), -(-size[1] // 16))
    assert torch.allclose(tiled, whole, atol=1e-3)
