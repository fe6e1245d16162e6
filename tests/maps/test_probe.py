"""The cross-fitted probe on made-up pixels whose right classes are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from recamlabel.maps.config import ProbeConfig
from recamlabel.maps.probe import PixelSample, class_offsets, fit_probe, pixel_features, restricted, sure_pixels
from recamlabel.models.backbones import Backbone

BOAT, BIRD = 1, 2
CONFIG = ProbeConfig(enabled=True, iterations=2)


def scenes(count: int = 20, seed: int = 0) -> PixelSample:
    """Even images: a boat on water, the map fires on both. Odd ones: a bird over water, the map on the bird alone.

    Ten pixels of object and, under boats 10, under birds 40 of water; features are noisy one-hot codes.
    """
    rng = np.random.default_rng(seed)
    codes, ids, maps, folds = [], [], [], []
    for image in range(count):
        boat = image % 2 == 0
        water = 10 if boat else 40
        codes += [BOAT if boat else BIRD] * 10 + [0] * water
        maps += [0.9] * 10 + [0.7 if boat else 0.1] * water
        ids += [BOAT if boat else BIRD] * (10 + water)
        folds += [image // 2 % 5] * (10 + water)
    features = np.eye(3)[codes] + 0.1 * rng.normal(size=(len(codes), 3))
    return PixelSample(
        torch.from_numpy(features).half(),
        torch.tensor(ids)[:, None],
        torch.tensor(maps, dtype=torch.float32)[:, None],
        torch.tensor(folds),
    )


def image_of(code: int) -> torch.Tensor:
    return torch.eye(3)[code][:, None, None].expand(3, 2, 2)


def test_water_under_a_boat_is_known_from_the_birds():
    probe = fit_probe(scenes(), 2, CONFIG, True, seed=0)
    water, boat = (probe.probabilities(image_of(code), [BOAT], 0) for code in (0, BOAT))
    assert water is not None and boat is not None and water.shape == (1, 2, 2)
    assert water.max() < 0.4 and boat.min() > 0.6


def test_a_fold_learns_nothing_from_its_own_images():
    sample = scenes()
    other = sample.maps.clone()
    other[sample.folds == 3] = torch.rand_like(other[sample.folds == 3])
    changed = PixelSample(sample.features, sample.ids, other, sample.folds)
    once = CONFIG.model_copy(update={"iterations": 1})
    before, after = (fit_probe(data, 2, once, True, seed=0) for data in (sample, changed))
    assert torch.equal(before.weights[3], after.weights[3])
    assert not torch.equal(before.weights[0], after.weights[0])


def test_the_fit_repeats_and_counts():
    done = []
    probes = [fit_probe(scenes(), 2, CONFIG, True, 1, done.append) for _ in range(2)]
    assert torch.equal(probes[0].weights, probes[1].weights) and len(done) == 2 * 2 * 5
    assert not torch.equal(probes[0].weights, fit_probe(scenes(), 2, CONFIG, True, 2).weights)


def test_an_image_outside_the_sample_gets_the_mean():
    probe = fit_probe(scenes(), 2, CONFIG, True, seed=0)
    each = [probe.probabilities(image_of(BIRD), [BOAT, BIRD], fold) for fold in range(5)]
    mean = probe.probabilities(image_of(BIRD), [BOAT, BIRD], None)
    assert mean is not None and np.allclose(mean, np.mean(each, axis=0), atol=1e-6)


def test_a_class_that_was_never_taught_leaves_the_maps_alone():
    """Class 3 exists, in no image; class 2 in fold 0 alone, whose probe has not met it."""
    sample = scenes()
    birds = (sample.ids[:, 0] == BIRD) & (sample.folds != 0)
    kept = PixelSample(*(part[~birds] for part in (sample.features, sample.ids, sample.maps, sample.folds)))
    probe = fit_probe(kept, 3, CONFIG, True, seed=0)
    assert probe.probabilities(image_of(BIRD), [BIRD], 0) is None
    assert probe.probabilities(image_of(BIRD), [BIRD], 1) is not None
    assert probe.probabilities(image_of(BOAT), [BOAT, 3], None) is None


def test_without_a_background_the_classes_share_everything():
    sample = scenes()
    ids = torch.tensor([[BOAT, BIRD]]).expand(len(sample.maps), 2)
    maps = torch.cat([sample.maps, 1 - sample.maps], dim=1)
    probe = fit_probe(PixelSample(sample.features, ids, maps, sample.folds), 2, CONFIG, False, seed=0)
    found = probe.probabilities(image_of(BOAT), [BOAT, BIRD], 1)
    assert found is not None and np.allclose(found.sum(axis=0), 1, atol=1e-5)
    assert sure_pixels(maps[:1] * 0, ids[:1], 0.6, 0.3, background=False).tolist() == [-100]


def test_restricted_probabilities_by_hand():
    logits = torch.log(torch.tensor([[1.0, 2.0, 7.0]]))
    assert torch.allclose(restricted(logits, torch.tensor([[1, 0]]), True, torch.zeros(3)), torch.tensor([[2 / 3, 0]]))
    assert torch.allclose(
        restricted(logits, torch.tensor([[1, 2]]), False, torch.zeros(3)), torch.tensor([[2 / 9, 7 / 9]])
    )


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "swin_tiny_patch4_window7_224"])
def test_features_of_several_depths_share_the_last_ones_grid(name):
    backbone = Backbone(name, 32 if name.startswith("swin") else 16).eval()
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        last, (*_, deepest) = backbone(images), backbone.pyramid(images)
    found = pixel_features(backbone, images)
    assert torch.allclose(found[:, : backbone.channels], last, atol=1e-5)
    assert found.shape[2:] == last.shape[2:] and found.shape[1] > backbone.channels + deepest.shape[1]


def test_a_rare_class_keeps_what_is_its_own() -> None:
    """Two classes in one image, one taught 99 times as often: equal evidence is shared equally, background is kept."""
    offsets = class_offsets(torch.tensor([1] * 99 + [2, -100, 0]), 3, 1.0)
    logits = torch.tensor([[0.0, math.log(99), 0.0]])  # what 99 to 1 teaches about pixels that tell nothing
    ids = torch.tensor([[1, 2]])
    plain, fair = restricted(logits, ids, True, torch.zeros(3)), restricted(logits, ids, True, offsets)
    assert torch.allclose(plain, torch.tensor([[99 / 101, 1 / 101]]))
    assert torch.allclose(fair, torch.tensor([[50 / 101, 50 / 101]]))
    # An image with one class has nothing to share.
    alone = torch.tensor([[1, 0]])
    assert torch.allclose(restricted(logits, alone, True, offsets), restricted(logits, alone, True, torch.zeros(3)))
    assert torch.equal(class_offsets(torch.tensor([1, 1, 2]), 3, 0.0), torch.zeros(3))
