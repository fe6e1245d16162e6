"""The random walk: equal to dense matrix powers, with its error bound."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from recamlabel.errors import ConfigError, RecamlabelError
from recamlabel.models.affinity_pairs import pair_paths
from recamlabel.refine import random_walk as module
from recamlabel.refine.random_walk import chebyshev_coefficients, chebyshev_degree, random_walk


def transitions(edge: Tensor, radius: int, beta: float) -> Tensor:
    """docs/method.md, 4's T by plain loops over pixel pairs, float64."""
    height, width = edge.shape
    affinity = torch.eye(height * width, dtype=torch.float64)
    for (dy, dx), path in zip(pair_paths(radius).offsets, pair_paths(radius).paths, strict=True):
        for y in range(height - dy):
            for x in range(max(0, -dx), width - max(0, dx)):
                strongest = max(float(edge[y + i, x + j]) for i, j in path)
                one, other = y * width + x, (y + dy) * width + x + dx
                affinity[one, other] = affinity[other, one] = (1 - strongest) ** beta
    return affinity / affinity.sum(dim=0)


def dense_walk(maps: Tensor, edge: Tensor, radius: int = 5, beta: float = 10, log2_steps: int = 8) -> Tensor:
    power = torch.linalg.matrix_power(transitions(edge, radius, beta), 2**log2_steps)
    start: Tensor = maps.double() * (1 - edge.double())
    return torch.matmul(start.flatten(1), power).view(maps.shape)


