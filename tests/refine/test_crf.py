"""Dense CRF and confident seeds."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from recamlabel.errors import MissingExtraError, RecamlabelError
from recamlabel.refine.config import CrfConfig
from recamlabel.refine.crf import CrfInference, confident_seeds, crf_from_labels, labels_to_unary, pydensecrf_available


@pytest.fixture
def no_crf(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pydensecrf", "pydensecrf.densecrf"):
        monkeypatch.setitem(sys.modules, name, None)


def make_image(height: int = 24, width: int = 32) -> NDArray[np.uint8]:
    """Left half dark, right half bright, slightly noisy."""
    noise = np.random.default_rng(0).integers(0, 9, (height, width, 3))
    noise[:, width // 2 :] += 200
    return noise.astype(np.uint8)


def speckled(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The halves as labels 0 and 1, every eighth pixel wrong."""
    labels = (image[..., 0] > 100).astype(np.int64)
    wrong = np.random.default_rng(1).random(labels.shape) < 0.125
    return np.where(wrong, 1 - labels, labels)


def test_unary_by_hand() -> None:
    unary = labels_to_unary(np.array([[0, 2]]), 3, 0.7)
    assert unary.dtype == np.float32
    expected = [[[0.7, 0.15]], [[0.15, 0.15]], [[0.15, 0.7]]]
    np.testing.assert_allclose(np.exp(-unary), expected, rtol=1e-6)
    assert labels_to_unary(np.zeros((2, 3), np.int64), 1, 0.7).tolist() == [[[0.0] * 3] * 2]


@pytest.mark.parametrize(
    "labels", [np.array([[0, 3]]), np.array([[-1, 0]]), np.zeros((0, 2), np.int64), np.zeros(3, np.int64)]
)
def test_labels_out_of_range_are_refused(labels: NDArray[np.int64]) -> None:
    with pytest.raises(RecamlabelError, match=r"expected labels \(H, W\) in 0\.\.2"):
        labels_to_unary(labels, 3, 0.7)


def test_gt_prob_out_of_range_is_refused() -> None:
    with pytest.raises(RecamlabelError, match="gt_prob"):
        labels_to_unary(np.zeros((1, 1), np.int64), 2, 1.0)


def test_it_mends_wrong_labels() -> None:
    image = make_image()
    assert np.array_equal(crf_from_labels(image, speckled(image), 2), image[..., 0] > 100)


def test_label_order_does_not_matter() -> None:
    image = make_image()
    labels = speckled(image)
    assert np.array_equal(crf_from_labels(image, 1 - labels, 2), 1 - crf_from_labels(image, labels, 2))


def test_one_inference_serves_several_unaries_like_fresh_ones() -> None:
    image = make_image()
    shared = CrfInference(image, 3)
    for labels in (speckled(image), 2 * speckled(image), np.zeros(image.shape[:2], np.int64), speckled(image)):
        marginals = shared.run(labels_to_unary(labels, 3, 0.7))
        assert marginals.dtype == np.float32
        np.testing.assert_array_equal(marginals, CrfInference(image, 3).run(labels_to_unary(labels, 3, 0.7)))
        np.testing.assert_allclose(marginals.sum(axis=0), 1, atol=1e-5)
        assert marginals.min() >= 0
        assert np.array_equal(shared.run_labels(labels), crf_from_labels(image, labels, 3))


def test_settings_count() -> None:
    image = make_image()
    weak = CrfConfig(gaussian_compat=0, bilateral_compat=0)
    labels = speckled(image)
    assert np.array_equal(crf_from_labels(image, labels, 2, weak), labels)
    unary = labels_to_unary(labels, 2, 0.7)
    once, ten = CrfInference(image, 2, CrfConfig(iterations=1)).run(unary), CrfInference(image, 2).run(unary)
    assert not np.array_equal(once, ten)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2)])
def test_tiny_images(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 9, np.uint8)
    labels = np.ones(size, np.int64)
    assert np.array_equal(crf_from_labels(image, labels, 3), labels)


