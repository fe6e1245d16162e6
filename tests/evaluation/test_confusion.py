"""The confusion matrix and every score, against numbers worked out by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from recamlabel.evaluation.confusion import ConfusionMatrix

TRUTH = np.array([[0, 0, 1, 1], [2, 2, 255, 255]], dtype=np.uint8)
PREDICTION = np.array([[0, 1, 1, 255], [2, 0, 1, 255]], dtype=np.uint8)


def confusion(n_classes: int = 3) -> ConfusionMatrix:
    matrix = ConfusionMatrix(n_classes, ignore_id=255)
    matrix.update(TRUTH, PREDICTION)
    return matrix


def test_matrix_counts_truth_in_rows_and_ignored_predictions_in_the_last_column() -> None:
    assert confusion().matrix.tolist() == [[1, 1, 0, 0], [0, 1, 0, 1], [1, 0, 1, 0]]


def test_scores_by_hand() -> None:
    scores = confusion().scores()
    np.testing.assert_allclose(scores.iou, [1 / 3, 1 / 3, 1 / 2])
    np.testing.assert_allclose(scores.precision, [1 / 2, 1 / 2, 1])
    np.testing.assert_allclose(scores.recall, [1 / 2, 1 / 2, 1 / 2])
    assert scores.miou == pytest.approx((1 / 3 + 1 / 3 + 1 / 2) / 3)
    assert scores.pixel_accuracy == pytest.approx(3 / 6)
    assert scores.coverage == pytest.approx(5 / 6)
    assert scores.miou_covered == pytest.approx((1 / 3 + 1 / 2 + 1 / 2) / 3)
    assert scores.pixel_accuracy_covered == pytest.approx(3 / 5)


def test_leaving_out_hard_pixels_does_not_raise_miou() -> None:
    truth = np.array([0, 0, 1, 1])
    answered, shy = ConfusionMatrix(2, 255), ConfusionMatrix(2, 255)
    answered.update(truth, np.array([0, 0, 1, 0]))
    shy.update(truth, np.array([0, 0, 1, 255]))
    assert shy.scores().recall.tolist() == answered.scores().recall.tolist()
    assert shy.scores().miou_covered == 1.0
    assert shy.scores().miou == pytest.approx(0.75)


def test_true_ignore_takes_no_part_whatever_is_predicted_there() -> None:
    one, other = ConfusionMatrix(2, 255), ConfusionMatrix(2, 255)
    one.update(np.array([0, 1, 255]), np.array([0, 1, 0]))
    other.update(np.array([0, 1, 255]), np.array([0, 1, 255]))
    assert one.matrix.tolist() == other.matrix.tolist() == [[1, 0, 0], [0, 1, 0]]


def test_many_updates_equal_one_large_update() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, 3, 255], size=(6, 40, 30)).astype(np.uint8)
    prediction = rng.choice([0, 1, 2, 3, 255], size=(6, 40, 30)).astype(np.uint8)
    stream, whole = ConfusionMatrix(4, 255), ConfusionMatrix(4, 255)
    for pair in zip(truth, prediction, strict=True):
        stream.update(*pair)
    whole.update(truth, prediction)
    assert (stream.matrix == whole.matrix).all()
    slow = np.zeros((4, 5), dtype=int)
    for true, predicted in zip(truth.ravel(), prediction.ravel(), strict=True):
        if true != 255:
            slow[true, 4 if predicted == 255 else predicted] += 1
    assert (whole.matrix == slow).all()


def test_class_that_is_neither_there_nor_predicted_is_left_out_of_the_mean() -> None:
    scores = confusion(n_classes=5).scores()
    assert np.isnan(scores.iou[3:]).all()
    assert np.isnan(scores.precision[3:]).all()
    assert np.isnan(scores.recall[3:]).all()
    assert scores.miou == confusion().scores().miou


def test_class_that_is_only_predicted_counts_as_zero() -> None:
    matrix = ConfusionMatrix(3, 255)
    matrix.update(np.array([0, 0, 1]), np.array([0, 2, 1]))
    scores = matrix.scores()
    assert scores.iou.tolist() == [0.5, 1.0, 0.0]
    assert np.isnan(scores.recall[2])
    assert scores.precision[2] == 0
    assert scores.miou == 0.5


def test_nothing_counted_is_nan_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = ConfusionMatrix(2, 255).scores()
    assert np.isnan([scores.miou, scores.pixel_accuracy, scores.coverage, scores.miou_covered]).all()


def test_sixteen_bit_masks() -> None:
    matrix = ConfusionMatrix(301, ignore_id=65535)
    matrix.update(np.array([300, 255, 65535], np.uint16), np.array([300, 65535, 3], np.uint16))
    assert matrix.matrix[300, 300] == 1
    assert matrix.matrix[255, 301] == 1
    assert matrix.matrix.sum() == 2


def test_inputs_are_not_changed() -> None:
    truth, prediction = TRUTH.copy(), PREDICTION.copy()
    ConfusionMatrix(3, 255).update(truth, prediction)
    assert (truth == TRUTH).all()
    assert (prediction == PREDICTION).all()


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), r"of one shape, got \(2, 2\) and \(2, 3\)"),
        (np.array([7]), np.array([0]), r"truth holds \[7\]; expected class ids 0..1 or 255"),
        (np.array([0]), np.array([-1]), r"prediction holds \[-1\]; expected class ids 0..1 or 255"),
        (np.array([0, 0]), np.array([9, 3]), r"prediction holds \[3, 9\]"),
    ],
)
def test_refuses(truth: np.ndarray, prediction: np.ndarray, message: str) -> None:
    matrix = ConfusionMatrix(2, 255)
    with pytest.raises(ValueError, match=message):
        matrix.update(truth, prediction)
    assert matrix.matrix.sum() == 0


def test_refuses_impossible_ids() -> None:
    with pytest.raises(ValueError, match="at least one class"):
        ConfusionMatrix(0, 255)
    with pytest.raises(ValueError, match=r"ignore_id 255 is also a class id: expected one outside 0\.\.299"):
        ConfusionMatrix(300, 255)
