"""Segmentation networks by name: the contract of each, and that they start from the encoder's weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recamlabel.data.batches import Batch
from recamlabel.errors import ConfigError, WeightsError
from recamlabel.models.backbones import Backbone
from recamlabel.models.config import BackboneConfig
from recamlabel.models.segmenter import SEGMENTERS, Segmenter, check_encoder, check_segmenter, copy_encoder
from recamlabel.segment.config import PredictConfig, SegmenterConfig
from recamlabel.segment.predict import Predictor, decide
from recamlabel.training.objectives.segmenter import SegmenterObjective

ENCODERS = ["resnet10t", "tf_efficientnet_lite0"]


VITS = [("vit_tiny_patch16_224", method) for method in ("dpt", "linear", "deeplabv2")]
PAIRS = [(encoder, method) for encoder in ENCODERS for method in SEGMENTERS if method != "dpt"] + VITS


@pytest.mark.parametrize(("encoder", "method"), PAIRS)
class TestContract:
    def test_any_size_in_the_same_size_out(self, method, encoder):
        torch.manual_seed(0)
        net = Segmenter(method, Backbone(encoder), 3).eval()
        with torch.no_grad():
            assert net(torch.randn(1, 3, 40, 70)).shape == (1, 4, 40, 70)
            assert net(torch.randn(2, 3, 64, 64)).shape == (2, 4, 64, 64)

    def test_it_learns_and_leaves_the_encoders_statistics(self, method, encoder):
        torch.manual_seed(0)
        net = Segmenter(method, Backbone(encoder), 1).train()
        before = {name: value.clone() for name, value in net.encoder.named_buffers() if "running" in name}
        objective = SegmenterObjective(net, SegmenterConfig(lr=0.001), 255, 10, background=True)
        images, seeds = torch.randn(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.int32)
        seeds[:, :, 32:], images[:, :, :, 32:] = 1, images[:, :, :, 32:] + 3
        batch = Batch(images, torch.ones(2, 1, dtype=torch.int8), 0, seeds)
        optimiser = torch.optim.SGD(objective.parameter_groups(), momentum=0.9)
        losses = []
        for _ in range(8):
            loss, _ = objective.loss(batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.97 * losses[0]
        assert all(torch.equal(value, before[name]) for name, value in net.encoder.named_buffers() if name in before)


def test_the_encoder_starts_from_the_backbones_weights():
    torch.manual_seed(0)
    backbone = Backbone("resnet10t").eval()
    net = Segmenter("deeplabv3+", backbone, 2).eval()
    with torch.no_grad():
        x = torch.randn(1, 3, 64, 64)
        torch.testing.assert_close(net.encoder(x)[-1], backbone(x))


def test_swin_encoders_for_upernet():
    net = Segmenter("upernet", Backbone("swin_tiny_patch4_window7_224", output_stride=32), 2).eval()
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 70, 100)).shape == (1, 3, 70, 100)


def test_misses_are_named():
    with pytest.raises(
        ConfigError,
        match="unknown 'unet', did you mean 'upernet'",
    ):
        check_segmenter("unet")
    with pytest.raises(ConfigError, match=r"needs backbone\.output_stride 8 or 16, found 32"):
        Segmenter("deeplabv3+", Backbone("resnet10t", output_stride=32), 2)
    with pytest.raises(WeightsError, match="not in the backbone"):
        copy_encoder(torch.nn.Linear(2, 2), Backbone("resnet10t"))


class Fixed(torch.nn.Module):
    """Logits that do not depend on the images."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, images):
        return self.logits.expand(len(images), *self.logits.shape[1:])


def loss_of(logits, seeds, labels, config=None, step=0, weights=None):
    objective = SegmenterObjective(Fixed(logits), config or SegmenterConfig(), 255, 10, background=True)
    batch = Batch(torch.zeros(len(seeds), 3, 1, 2), torch.tensor(labels), step, torch.tensor(seeds), None, weights)
    return objective.loss(batch)


def test_ignored_pixels_and_weights_by_hand():
    logits = torch.tensor([[[[2.0, 0.0]], [[0.0, 0.0]]]])  # two classes, two pixels
    sure, even = np.log(1 + np.exp(-2)), np.log(2)
    assert float(loss_of(logits, [[[0, 0]]], [[1]])[0]) == pytest.approx((sure + even) / 2)
    assert float(loss_of(logits, [[[0, 255]]], [[1]])[0]) == pytest.approx(sure)
    assert float(loss_of(logits, [[[255, 255]]], [[1]])[0]) == 0
    both = loss_of(logits, [[[0, 255]], [[255, 1]]], [[1], [1]], weights=torch.tensor([3.0, 1.0]))
    assert float(both[0]) == pytest.approx((3 * sure + even) / 4)


