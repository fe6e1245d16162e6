"""The permutohedral lattice, mean-field inference on it, and both against the package pydensecrf2."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recamlabel.errors import RecamlabelError
from recamlabel.refine.config import CrfConfig
from recamlabel.refine.crf import CrfInference, labels_to_unary
from recamlabel.refine.mean_field import log_odds, pairwise_terms, probabilities
from recamlabel.refine.permutohedral import Lattice


def features(count: int = 300, dimensions: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(0, 4, (count, dimensions)).astype(np.float32))


def photograph(height: int = 60, width: int = 80, seed: int = 0) -> np.ndarray:
    """Coloured blocks under noise."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 230, (6, 8, 3)).repeat(height // 6, 0).repeat(width // 8, 1)
    return (blocks + random.integers(0, 25, blocks.shape)).astype(np.uint8)


def some_labels(image: np.ndarray, n_labels: int, maps: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    height, width = image.shape[0] // 10, image.shape[1] // 10
    return random.integers(0, n_labels, (maps, height, width)).repeat(10, 1).repeat(10, 2)


def test_far_pixels_do_not_meet_and_equal_ones_share() -> None:
    lattice = Lattice(torch.tensor([[0.0, 0.0], [0.0, 0.0], [500.0, 0.0]]))
    values = torch.tensor([[1.0, 4.0], [0.0, 2.0], [7.0, 0.0]])
    torch.testing.assert_close(lattice.filter(values), torch.tensor([[0.5, 3.0], [0.5, 3.0], [7.0, 0.0]]))


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_its_weights_are_not_negative_and_its_row_sums_known(dimensions: int) -> None:
    lattice = Lattice(features(60, dimensions))
    matrix = lattice.filter(torch.eye(60))
    assert matrix.min() >= 0
    if dimensions == 1:  # with more, the order of the blur's directions counts a little
        torch.testing.assert_close(matrix, matrix.T)
    torch.testing.assert_close(lattice.row_sums, matrix.sum(1))


def test_it_is_near_the_gaussian_that_it_stands_for() -> None:
    points = features(400, 2)
    distance = (points[:, None] - points[None]).square().sum(-1)
    gaussian = torch.exp(-distance / 2)
    norm = gaussian.sum(1).rsqrt()
    exact = norm[:, None] * gaussian * norm[None]
    ours = Lattice(points).filter(torch.eye(400))
    assert (ours - exact).norm() < 0.1 * exact.norm()
    assert ours.sum(1).sub(exact.sum(1)).abs().max() < 0.1


def test_channels_do_not_touch_each_other() -> None:
    lattice = Lattice(features())
    values = torch.from_numpy(np.random.default_rng(1).random((300, 5)).astype(np.float32))
    apart = torch.cat([lattice.filter(values[:, [channel]]) for channel in range(5)], 1)
    torch.testing.assert_close(lattice.filter(values), apart)


def test_the_number_of_threads_changes_nothing() -> None:
    points, values = features(5000, 5), features(5000, 4, seed=1)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(Lattice(points).filter(values))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


def test_kernels_too_narrow_for_the_keys_are_refused() -> None:
    with pytest.raises(RecamlabelError, match=r"too narrow.*bilateral_srgb.*refine\.max_side"):
        Lattice(torch.tensor([[0.0] * 5, [1e5] * 5]))


def test_mean_field_by_hand() -> None:
    # Two pixels that share all: the filter is the mean. One step: z = 1 - 2 w c + w (m + m), c = 1, m = mean of q.
    lattice = Lattice(torch.zeros(2, 1))
    start = torch.tensor([1.0, -1.0]).view(2, 1, 1)
    shares = torch.sigmoid(torch.tensor([1.0, -1.0]))
    expected = torch.tensor([1.0, -1.0]) - 3.0 + 2 * 3.0 * shares.mean()
    torch.testing.assert_close(log_odds(start, [(3.0, lattice)], 1).flatten(), expected)
    assert torch.equal(log_odds(start, [(3.0, lattice)], 0), start)
    assert torch.equal(log_odds(start * 1e6, [], 3).flatten(), torch.tensor([80.0, -80.0]))


def test_probabilities_are_a_softmax_with_a_zero_in_front() -> None:
    z = torch.randn(7, 3, 2, generator=torch.Generator().manual_seed(0)) * 20
    expected = torch.cat([torch.zeros(7, 1, 2), z], 1).softmax(1)[:, 1:]
    torch.testing.assert_close(probabilities(z), expected)


def test_terms_of_weight_0_are_left_out() -> None:
    image = torch.zeros(4, 4, 3)
    assert [weight for weight, _ in pairwise_terms(image, (3.0, 0.0), (5.0, 5.0, 7.0))] == [7.0]
    assert pairwise_terms(image, (3.0, 0.0), (5.0, 5.0, 0.0)) == []


def test_label_maps_at_once_are_label_maps_one_by_one() -> None:
    image = photograph()
    labels = some_labels(image, 3, 4)
    crf = CrfInference(image, 3)
    together = crf.run_labels(labels)
    assert together.shape == labels.shape and together.dtype == np.int64
    assert np.array_equal(together, np.stack([crf.run_labels(one) for one in labels]))
    assert not np.array_equal(together, labels)


def test_labels_of_another_size_are_refused() -> None:
    with pytest.raises(RecamlabelError, match=r"expected labels \(60, 80\), got \(2, 2\)"):
        CrfInference(photograph(), 2).run_labels(np.zeros((2, 2), np.int64))


@pytest.mark.parametrize("n_labels", [2, 3, 6])
@pytest.mark.parametrize("kernels", [{}, {"gaussian_sxy": 1.5, "bilateral_sxy": 12.0, "iterations": 3}])
def test_the_labels_and_marginals_are_those_of_pydensecrf(n_labels: int, kernels: dict[str, float]) -> None:
    pytest.importorskip("pydensecrf.densecrf")
    for seed in range(3):
        image = photograph(seed=seed)
        labels = some_labels(image, n_labels, 4, seed)
        ours, theirs = (
            CrfInference(image, n_labels, CrfConfig(backend=name, **kernels)) for name in ("torch", "pydensecrf")
        )
        assert (ours.run_labels(labels) != theirs.run_labels(labels)).mean() <= 1e-4
        unary = labels_to_unary(labels[0], n_labels, 0.7)
        np.testing.assert_allclose(ours.run(unary), theirs.run(unary), atol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_gives_the_labels_of_the_cpu() -> None:
    image = photograph()
    labels = some_labels(image, 3, 8)
    expected = CrfInference(image, 3).run_labels(labels)
    with torch.device("cuda"):
        result = CrfInference(image, 3).run_labels(labels)
    assert (result != expected).mean() <= 1e-4