def make_case(height: int, width: int, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(classes, height, width, generator=generator)
    return maps, torch.rand(height, width, generator=generator) ** 3


@pytest.mark.parametrize(
    ("height", "width", "classes"), [(13, 17, 3), (1, 1, 1), (1, 9, 2), (9, 1, 2), (3, 4, 1), (4, 4, 30)]
)
def test_equals_the_dense_form(height: int, width: int, classes: int) -> None:
    maps, edge = make_case(height, width, classes)
    torch.testing.assert_close(random_walk(maps, edge).double(), dense_walk(maps, edge), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("radius", "beta", "log2_steps"),
    [(1, 10, 8), (2, 10, 8), (7, 4, 8), (5, 0.5, 3), (5, 10, 0), (5, 10, 1), (3, 20, 11)],
)
def test_equals_the_dense_form_for_any_setting(radius: int, beta: float, log2_steps: int) -> None:
    maps, edge = make_case(9, 12)
    found = random_walk(maps.double(), edge.double(), radius=radius, beta=beta, log2_steps=log2_steps)
    torch.testing.assert_close(found, dense_walk(maps, edge, radius, beta, log2_steps), atol=1e-6, rtol=0)


def test_by_hand_two_pixels() -> None:
    # Affinity (1 - 0.5)^1: T = [[2/3, 1/3], [1/3, 2/3]], two steps; edges scale the start by a half.
    found = random_walk(torch.tensor([[[2.0, 0.0]]]), torch.full((1, 2), 0.5), beta=1, log2_steps=1)
    torch.testing.assert_close(found, torch.tensor([[[5 / 9, 4 / 9]]]))


def test_a_wall_keeps_the_sides_apart() -> None:
    edge = torch.zeros(12, 15)
    edge[:, 7] = 1.0
    maps = torch.zeros(1, 12, 15)
    maps[:, :, :7] = 0.8
    found = random_walk(maps, edge)
    torch.testing.assert_close(found[:, :, :7], torch.full((1, 12, 7), 0.8))
    assert not found[:, :, 7:].any()


def test_many_weak_neighbours_are_not_lost_to_rounding() -> None:
    """Affinities near 1e-8: in float32 sums a pixel would lose them, 256 times over."""
    maps, edge = make_case(10, 12)
    edge = torch.where(edge > 0.1, 0.84, 0.0)
    torch.testing.assert_close(random_walk(maps, edge).double(), dense_walk(maps, edge), atol=1e-6, rtol=0)


def test_output_lies_between_the_extremes_of_its_input() -> None:
    maps, edge = make_case(20, 26)
    start, found = maps * (1 - edge), random_walk(maps, edge)
    assert (found.amax(dim=(1, 2)) <= start.amax(dim=(1, 2)) + 1e-6).all()
    assert (found.amin(dim=(1, 2)) >= start.amin(dim=(1, 2)) - 1e-6).all()


def test_an_even_map_without_edges_stays_as_it_is() -> None:
    maps = torch.full((2, 9, 14), 0.7)
    torch.testing.assert_close(random_walk(maps, torch.zeros(9, 14)), maps)


def test_linear_and_equivariant_under_flips() -> None:
    maps, edge = make_case(11, 8)
    found = random_walk(maps, edge)
    torch.testing.assert_close(
        random_walk(3 * maps[:1] - maps[1:2], edge), 3 * found[:1] - found[1:2], atol=1e-5, rtol=0
    )
    for axes in ((1,), (2,), (1, 2)):
        flipped = random_walk(maps.flip(axes), edge.flip([axis - 1 for axis in axes]))
        torch.testing.assert_close(flipped.flip(axes), found)
    torch.testing.assert_close(random_walk(maps.transpose(1, 2), edge.T).transpose(1, 2), found)


def test_a_batch_is_its_images() -> None:
    cases = [make_case(10, 13, seed=seed) for seed in range(3)]
    maps, edge = torch.stack([case[0] for case in cases]), torch.stack([case[1] for case in cases])
    expected = torch.stack([random_walk(*case) for case in cases])
    torch.testing.assert_close(random_walk(maps, edge), expected)
    torch.testing.assert_close(random_walk(maps, edge[:, None]), expected)


@pytest.mark.parametrize("block", [1, 50, 10**9])
def test_the_block_size_changes_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    maps, edge = make_case(10, 13)
    expected = random_walk(maps, edge)
    monkeypatch.setattr(module, "CPU_BLOCK", block)
    torch.testing.assert_close(random_walk(maps, edge), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_dtype_is_kept_and_inputs_are_not_changed(dtype: torch.dtype) -> None:
    maps, edge = (tensor.to(dtype) for tensor in make_case(6, 7))
    before = maps.clone(), edge.clone()
    found = random_walk(maps, edge)
    assert found.dtype == dtype
    assert found.shape == maps.shape
    assert torch.equal(maps, before[0])
    assert torch.equal(edge, before[1])


def test_nothing_in_nothing_out() -> None:
    assert not random_walk(torch.zeros(2, 6, 7), torch.rand(6, 7)).any()
    assert random_walk(torch.zeros(0, 6, 7), torch.rand(6, 7)).shape == (0, 6, 7)
    assert not random_walk(torch.ones(2, 6, 7), torch.ones(6, 7)).any()


def test_200_classes_are_200_maps() -> None:
    maps, edge = make_case(8, 9, classes=200)
    found = random_walk(maps, edge)
    torch.testing.assert_close(found[123:124], random_walk(maps[123:124], edge))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    maps, edge = make_case(5, 6)
    broken = maps.clone()
    broken[1, 2, 3] = value
    with pytest.raises(RecamlabelError, match="random walk hold NaN or infinity"):
        random_walk(broken, edge)
    edge[2, 2] = value
    with pytest.raises(RecamlabelError, match=r"outside \[0, 1\] or NaN"):
        random_walk(maps, edge)


def test_bad_arguments_are_named() -> None:
    maps, edge = make_case(5, 6)
    with pytest.raises(RecamlabelError, match=r"\(3, 5, 6\) and \(5, 5\)"):
        random_walk(maps, edge[:, :5])
    with pytest.raises(RecamlabelError, match="floating-point"):
        random_walk(maps.to(torch.uint8), edge)
    with pytest.raises(ConfigError, match="radius"):
        random_walk(maps, edge, radius=0)
    with pytest.raises(ConfigError, match="beta"):
        random_walk(maps, edge, beta=0)
    with pytest.raises(ConfigError, match=r"0\.\.16, got 17"):
        random_walk(maps, edge, log2_steps=17)


@pytest.mark.parametrize("steps", [1, 2, 3, 16, 255, 256, 65536])
def test_chebyshev_coefficients_are_a_distribution_that_makes_the_power(steps: int) -> None:
    coefficients = torch.tensor(chebyshev_coefficients(steps), dtype=torch.float64)
    assert coefficients.min() >= 0
    assert coefficients.sum().item() == pytest.approx(1.0, abs=1e-11)
    angle = torch.linspace(0, math.pi, 41, dtype=torch.float64)
    series = (coefficients[:, None] * torch.cos(torch.arange(steps + 1)[:, None] * angle)).sum(dim=0)
    torch.testing.assert_close(series, angle.cos() ** steps, atol=1e-10, rtol=0)


def test_cutting_the_series_stays_within_the_bound() -> None:
    """On the interval and on real walks: the error is never above what the module's text proves."""
    coefficients = torch.tensor(chebyshev_coefficients(256), dtype=torch.float64)
    angle = torch.linspace(0, math.pi, 401, dtype=torch.float64)
    waves = torch.cos(torch.arange(257)[:, None] * angle)
    maps, edge = make_case(9, 11)
    walk = module._Walk(edge[None].double(), pair_paths(5), 10.0)
    start = maps[None].double()
    exact = walk.power(start, 256)
    for degree in (10, 30, 50, 70):
        tail = float(coefficients[degree + 1 :].sum())
        cut = (coefficients[: degree + 1, None] * waves[: degree + 1]).sum(dim=0)
        assert (cut - angle.cos() ** 256).abs().max() <= tail + 1e-12
        padded = torch.nn.functional.pad(start, (0, walk.padded - walk.width)).flatten(2) * walk.root
        found = walk._sum_chebyshev(padded, coefficients[: degree + 1].tolist()) / walk.root
        error = (found.view(1, 3, 9, walk.padded)[..., :11] - exact).abs().max()
        assert 0 < error <= tail * math.sqrt(69 * 9 * 11) * start.max() + 1e-9


def test_degree_is_the_smallest_within_tolerance() -> None:
    for steps, pixels, neighbours in ((256, 54 * 80, 34), (256, 1, 34), (1024, 10_000, 12), (8, 100, 4)):
        degree = chebyshev_degree(steps, pixels, neighbours)
        coefficients = chebyshev_coefficients(steps)
        scale = math.sqrt((2 * neighbours + 1) * pixels)
        assert sum(coefficients[degree + 1 :]) * scale <= 1e-5
        assert sum(coefficients[degree:]) * scale > 1e-5
    assert chebyshev_degree(256, 375 * 500, 34) < 128
    assert chebyshev_degree(256, 1, 1, tolerance=10.0) == 0


def test_memory_grows_with_the_pixels_not_their_square() -> None:
    walk = module._Walk(torch.rand(1, 60, 80), pair_paths(5), 10.0)
    assert walk.weights.numel() == 34 * 60 * 84