def test_late_sure_contradictions_take_the_predicted_label_of_the_image():
    logits = torch.tensor([[[[0.0, 0.0]], [[6.0, 6.0]], [[9.0, 0.0]]]])  # background, class 1, class 2
    config = SegmenterConfig(correction=0.9)
    seeds = [[[0, 1]]]
    assert float(loss_of(logits, seeds, [[1, 0]], config, step=4)[1]["corrected"]) == 0  # early
    assert float(loss_of(logits, seeds, [[1, 0]], config, step=5)[1]["corrected"]) == 0.5
    # Class 2 would win the first pixel, but is not in the image: class 1 is taken.
    assert float(loss_of(logits, seeds, [[1, 0]], config, step=5)[0]) == pytest.approx(
        float(loss_of(logits, [[[1, 1]]], [[1, 0]])[0])
    )
    assert float(loss_of(logits, seeds, [[0, 0]], config, step=5)[1]["corrected"]) == 0.5  # only the background may be


def test_probabilities_are_means_over_scales_and_flips():
    torch.manual_seed(0)
    net = Segmenter("deeplabv2", Backbone("resnet10t"), 2).eval()
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    predictor = Predictor(net, PredictConfig(scales=[1.0], flip=True), torch.device("cpu"))
    found = predictor.probabilities([image, image])
    assert found.shape == (2, 3, 20, 30) and np.allclose(found.sum(1), 1, atol=1e-5)
    mirrored = predictor.probabilities([np.ascontiguousarray(image[:, ::-1])])
    assert np.abs(mirrored[0][..., ::-1] - found[0]).max() < 1e-3


def test_decide_within_labels_and_without_background():
    p = np.array([[[0.5, 0.4]], [[0.1, 0.2]], [[0.4, 0.4]]], np.float32)
    assert decide(p, (1, 2), np.dtype(np.uint8), background=True).tolist() == [[0, 0]]
    assert decide(p, (1, 2), np.dtype(np.uint8), background=False).tolist() == [[2, 2]]
    assert decide(p, (1, 2), np.dtype(np.uint8), [1], background=False).tolist() == [[1, 1]]


class _Pointwise(torch.nn.Module):
    """Three classes from a pixel's own colour: what tiles cut off is nothing to it."""

    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def forward(self, images):
        return torch.stack([images[:, 0], images[:, 1], images[:, 2]], dim=1)


def test_large_inputs_are_looked_at_in_tiles():
    image = np.random.default_rng(0).integers(0, 256, (900, 1301, 3)).astype(np.uint8)
    predictor = Predictor(_Pointwise(), PredictConfig(flip=False), torch.device("cpu"), side=1301)
    assert predictor.scales == [1.0]  # the others cost several times as much
    (found,) = predictor.probabilities([image])
    assert found.shape == (3, 450, 650)
    pixels = (torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.25
    halved = torch.nn.functional.avg_pool2d(pixels.softmax(dim=1), 2, ceil_mode=True, count_include_pad=False)
    expected = torch.nn.functional.interpolate(halved, (450, 650), mode="bilinear", align_corners=False)[0].numpy()
    assert np.abs(found - expected / expected.sum(axis=0)).max() < 2e-3  # half precision between tiles
    usual = Predictor(_Pointwise(), PredictConfig(flip=False), torch.device("cpu"))
    assert usual.probabilities([image]).shape == (1, 3, 221, 320) and len(usual.scales) == 3


@pytest.mark.parametrize(
    ("encoder", "stride", "method", "message"),
    [
        ("resnet10t", 16, "dpt", r"needs a ViT with patches of 16 pixels .* 'resnet10t' is none; choose deeplabv3\+"),
        ("vit_small_patch14_reg4_dinov2", 14, "dpt", "is one with patches of 14; choose linear or deeplabv2"),
        ("vit_tiny_patch16_224", 16, "upernet", "cannot use the encoder .* segmenter.method=dpt, linear or deeplabv2"),
    ],
)
def test_what_an_encoder_cannot_do_is_said_when_settings_are_checked(encoder, stride, method, message):
    backbone = BackboneConfig(name=encoder, output_stride=stride, weights="none")
    with pytest.raises(ConfigError, match=message):
        check_encoder(SegmenterConfig(method=method), backbone)
