"""Margins, stability and agreement on tiny arrays, and what is withheld because of them."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from recamlabel.adapters.base import Dataset, LabelledImage
from recamlabel.core.classes import ClassTable
from recamlabel.data.catalog import Catalog
from recamlabel.masks.evidence import (
    expected_iou,
    gather_evidence,
    iou,
    margin_histogram,
    margin_limit,
    margins,
    support,
    winners,
)
from recamlabel.masks.quality import MaskQuality, review_order
from recamlabel.masks.render import AUTO_SHARE, RenderJob, ignore_limit, render_mask, render_one

TABLE = ClassTable(("a", "b"))
BARE = ClassTable(("a", "b"), background=False)


def test_winners_and_margins_by_hand():
    maps = np.array([[[0.9, 0.2, 0.6]], [[0.1, 0.3, 0.8]]], np.float32)
    chosen = winners(maps, 0.5)
    assert chosen.tolist() == [[1, 0, 2]]
    assert np.allclose(margins(maps, chosen, 0.5), [[0.4, 0.2, 0.2]])
    assert np.allclose(margins(maps, np.array([[0, 1, 1]]), 0.5), [[-0.4, -0.3, -0.2]])


def test_iou_of_nothing_is_full_agreement():
    nothing, one = np.zeros((2, 2), bool), np.eye(2, dtype=bool)
    assert iou(nothing, nothing) == 1 and iou(nothing, one) == 0 and iou(one, np.ones((2, 2), bool)) == 0.5


def test_evidence_by_hand():
    """Scores say class 1 at 0.9 and 0.55: the second pixel is lost at the higher level."""
    scores = np.array([[[230, 140, 0, 0]]], np.uint8)
    maps = np.array([[[1.0, 0.4, 0.3, 0.1]]])
    found = gather_evidence(scores, maps, np.array([[[1.0, 1.0, 1.0, 0.0]]]), [2], 0.5, 0.5, background=True)
    assert np.allclose(found.margins, [[0.402 + 0.01, 0.049 - 0.002, 0.5 + 0.004, 0.5 + 0.008]], atol=1e-3)
    assert found.foreground.tolist() == [[True, True, False, False]]
    assert found.parts["stability"] == {0: 2 / 3, 2: 0.5} and found.parts["agreement"] == {0: 0.5, 2: 2 / 3}
    assert found.class_scores() == {0: pytest.approx(7 / 12), 2: pytest.approx(7 / 12)}


def test_the_probes_support_joins_the_evidence():
    """Of class 2's two pixels the probe gives it 0.9 and 0.5, of the background's two 0.8 and 1."""
    scores = np.array([[[230, 140, 0, 0]]], np.uint8)
    maps = np.array([[[1.0, 0.4, 0.3, 0.1]]])
    probe = np.array([[[0.9, 0.5, 0.2, 0.0]]])
    plain = gather_evidence(scores, maps, maps, [2], 0.5, 0.5, background=True)
    found = gather_evidence(scores, maps, maps, [2], 0.5, 0.5, probe=probe, background=True)
    assert plain.parts["probe_support"] == {}
    assert found.parts["probe_support"] == {0: pytest.approx(0.9), 2: pytest.approx(0.7)}
    assert found.class_scores()[2] == pytest.approx((0.5 + 0.5 + 0.7) / 3)
    alone = gather_evidence(scores, maps, maps, [2], 0.5, 0.5, background=False, probe=np.ones((1, 1, 4)))
    assert alone.parts["probe_support"] == {2: 1.0}


def test_without_labels_everything_is_sure():
    found = gather_evidence(
        np.zeros((0, 2, 3), np.uint8), np.zeros((0, 2, 3)), np.zeros((0, 2, 3)), [], 0.5, 0.5, background=True
    )
    assert found.class_scores() == {0: 1} and found.margins.shape == (2, 3) and found.margins.min() == 1


def test_without_background_the_threshold_does_not_count():
    scores, maps = np.array([[[10, 0]], [[0, 20]]], np.uint8), np.array([[[0.9, 0.1]], [[0.2, 0.3]]])
    found = gather_evidence(scores, maps, maps, [1, 2], 0.99, 0.99, background=False)
    assert np.allclose(found.margins, [[0.7, 0.2]]) and set(found.parts["stability"]) == {1, 2}
    assert render_mask(scores, [1, 2], (1, 2), 0.99, BARE).tolist() == [[1, 2]]
    assert render_mask(scores[:0], [], (1, 2), 0.99, BARE).tolist() == [[255, 255]]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_the_limit_withholds_at_most_the_share(share):
    values = np.random.default_rng(2).uniform(-1, 1, 5000).astype(np.float32)
    limit = margin_limit(margin_histogram(values), share)
    assert share - 0.02 <= (values < limit - 1e-6).mean() <= share + 1e-9


class Job:
    """One image whose class holds at the lower levels alone on `wrong` of 100 pixels."""

    def __init__(self, tmp_path, wrong, ignore):
        image = LabelledImage("x", tmp_path / "x.png", frozenset({"a"}), frozenset({"b"}))
        empty = LabelledImage("y", tmp_path / "y.png", frozenset(), frozenset({"a", "b"}))
        catalog = Catalog(Dataset(tmp_path, "csv", TABLE, (image, empty)), {"x": (10, 10), "y": (2, 2)}, {})
        self.file = h5py.File(tmp_path / f"{wrong}{ignore}.h5", "w")
        maps = np.linspace(0.6, 0.9, 100).reshape(1, 10, 10)
        maps.ravel()[:wrong] = 0.2
        scores = (255 * np.where(maps < 0.5, 0.6, 1.0)).astype(np.uint8)
        for group, data in (("scores", scores), ("recam", maps), ("cam", maps)):
            self.file.create_dataset(f"{group}/x", data=data).attrs["class_ids"] = [1]
            self.file.create_dataset(f"{group}/y", data=data[:0, :2, :2]).attrs["class_ids"] = np.zeros(0, int)
        self.job = RenderJob(catalog, self.file, self.file, "recam", 0.5, 0.5, ignore)
        self.limit = ignore_limit(self.job, lambda *_, **__: None, 2)

    def withheld(self):
        image = self.job.catalog.images[0]
        mask, quality = render_one(self.job, image, self.job.stored(image), self.limit)
        assert set(np.unique(mask)) <= {1, 255} and quality.withheld == (mask == 255).mean()
        assert quality.withheld_classes[1] == pytest.approx((mask == 255).mean())
        other, _ = render_one(
            self.job, self.job.catalog.images[1], self.job.stored(self.job.catalog.images[1]), self.limit
        )
        assert not other.any()
        return (mask == 255).mean()


@pytest.mark.parametrize(
    ("wrong", "ignore", "expected"),
    [
        (10, "auto", 0.10),
        (0, "auto", 0.0),
        (10, "none", 0.0),
        (10, 0.05, 0.0),
        (10, 0.3, 0.30),
        (0, 0.0, 0.0),
    ],
)
def test_what_is_withheld(tmp_path, wrong, ignore, expected):
    """Pixels near the decision, never more than the share: where more are equally near, none is."""
    assert abs(Job(tmp_path, wrong, ignore).withheld() - expected) <= 0.05


def test_small_objects_are_not_withheld_whole(tmp_path):
    """Nine of a hundred pixels, all near the decision: 15 % of all pixels would take every one of them."""
    image = LabelledImage("x", tmp_path / "x.png", frozenset({"a"}), frozenset({"b"}))
    catalog = Catalog(Dataset(tmp_path, "csv", TABLE, (image,)), {"x": (10, 10)}, {})
    scores = np.zeros((1, 10, 10))
    scores[0, :3, :3] = np.linspace(0.6, 0.9, 9).reshape(3, 3)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for group, data in (("scores", (255 * scores).astype(np.uint8)), ("recam", scores), ("cam", scores)):
            file.create_dataset(f"{group}/x", data=data).attrs["class_ids"] = [1]
        job = RenderJob(catalog, file, file, "recam", 0.5, 0.5, "auto")
        mask, _ = render_one(job, image, job.stored(image), ignore_limit(job, lambda *_, **__: None, 1))
    assert (mask == 255).sum() == 3 and (mask == 1).sum() == 6 and (mask == 0).sum() == 91


def test_auto_withholds_no_more_than_its_share(tmp_path):
    assert Job(tmp_path, 60, "auto").withheld() <= AUTO_SHARE


def test_quality_survives_the_file_and_orders_the_review(tmp_path):
    one = MaskQuality(0.75, {0: 1.0, 2: 0.5}, 0.1, {0: 0.0, 2: 0.25})
    with h5py.File(tmp_path / "m.h5", "w") as file:
        item = file.create_dataset("a", data=np.zeros((1, 1)))
        for name, value in one.attributes().items():
            item.attrs[name] = value
        assert MaskQuality.from_attributes(item.attrs) == one
    doubted = one.with_support(0.25, {0: 0.5, 2: 0.0})
    assert doubted.score == pytest.approx((3 * 0.75 + 0.25) / 4)
    assert doubted.classes == {0: pytest.approx(3.5 / 4), 2: pytest.approx(1.5 / 4)}
    assert review_order({"a": one, "b": doubted, "c": one}) == ["b", "a", "c"]
    assert one.to_json(TABLE)["classes"] == {"background": 1.0, "b": 0.5}


def test_expected_iou_by_hand():
    """Expected intersection over expected union; what is withheld (-1) is missed."""
    probabilities = np.array([[[0.8, 0.4, 0.0, 0.0]], [[0.2, 0.6, 1.0, 0.0]], [[0.0, 0.0, 0.0, 1.0]]], np.float32)
    slots = np.array([[0, 1, 1, -1]])
    expected = [0.8 / (1 + 0.4), 1.6 / (2 + 0.2), 0.0]
    assert expected_iou(probabilities, slots) == pytest.approx(expected)
    assert expected_iou(np.array([[[1.0]], [[0.0]]], np.float32), np.array([[0]])) == [1.0, 1.0]


def test_a_sure_and_right_model_expects_the_true_iou():
    """With probabilities of 0 and 1 the expectation is the IoU itself."""
    rng = np.random.default_rng(0)
    truth, mask = rng.integers(0, 3, (2, 20, 20))
    certain = np.stack([truth == slot for slot in range(3)]).astype(np.float32)
    assert expected_iou(certain, mask) == pytest.approx([iou(truth == slot, mask == slot) for slot in range(3)])


def test_the_expected_iou_is_a_third_of_the_masks_quality(tmp_path):
    """The probe gives class 1 the left half, the mask has it everywhere, nothing is withheld."""
    image = LabelledImage("x", tmp_path / "x.png", frozenset({"a"}), frozenset({"b"}))
    catalog = Catalog(Dataset(tmp_path, "csv", TABLE, (image,)), {"x": (8, 8)}, {})
    ones, half = np.ones((1, 4, 4)), np.zeros((1, 2, 2))
    half[..., 0] = 1
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for group, data in (("scores", np.full((1, 4, 4), 255, np.uint8)), ("recam", ones), ("cam", ones)):
            file.create_dataset(f"{group}/x", data=data).attrs["class_ids"] = [1]
        plain_job = RenderJob(catalog, file, file, "recam", 0.5, 0.5, "none")
        _, plain = render_one(plain_job, image, plain_job.stored(image), -np.inf)
        file.create_dataset("probe/x", data=half).attrs["class_ids"] = [1]
        _, asked = render_one(plain_job, image, plain_job.stored(image), -np.inf)
    # Background: no pixel in the mask, half of the image in the probe; stable, agreed on, not supported.
    assert plain.classes == {0: 1.0, 1: 1.0}
    assert asked.classes == {0: pytest.approx(((2 + 0.5) / 3 + 1 + 0) / 3), 1: pytest.approx((2.5 / 3 + 1 + 0.5) / 3)}
    assert asked.score == pytest.approx((2.5 / 3 + 1 + 0.25) / 3)


PROBABILITIES = np.array([[[0.1, 0.8, 0.5]], [[0.6, 0.1, 0.25]], [[0.3, 0.1, 0.25]]], np.float32)


def test_support_is_the_probability_of_the_masks_labels():
    scores = np.array([[[0.9, 0.2, 0.2]], [[0.1, 0.3, 0.6]]], np.float32)
    whole, classes = support(PROBABILITIES, scores, 0.5, background=True)  # the mask says 1, 0, 2
    assert classes == pytest.approx([0.8, 0.6, 0.25])
    assert whole == pytest.approx((0.6 + 0.8 + 0.25) / 3)


def test_support_of_a_class_without_pixels():
    scores = np.array([[[0.9, 0.9, 0.9]], [[0.1, 0.1, 0.1]]], np.float32)
    whole, classes = support(PROBABILITIES, scores, 0.5, background=True)  # all is class 1
    assert classes == pytest.approx([1 - 1.4 / 3, 0.95 / 3, 0.0])
    assert whole == pytest.approx(0.95 / 3)


def test_support_without_background_and_without_labels():
    scores = np.array([[[0.2, 0.1, 0.3]], [[0.1, 0.2, 0.1]]], np.float32)  # the level does not count: 1, 2, 1
    own = PROBABILITIES[1:] / PROBABILITIES[1:].sum(axis=0)
    whole, classes = support(own, scores, 0.5, background=False)
    assert classes == pytest.approx([(2 / 3 + 1 / 2) / 2, 1 / 2])
    assert whole == pytest.approx((2 / 3 + 1 / 2 + 1 / 2) / 3)
    nothing = np.zeros((0, 1, 3), np.float32)
    assert support(np.ones((1, 1, 3), np.float32), nothing, 0.5, background=True) == (1.0, [1.0])
    assert support(nothing, nothing, 0.5, background=False) == (1.0, [])
