"""Neighbour pairs, paths, pair labels, affinity losses and the affinity net."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from recamlabel.errors import ConfigError, RecamlabelError
from recamlabel.models.affinity import AffinityNet, affinity_losses
from recamlabel.models.affinity_pairs import PairPaths, pair_affinity, pair_labels, pair_paths, path_maximum


def distance_to_segment(point: tuple[int, int], end: tuple[int, int]) -> float:
    length = end[0] ** 2 + end[1] ** 2
    along = max(0.0, min(1.0, (point[0] * end[0] + point[1] * end[1]) / length))
    return math.hypot(point[0] - along * end[0], point[1] - along * end[1])


@pytest.mark.parametrize(("radius", "count"), [(1, 0), (2, 4), (3, 12), (5, 34), (10, 152)])
def test_offsets_are_one_half_of_the_disc(radius: int, count: int) -> None:
    offsets = pair_paths(radius).offsets
    both = {*offsets, *((-dy, -dx) for dy, dx in offsets)}
    span = range(-radius + 1, radius)
    disc = {(dy, dx) for dy in span for dx in span if dy * dy + dx * dx < radius * radius}
    assert len(offsets) == count
    assert len(both) == 2 * count
    assert both == disc - {(0, 0)}


@pytest.mark.parametrize("radius", [2, 5, 10])
def test_a_path_is_what_lies_closer_than_one_to_the_segment(radius: int) -> None:
    paths = pair_paths(radius)
    for offset, path in zip(paths.offsets, paths.paths, strict=True):
        box = [(y, x) for y in range(offset[0] + 1) for x in range(min(0, offset[1]), max(0, offset[1]) + 1)]
        assert set(path) == {point for point in box if distance_to_segment(point, offset) < 1 - 1e-9}
        assert {(0, 0), offset} <= set(path)


def test_a_radius_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 pixel, got 0"):
        pair_paths(0)


def brute_affinity(edge: Tensor, paths: PairPaths) -> Tensor:
    margin = paths.radius - 1
    height, width = edge.shape
    rows = [
        [
            1 - max(float(edge[y + dy, x + dx]) for dy, dx in path)
            for y in range(height - margin)
            for x in range(margin, width - margin)
        ]
        for path in paths.paths
    ]
    return torch.tensor(rows)


@pytest.mark.parametrize(("radius", "height", "width"), [(2, 3, 4), (3, 7, 9), (5, 9, 12)])
def test_affinity_is_one_minus_the_strongest_edge_on_the_path(radius: int, height: int, width: int) -> None:
    edge = torch.rand(2, 1, height, width)
    found = pair_affinity(edge, pair_paths(radius))
    expected = torch.stack([brute_affinity(image, pair_paths(radius)) for image in edge[:, 0]])
    torch.testing.assert_close(found, expected)


def test_a_wall_parts_what_it_stands_between() -> None:
    edge = torch.zeros(1, 2, 5)
    edge[:, :, 2] = 1.0
    paths = pair_paths(2)
    affinity = pair_affinity(edge, paths)[0, paths.offsets.index((0, 1))]
    assert affinity.tolist() == [0.0, 0.0, 1.0]  # sources at columns 1, 2, 3 of row 0


def test_path_maximum_covers_every_pair_in_the_map() -> None:
    edge = torch.rand(6, 7)
    for offset, path in zip(pair_paths(5).offsets, pair_paths(5).paths, strict=True):
        found = path_maximum(edge, path, offset)
        left = max(0, -offset[1])
        assert found.shape == (6 - offset[0], 7 - abs(offset[1]))
        for y in range(found.shape[0]):
            for x in range(found.shape[1]):
                assert found[y, x] == max(edge[y + dy, left + x + dx] for dy, dx in path)


def test_a_map_smaller_than_the_radius_has_no_pair() -> None:
    assert pair_affinity(torch.rand(2, 1, 3, 3), pair_paths(5)).shape == (2, 34, 0)
    assert pair_labels(torch.zeros(2, 3, 3, dtype=torch.int64), pair_paths(5)).background.shape == (2, 34, 0)
    assert path_maximum(torch.rand(1, 1), ((0, 0), (0, 1)), (0, 1)).shape == (1, 0)


def test_pair_affinity_gradient() -> None:
    torch.manual_seed(0)
    edge = torch.rand(1, 1, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: pair_affinity(values, pair_paths(3)), (edge,))


def test_pair_labels_by_hand() -> None:
    labels = torch.tensor([[[0, 0, 7, 0, 255], [7, 7, 3, 0, 0]]])
    paths = pair_paths(2)  # sources: row 0, columns 1 to 3 with labels 0, 7, 0
    pairs = pair_labels(labels, paths)
    right, down = paths.offsets.index((0, 1)), paths.offsets.index((1, 0))
    assert pairs.different[0, right].tolist() == [True, True, False]  # 0|7, 7|0, 0|255: ignored
    assert pairs.background[0, down].tolist() == [False, False, True]  # 0|7, 7|3, 0|0
    assert pairs.different[0, down].tolist() == [True, True, False]
    assert pairs.foreground[0, paths.offsets.index((1, -1))].tolist() == [False, True, False]  # 0|7, 7|7, 0|3


def test_pair_masks_part_the_known_pairs() -> None:
    labels = torch.randint(0, 4, (2, 9, 11))
    labels[labels == 3] = 255
    pairs = pair_labels(labels, pair_paths(4))
    total = pairs.background.int() + pairs.foreground.int() + pairs.different.int()
    assert total.max() == 1
    paths = pair_paths(4)
    source = labels.flatten(1)[:, paths.sources(9, 11)][:, None]
    target = labels.flatten(1)[:, paths.targets(9, 11)]
    assert torch.equal(total == 0, (source == 255) | (target == 255))


def test_more_classes_than_eight_bits() -> None:
    labels = torch.tensor([[[255, 300, 300], [65535, 300, 255]]])
    pairs = pair_labels(labels, pair_paths(2), ignore_id=65535)
    paths = pair_paths(2)
    assert pairs.foreground[0, paths.offsets.index((0, 1))].item()
    assert not pairs.different[0, paths.offsets.index((1, -1))].item()
    assert pairs.different[0, paths.offsets.index((1, 1))].item()


def test_losses_by_hand() -> None:
    # Radius 2 in a 2x3 map: one source (0, 1), neighbours right, down-left, down, down-right.
    labels = torch.tensor(
        [[[255, 1, 1], [2, 1, 255]]]
    )  # right: same, down-left: other, down: same, down-right: ignored
    logits = torch.zeros(1, 1, 2, 3)  # every affinity is a half
    displacement = torch.zeros(1, 2, 2, 3)
    displacement[0, :, 0, 1] = torch.tensor([1.0, 3.0])
    losses = affinity_losses(logits, displacement, labels, pair_paths(2))
    assert losses.pos_fg.item() == pytest.approx(math.log(2), abs=1e-4)
    assert losses.neg.item() == pytest.approx(math.log(2), abs=1e-4)
    assert (losses.pos_bg.item(), losses.dp_bg.item()) == (0.0, 0.0)
    # d_src - d_dst = (1, 3) against (0, 1) and (1, 0): errors 1, 2 and 0, 3, over two pairs and two channels
    assert losses.dp_fg.item() == pytest.approx(1.5)
    assert losses.total.item() == pytest.approx((math.log(2) / 2 + math.log(2)) / 2 + 0.75, abs=1e-4)


def test_a_true_displacement_field_costs_nothing() -> None:
    rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="ij")
    field = -torch.stack([rows, columns])[None]  # towards the origin: d_src - d_dst is the offset
    losses = affinity_losses(torch.zeros(1, 1, 9, 9), field, torch.ones(1, 9, 9, dtype=torch.uint8), pair_paths(4))
    assert losses.dp_fg.item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("labels", [torch.full((1, 6, 8), 255), torch.zeros(1, 3, 3, dtype=torch.int64)])
def test_nothing_to_learn_is_zero_with_a_zero_gradient(labels: Tensor) -> None:
    size = labels.shape[1:]
    logits, displacement = torch.randn(1, 1, *size, requires_grad=True), torch.randn(1, 2, *size, requires_grad=True)
    total = affinity_losses(logits, displacement, labels, pair_paths(5)).total
    assert total.item() == 0
    for gradient in torch.autograd.grad(total, (logits, displacement)):
        assert not gradient.any()


def test_losses_gradient_and_half_precision() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([[[0, 0, 1, 1, 2], [0, 1, 1, 2, 255], [0, 0, 0, 2, 2]]])
    inputs = [torch.randn(1, c, 3, 5, dtype=torch.float64, requires_grad=True) for c in (1, 2)]
    assert torch.autograd.gradcheck(lambda e, d: tuple(affinity_losses(e, d, labels, pair_paths(2))), tuple(inputs))
    sure = torch.full((1, 1, 3, 5), -30.0, dtype=torch.bfloat16)
    losses = affinity_losses(sure, torch.zeros(1, 2, 3, 5, dtype=torch.bfloat16), labels, pair_paths(2))
    assert all(torch.isfinite(loss) for loss in losses)


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(RecamlabelError, match=r"\(1, 1, 4, 4\), \(1, 2, 4, 4\) and \(1, 4, 5\)"):
        affinity_losses(torch.zeros(1, 1, 4, 4), torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 5), pair_paths(2))
    with pytest.raises(RecamlabelError, match="boundary probabilities"):
        pair_affinity(torch.zeros(1, 2, 4, 4), pair_paths(2))
    with pytest.raises(RecamlabelError, match="label map"):
        pair_labels(torch.zeros(4, 4), pair_paths(2))


CHANNELS, STRIDES = [8, 16, 24, 24, 32], [2, 4, 8, 16, 16]
SIZES = [(26, 38), (13, 19), (7, 10), (4, 5), (4, 5)]  # of a 52 x 76 image


def make_features(depths: int = 5) -> list[Tensor]:
    return [torch.rand(2, c, *size) for c, size in zip(CHANNELS[:depths], SIZES[:depths], strict=True)]


@pytest.mark.parametrize("depths", [2, 3, 5])
def test_net_gives_both_maps_at_stride_four(depths: int) -> None:
    net = AffinityNet(CHANNELS[:depths], STRIDES[:depths])
    edge, displacement = net(make_features(depths))
    assert (edge.shape, displacement.shape) == ((2, 1, 13, 19), (2, 2, 13, 19))


@pytest.mark.parametrize(("stride", "size"), [(16, (3, 4)), (2, (24, 32))])
def test_one_depth_without_stride_four(stride: int, size: tuple[int, int]) -> None:
    edge, displacement = AffinityNet([12], [stride])([torch.rand(1, 12, *size)])
    assert (edge.shape, displacement.shape) == ((1, 1, 12, 16), (1, 2, 12, 16))


def test_every_weight_learns_and_the_features_do_not() -> None:
    net, features = AffinityNet(CHANNELS, STRIDES), make_features()
    for feature in features:
        feature.requires_grad_()
    edge, displacement = net(features)
    labels = torch.randint(0, 3, (2, 13, 19))
    torch.autograd.backward(affinity_losses(edge, displacement, labels, pair_paths(5)).total)
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.parameters())
    assert all(feature.grad is None for feature in features)


def test_the_mean_displacement_is_taken_off_at_inference_only() -> None:
    net, features = AffinityNet(CHANNELS, STRIDES).train(), make_features()
    with torch.no_grad():
        raw = net(features)[1]
        mean = net.measure_displacement_mean([features, features])
        assert net.training
        torch.testing.assert_close(mean, raw.mean(dim=(0, 2, 3)))
        torch.testing.assert_close(net(features)[1], raw)
        inference = net.eval()(features)[1]
    torch.testing.assert_close(inference, raw - mean[:, None, None])
    torch.testing.assert_close(inference.mean(dim=(0, 2, 3)), torch.zeros(2), atol=1e-6, rtol=0)
    assert "displacement_mean" in net.state_dict()
    with pytest.raises(RecamlabelError, match="at least one batch"):
        net.measure_displacement_mean([])


def test_net_refuses_what_it_was_not_made_for() -> None:
    with pytest.raises(RecamlabelError, match="1 to 5 depths"):
        AffinityNet([], [])
    with pytest.raises(RecamlabelError, match="a stride each"):
        AffinityNet([8, 16], [4])
    with pytest.raises(RecamlabelError, match=r"\(8, 16\) channels, got \(8, 24\)"):
        AffinityNet([8, 16], [4, 8])([torch.rand(1, 8, 4, 4), torch.rand(1, 24, 2, 2)])
