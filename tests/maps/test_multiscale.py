from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recamlabel.data.batches import resize
from recamlabel.data.passes import batches_by_shape
from recamlabel.maps.cam import Cam
from recamlabel.maps.config import MapsConfig
from recamlabel.maps.multiscale import MapNet, class_maps, stored_size
from recamlabel.models.backbones import Backbone
from recamlabel.models.inputs import working_size


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    backbone = Backbone("resnet10t").eval()
    return MapNet(backbone, {"cam": torch.randn(4, 512), "recam": torch.randn(4, 512)}, Cam())


def image(seed=0, size=(48, 64)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


def test_equals_the_written_out_recipe(net):
    """Scales and flips summed, resized, divided by the maximum: docs/method.md, 1, step by step."""
    config = MapsConfig(scales=[1.0, 0.5], stored_stride=4)
    picture, weight = image(), net.heads["recam"]
    total = torch.zeros(1, 4, 12, 16)
    for height, width in ((48, 64), (24, 32)):
        pixels = net.normalisation.apply(resize(picture, height, width))
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        with torch.no_grad():
            one, two = (F.relu(torch.einsum("kd,bdhw->bkhw", weight, net.backbone(y))) for y in (x, x.flip(-1)))
        total += F.interpolate(one + two.flip(-1), (12, 16), mode="bilinear", align_corners=False)
    expected = (total / (total.amax((2, 3), keepdim=True) + 1e-5))[0, [1, 3]].numpy()
    made = class_maps([picture], [[1, 3]], net, config, False)["recam"][0]
    assert made.dtype == np.float16 and np.abs(made - expected).max() < 2e-3


def test_a_mirrored_image_has_mirrored_maps(net):
    config = MapsConfig(scales=[1.0], stored_stride=4)
    picture = image()
    straight = class_maps([picture], [[0, 2]], net, config, False)["cam"][0]
    mirrored = class_maps([np.ascontiguousarray(picture[:, ::-1])], [[0, 2]], net, config, False)["cam"][0]
    assert np.abs(straight - mirrored[..., ::-1]).max() < 2e-3


def test_a_batch_gives_what_single_images_give(net):
    config = MapsConfig(scales=[1.0, 1.5])
    pictures, labels = [image(0), image(1), image(2)], [[0], [], [3, 1]]
    together = class_maps(pictures, labels, net, config, False)
    for number, picture in enumerate(pictures):
        alone = class_maps([picture], [labels[number]], net, config, False)
        for name in ("cam", "recam"):
            assert together[name][number].shape == alone[name][0].shape == (len(labels[number]), 12, 16)
            assert np.abs(together[name][number] - alone[name][0]).max(initial=0) < 2e-3


def test_images_without_labels_cost_nothing(net):
    class Untouchable:
        def raw_maps(self, *_):
            raise AssertionError("the network ran")

    empty = class_maps([image()], [[]], MapNet(net.backbone, net.heads, Untouchable()), MapsConfig(), False)
    assert empty["cam"][0].shape == (0, 12, 16)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (40, 41)])
def test_any_size(net, size):
    config = MapsConfig(scales=[1.0, 0.5, 2.0], max_side=64)
    maps = class_maps([image(size=size)], [[0]], net, config, False)["cam"][0]
    assert maps.shape == (1, *stored_size(*size, config)) and np.isfinite(maps).all()


def test_large_images_are_scaled_down():
    assert working_size(3000, 4000, 640) == (480, 640) and working_size(1, 5000, 640) == (1, 640)


def test_batches_hold_one_shape_and_bounded_pixels(tiny_csv):
    from recamlabel.adapters import load_dataset
    from recamlabel.data.catalog import Catalog

    dataset = load_dataset(tiny_csv)
    shapes = {item.id: (64, 80) if number % 2 else (80, 64) for number, item in enumerate(dataset.images)}
    groups = batches_by_shape(Catalog(dataset, shapes, {}), dataset.images, max_pixels=3 * 64 * 80)
    assert [len(group) for group in groups] == [3, 1, 3, 1]
    assert all(len({shapes[item.id] for item in group}) == 1 for group in groups)
    assert len(batches_by_shape(Catalog(dataset, shapes, {}), dataset.images, max_pixels=1)) == 8
