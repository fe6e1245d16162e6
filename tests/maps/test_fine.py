"""Maps with the foreground of larger inputs and the classes of the usual ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recamlabel.maps.cam import Cam
from recamlabel.maps.config import MapsConfig
from recamlabel.maps.fine import fine_config, sharpened
from recamlabel.maps.multiscale import MapNet, class_maps
from recamlabel.models.backbones import Backbone


def test_one_class_gets_the_geometric_mean():
    maps, fine = np.array([[[1.0, 0.64], [0.25, 0.0]]]), np.array([[[0.25, 1.0], [0.25, 1.0]]])
    # 0.5, 0.8, 0.25 and 0, divided by the largest
    assert sharpened(maps, fine)[0] == pytest.approx(np.array([[0.625, 1.0], [0.3125, 0.0]]), abs=2e-3)


def test_the_usual_maps_say_which_class_and_the_fine_ones_where():
    """Face left, body right; the fine maps take the face for body too, and end before the third position."""
    face, body = [0.81, 0.5, 0.5, 0.0], [0.405, 1.0, 0.5, 0.0]
    maps = np.array([[face], [body]])
    fine = np.array([[[0.5, 0.2, 0.04, 0.0]], [[1.0, 1.0, 0.08, 0.0]]])
    made = sharpened(maps, fine).astype(np.float32)[:, 0]
    assert made[0] == pytest.approx([0.9, 0.5, 0.2, 0.0], abs=2e-3)
    assert made[1] == pytest.approx([0.45, 1.0, 0.2, 0.0], abs=2e-3)


@pytest.mark.parametrize("classes", [0, 1, 3])
def test_range_shape_and_type(classes):
    rng = np.random.default_rng(0)
    maps, fine = rng.random((2, classes, 5, 7)).astype(np.float16)
    made = sharpened(maps, fine)
    assert made.shape == (classes, 5, 7) and made.dtype == np.float16
    assert made.min(initial=0) >= 0 and made.max(initial=0) <= 1


def test_nothing_anywhere_stays_nothing():
    nothing = np.zeros((2, 3, 3), dtype=np.float16)
    assert not sharpened(nothing, nothing).any() and np.isfinite(sharpened(nothing, np.ones_like(nothing))).all()


@pytest.mark.parametrize("size", [(48, 64), (64, 32), (400, 800)])
def test_inputs_have_the_given_sides_whatever_the_image_is(size):
    class Recorder(Cam):
        def __init__(self):
            self.sizes = []

        def raw_maps(self, net, images, classes):
            self.sizes.append(max(images.shape[2:]))
            assert len(images) == 1  # no mirror image
            return super().raw_maps(net, images, classes)

    recorder = Recorder()
    net = MapNet(Backbone("resnet10t").eval(), {"recam": torch.ones(1, 512)}, recorder)
    config = fine_config(MapsConfig(max_side=200), size, [96, 128])
    pixels = [np.zeros((*size, 3), dtype=np.uint8)]
    made = class_maps(pixels, [[0]], net, config, False)
    assert recorder.sizes == [96, 128]
    usual = class_maps(pixels, [[0]], net, MapsConfig(max_side=200, scales=[0.5], flip=False), False)
    assert made["recam"][0].shape == usual["recam"][0].shape
