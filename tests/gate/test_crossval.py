"""Out-of-fold probabilities: nobody is judged by a model that has seen them, and order plays no part."""

from __future__ import annotations

import numpy as np
import pytest

from recamlabel.gate.crossval import average_precision, bounded_rows, canonical_order, out_of_fold


def blobs(count: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two classes, each on an axis of its own, far apart."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (count, 2)).astype(np.int8)
    return 3.0 * labels + rng.normal(0, 0.3, (count, 2)), labels, [f"{number:03d}" for number in range(count)]


def everything(count: int) -> np.ndarray:
    return np.ones(count, dtype=bool)


def test_separable_classes_are_told_apart() -> None:
    features, labels, ids = blobs()
    found = out_of_fold(features, labels, everything(40), ids, strength=1.0)
    assert ((found > 0.5) == (labels == 1)).all()
    assert average_precision(labels[:, 0], found[:, 0]) == 1.0


def test_an_image_is_judged_by_models_without_it() -> None:
    """A single wrong label among twenty right ones at the same place gets the others' verdict."""
    features = np.repeat([[0.0], [1.0]], 20, axis=0)
    labels = np.repeat([[0], [1]], 20, axis=0).astype(np.int8)
    labels[0] = 1
    found = out_of_fold(features, labels, everything(40), [str(number) for number in range(40)], strength=1.0)
    assert found[0, 0] < 0.3 and found[20:, 0].min() > 0.7


def test_noise_features_give_the_level_of_guessing() -> None:
    rng = np.random.default_rng(3)
    labels = (rng.random((400, 1)) < 0.25).astype(np.int8)
    ids = [str(number) for number in range(400)]
    found = out_of_fold(rng.normal(size=(400, 50)), labels, everything(400), ids)
    precision = average_precision(labels[:, 0], found[:, 0])
    assert precision is not None and abs(precision - 0.25) < 0.08


@pytest.mark.parametrize("seed", range(3))
def test_neither_the_order_of_images_nor_of_classes_matters(seed: int) -> None:
    features, labels, ids = blobs(30)
    labels[3, 0] = labels[7, 1] = -1
    training = np.arange(30) % 4 > 0
    found = out_of_fold(features, labels, training, ids)
    rows = np.random.default_rng(seed).permutation(30)
    again = out_of_fold(features[rows], labels[rows][:, ::-1], training[rows], [ids[row] for row in rows])
    assert np.array_equal(again[:, ::-1], found[rows], equal_nan=True)


def test_unknown_labels_take_no_part() -> None:
    features, labels, ids = blobs()
    labels[5:12, 0] = -1
    found = out_of_fold(features, labels, everything(40), ids)
    assert np.isnan(found[5:12, 0]).all() and not np.isnan(np.delete(found[:, 0], range(5, 12))).any()
    moved = features.copy()
    moved[5:12] = features[5:12][::-1]  # which of them is where does not matter, as the scaling sees them all alike
    assert np.allclose(out_of_fold(moved, labels, everything(40), ids)[:, 0], found[:, 0], equal_nan=True)


def test_images_outside_the_training_splits_are_judged_but_teach_nothing() -> None:
    features, labels, ids = blobs()
    training = np.arange(40) < 30
    found = out_of_fold(features, labels, training, ids)
    assert not np.isnan(found).any()
    wrong = labels.copy()
    wrong[~training] = 1 - wrong[~training]
    assert np.array_equal(out_of_fold(features, wrong, training, ids), found)


@pytest.mark.parametrize(
    "column",
    [[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [-1, -1, -1, -1], [1, 1, 0, -1], [1, -1, -1, -1]],
)
def test_too_few_of_a_kind_is_no_prediction(column: list[int]) -> None:
    labels = np.array(column, dtype=np.int8)[:, None]
    found = out_of_fold(np.eye(4), labels, everything(4), list("abcd"))
    assert np.isnan(found).all() and average_precision(labels[:, 0], found[:, 0]) is None


def test_no_training_image_and_one_image() -> None:
    labels = np.array([[1]], dtype=np.int8)
    assert np.isnan(out_of_fold(np.ones((1, 3)), labels, everything(1), ["a"])).all()
    assert np.isnan(out_of_fold(np.ones((1, 3)), labels, ~everything(1), ["a"])).all()


def test_average_precision_by_hand() -> None:
    labels = np.array([1, 0, 1, 0, -1], dtype=np.int8)
    ranked = np.array([0.9, 0.8, 0.7, 0.1, np.nan])
    assert average_precision(labels, ranked) == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_canonical_order_belongs_to_the_set() -> None:
    ids = [f"images/{number}" for number in range(20)]
    order = [ids[position] for position in canonical_order(ids)]
    assert sorted(order) == sorted(ids) and order != ids
    back = ids[::-1]
    assert [back[position] for position in canonical_order(back)] == order


def test_bounded_rows_keep_the_shares_by_weight() -> None:
    labels = np.array([0] * 90 + [1] * 10, dtype=np.int8)
    rows, weights = bounded_rows(labels, 40)
    assert (labels[rows] == 1).sum() == 10 and len(rows) == 40
    assert weights[labels[rows] == 0].sum() == pytest.approx(90) and weights[labels[rows] == 1].sum() == 10
    rows, weights = bounded_rows(labels, 1000)
    assert sorted(rows.tolist()) == list(range(100)) and (weights == 1).all()
    rows, weights = bounded_rows(np.array([0, 1] * 50, dtype=np.int8), 20)
    assert len(rows) == 20 and weights.sum() == pytest.approx(100)
