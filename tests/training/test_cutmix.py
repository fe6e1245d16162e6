"""Pasted boxes: their sizes, and that images, labels and weights go together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recamlabel.data.batches import Batch
from recamlabel.segment.config import SegmenterConfig
from recamlabel.training import objectives
from recamlabel.training.cutmix import draw_boxes, paste
from recamlabel.training.objectives.segmenter import SegmenterObjective


def test_boxes_are_rectangles_of_every_size_in_the_asked_share_of_images():
    torch.manual_seed(0)
    boxes = draw_boxes(2000, 24, 36, share=0.5)
    assert boxes.shape == (2000, 24, 36) and boxes.dtype == torch.bool
    rows, columns = boxes.any(2).sum(1), boxes.any(1).sum(1)
    assert torch.equal(boxes.sum((1, 2)), rows * columns)
    # Without gaps: as many rows as from the first to the last.
    some = rows > 0
    first, last = boxes.any(2).int().argmax(1), 23 - boxes.any(2).flip(1).int().argmax(1)
    assert torch.equal((last - first + 1)[some], rows[some])
    assert float(some.float().mean()) == pytest.approx(0.5, abs=0.05)
    areas = boxes.float().mean((1, 2))[some]
    assert float(areas.mean()) == pytest.approx(0.5, abs=0.03) and areas.min() < 0.02 and areas.max() > 0.97
    # Every corner is reached.
    assert boxes[:, 0, 0].any() and boxes[:, -1, -1].any() and not boxes.all((1, 2)).all()


def test_share_one_and_zero_and_one_pixel():
    torch.manual_seed(0)
    assert draw_boxes(50, 40, 40, share=1.0).any((1, 2)).all()
    assert not draw_boxes(50, 40, 40, share=0.0).any()
    assert draw_boxes(3, 1, 1, share=1.0).shape == (3, 1, 1)


def test_paste_takes_the_image_before_with_its_channels():
    boxes = torch.tensor([[[True, False]], [[False, True]]])
    images = torch.tensor([[[[1, 2]], [[3, 4]]], [[[5, 6]], [[7, 8]]]])
    assert paste(images, boxes).tolist() == [[[[5, 2]], [[7, 4]]], [[[5, 2]], [[7, 4]]]]
    assert paste(torch.tensor([[[0.5]], [[1.0]]]), boxes).tolist() == [[[1.0, 0.5]], [[1.0, 0.5]]]


class Seen(torch.nn.Module):
    """Logits from the image itself: what is pasted is seen."""

    def forward(self, images):
        self.images = images
        return images[:, :2]


@pytest.fixture
def halves(monkeypatch):
    """The second pixel of the first image is the second image's."""
    boxes = torch.tensor([[[False, True]], [[False, False]]])
    monkeypatch.setattr(objectives.segmenter, "draw_boxes", lambda *shape: boxes)


def batch(labels=((1,), (1,)), step=0):
    images = torch.zeros(2, 3, 1, 2)
    images[1, 1] = 2.0  # the second image: class 1 by 2
    seeds = torch.tensor([[[0, 0]], [[1, 255]]])
    return Batch(images, torch.tensor(labels), step, seeds, None, torch.tensor([1.0, 3.0]))


def test_images_labels_and_weights_go_together(halves):
    net = Seen()
    loss, figures = SegmenterObjective(net, SegmenterConfig(cutmix=0.5), 255, 10, background=True).loss(batch())
    assert net.images[:, 1, 0].tolist() == [[0.0, 2.0], [2.0, 2.0]]
    # Image 0: its background pixel (weight 1), then the other's ignored one; image 1: class 1 (weight 3), ignored.
    even, sure = np.log(2), np.log(1 + np.exp(-2))
    assert float(loss) == pytest.approx((even + 3 * sure) / 4)
    assert float(figures["accuracy"]) == 1.0


def test_a_pasted_pixel_may_be_corrected_to_the_classes_of_its_own_image(halves):
    config = SegmenterConfig(cutmix=0.5, correction=0.8, correction_start=0.0)
    seen = batch(labels=((0,), (1,)))
    seen.seeds[1, 0, 1] = 0  # contradicts what the network sees there: class 1
    _, figures = SegmenterObjective(Seen(), config, 255, 10, background=True).loss(seen)
    # Of four known pixels two are changed: that of image 1, and its copy in image 0, whose own labels forbid class 1.
    assert float(figures["corrected"]) == 0.5


def test_without_it_nothing_is_drawn():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    SegmenterObjective(Seen(), SegmenterConfig(cutmix=0.0), 255, 10, background=True).loss(batch())
    assert torch.equal(before, torch.get_rng_state())