def test_the_image_may_be_read_only_or_strided_and_is_not_changed() -> None:
    image = make_image()
    expected = crf_from_labels(image, speckled(image), 2)
    strided = np.asfortranarray(image)
    strided.setflags(write=False)
    assert np.array_equal(crf_from_labels(strided, speckled(image), 2), expected)
    assert np.array_equal(strided, make_image())
    flipped = image[:, ::-1]
    assert np.array_equal(crf_from_labels(flipped, speckled(image)[:, ::-1], 2), expected[:, ::-1])


def test_many_labels() -> None:
    image = make_image(6, 8)
    labels = np.arange(48).reshape(6, 8) % 200
    assert np.isfinite(CrfInference(image, 201).run(labels_to_unary(labels, 201, 0.7))).all()


def test_one_label() -> None:
    image = make_image()
    assert not crf_from_labels(image, np.zeros(image.shape[:2], np.int64), 1).any()
    assert (CrfInference(image, 1).run(np.zeros((1, 24, 32), np.float32)) == 1).all()


def test_bad_inputs_are_named() -> None:
    with pytest.raises(RecamlabelError, match=r"\(H, W, 3\) uint8, got \(4, 4\) uint8"):
        CrfInference(np.zeros((4, 4), np.uint8), 1)
    with pytest.raises(RecamlabelError, match="float64"):
        CrfInference(np.zeros((4, 4, 3)), 1)  # type: ignore[arg-type]
    with pytest.raises(RecamlabelError, match="at least 1 label"):
        CrfInference(np.zeros((4, 4, 3), np.uint8), 0)
    crf = CrfInference(np.zeros((4, 4, 3), np.uint8), 1)
    with pytest.raises(RecamlabelError, match=r"expected a unary \(1, 4, 4\), got \(2, 4, 4\)"):
        crf.run(np.zeros((2, 4, 4)))
    with pytest.raises(RecamlabelError, match="NaN"):
        crf.run(np.full((1, 4, 4), np.nan))


def test_without_the_package_the_error_says_what_to_install(no_crf: None) -> None:
    assert not pydensecrf_available()
    with pytest.raises(MissingExtraError, match=r"pip install 'recamlabel\[crf\]'.*C\+\+ compiler.*'torch'"):
        CrfInference(make_image(), 2, CrfConfig(backend="pydensecrf"))


def test_seeds_are_what_both_labellings_agree_on() -> None:
    image = make_image()
    bright = image[..., 0] > 100
    maps = np.stack([np.where(bright, 0.9, 0.0), np.zeros(bright.shape)]).astype(np.float32)
    assert np.array_equal(confident_seeds(image, maps, [3, 8]), np.where(bright, 3, 0))
    unsure = maps * (0.2 / 0.9)  # foreground for the generous labels, background for the strict ones
    assert np.array_equal(confident_seeds(image, unsure, [3, 8]), np.where(bright, 255, 0))
    assert confident_seeds(image, unsure, [3, 8], fg_threshold=0.15).max() == 3


def test_seeds_of_more_than_254_classes_are_16_bit() -> None:
    image, maps = make_image(4, 4), np.ones((1, 4, 4), np.float32)
    seeds = confident_seeds(image, maps, [300], ignore_id=65535)
    assert seeds.dtype == np.uint16
    assert (seeds == 300).all()
    assert confident_seeds(image, maps, [254]).dtype == np.uint8


def test_seeds_of_an_image_without_classes_are_background() -> None:
    seeds = confident_seeds(make_image(), np.zeros((0, 24, 32), np.float32), [])
    assert seeds.shape == (24, 32)
    assert not seeds.any()


def test_bad_seed_inputs_are_named() -> None:
    image, maps = make_image(4, 4), np.ones((1, 4, 4), np.float32)
    with pytest.raises(RecamlabelError, match=r"expected maps \(2, 4, 4\)"):
        confident_seeds(image, maps, [1, 2])
    with pytest.raises(RecamlabelError, match="NaN"):
        confident_seeds(image, maps * np.nan, [1])
    with pytest.raises(RecamlabelError, match=r"1\.\.254, got \[255\]"):
        confident_seeds(image, maps, [255])
    with pytest.raises(RecamlabelError, match="bg_threshold"):
        confident_seeds(image, maps, [1], bg_threshold=0.5)
