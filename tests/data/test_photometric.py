"""Changes of colour and light: by hand, grey stays grey, and drawn from the batch's own chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recamlabel.adapters import load_dataset
from recamlabel.data.batches import Normalisation, TrainingBatches, draw_geometry, iterate
from recamlabel.data.config import AugmentConfig
from recamlabel.data.photometric import Photometric, draw_photometric
from recamlabel.storage.decode import read_image

CPU = torch.device("cpu")
RAW = Normalisation((0.0,) * 3, (1.0,) * 3)
SIZES = {"crop_size": 32, "resize_min": 40, "resize_max": 60}
STRONG = {"brightness": 0.9, "contrast": 0.9, "saturation": 0.9, "hue": 0.5, "grey": 0.3}
RED, GREEN, BLACK, WHITE = [255, 0, 0], [0, 255, 0], [0, 0, 0], [255, 255, 255]


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        (Photometric(brightness=0.5), [[[10, 100, 200], BLACK]], [[[5, 50, 100], BLACK]]),
        (Photometric(brightness=2.0), [[[10, 100, 200], WHITE]], [[[20, 200, 255], WHITE]]),
        # The mean grey is 100.
        (Photometric(contrast=0.5), [[BLACK, [200] * 3]], [[[50] * 3, [150] * 3]]),
        (Photometric(contrast=2.0), [[[80] * 3, [120] * 3]], [[[60] * 3, [140] * 3]]),
        # The grey of red is 0.299 * 255 = 76: 76 + (255 - 76) / 2 = 165.5, and 76 - 76 / 2 = 38.
        (Photometric(saturation=0.5), [[RED, [7] * 3]], [[[165, 38, 38], [7] * 3]]),
        (Photometric(hue=1 / 3), [[RED, [7] * 3]], [[GREEN, [7] * 3]]),
        (Photometric(hue=-1 / 3), [[GREEN, WHITE]], [[RED, WHITE]]),
        (Photometric(grey=True), [[RED, [7] * 3]], [[[76] * 3, [7] * 3]]),
        # Brighter first, then further from the mean of what that gave: (40, 80) has the mean 60.
        (Photometric(brightness=2.0, contrast=1.5), [[[20] * 3, [40] * 3]], [[[30] * 3, [90] * 3]]),
        (Photometric(), [[[1, 2, 3], [250, 251, 252]]], [[[1, 2, 3], [250, 251, 252]]]),
    ],
)
def test_by_hand(change, before, after):
    image = np.array(before, dtype=np.uint8)
    changed = change.apply(image)
    assert changed.dtype == np.uint8 and changed.tolist() == after
    assert image.tolist() == before


def test_grey_stays_grey_and_colour_settings_leave_it_alone():
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    rng = np.random.default_rng(0)
    drawn = [draw_photometric(AugmentConfig(**STRONG), rng) for _ in range(50)]
    assert {change.grey for change in drawn} == {False, True}
    for change in drawn:
        changed = change.apply(grey)
        assert (changed == changed[..., :1]).all() and changed.dtype == np.uint8
        assert np.array_equal(Photometric(saturation=change.saturation, hue=change.hue, grey=True).apply(grey), grey)


def test_draws_are_within_the_settings_and_one_setting_changes_no_other():
    everything, hue = AugmentConfig(**STRONG), AugmentConfig(hue=0.25)
    drawn = [draw_photometric(everything, np.random.default_rng(seed)) for seed in range(300)]
    for name in ("brightness", "contrast", "saturation"):
        values = np.array([getattr(one, name) for one in drawn])
        assert 0.1 <= values.min() < 0.15 and 1.85 < values.max() <= 1.9 and abs(values.mean() - 1) < 0.1
    shifts = np.array([one.hue for one in drawn])
    assert -0.5 <= shifts.min() < -0.45 and 0.45 < shifts.max() <= 0.5
    assert 0.2 < np.mean([one.grey for one in drawn]) < 0.4
    halved = [draw_photometric(hue, np.random.default_rng(seed)) for seed in range(300)]
    assert [one.hue for one in halved] == (shifts / 2).tolist()
    assert {(one.brightness, one.contrast, one.saturation, one.grey) for one in halved} == {(1.0, 1.0, 1.0, False)}


def batches(tiny_csv, seeds=None, **settings):
    dataset = load_dataset(tiny_csv)
    augment = AugmentConfig(**{**SIZES, **settings})
    return TrainingBatches(dataset.images, dataset.labels(), 3, 4, augment, RAW, seed=1, seeds=seeds)


def test_off_is_the_geometry_alone(tiny_csv):
    made = batches(tiny_csv)
    for step in range(4):
        for slot, number in enumerate(made.indices(step)):
            image = read_image(made.images[number].path)
            geometry = draw_geometry(image.shape[:2], made.augment, np.random.default_rng((1, 2, step, slot)))
            assert np.array_equal(made[step].batch.images[slot].numpy(), geometry.apply_to_image(image))


def test_on_changes_the_pixels_and_not_the_geometry(tiny_csv):
    def seeds(_):
        return np.arange(200).reshape(10, 20)

    off, on = (
        batches(tiny_csv, seeds, resize_min=20, resize_max=30, **settings)[2].to(CPU) for settings in ({}, STRONG)
    )
    assert torch.equal(off.seeds, on.seeds) and torch.equal(off.labels, on.labels)
    padding = off.seeds == 255
    assert padding.any() and not on.images.permute(0, 2, 3, 1)[padding].any()
    assert (off.images != on.images).any(dim=1)[~padding].float().mean() > 0.9
    values = on.images * 255
    assert torch.allclose(values, values.round(), atol=1e-4) and values.min() >= 0 and values.max() <= 255.001


def test_determined_by_seed_step_and_slot_whatever_the_workers(tiny_csv):
    made = batches(tiny_csv, **STRONG)
    alone = [made[step].to(CPU).images for step in (3, 0, 1, 2)]
    for workers in (0, 2):
        found = [batch.images for batch in iterate(batches(tiny_csv, **STRONG), 0, CPU, workers)]
        assert all(torch.equal(one, other) for one, other in zip(alone, [found[3], *found[:3]], strict=True))
    rng = [np.random.default_rng((1, 2, 0, slot)) for slot in range(3)]
    for one in rng:
        draw_geometry((48, 64), made.augment, one)
    assert len({draw_photometric(made.augment, one) for one in rng}) == 3


def test_a_grey_photograph_gives_grey_crops():
    image = np.repeat(np.random.default_rng(0).integers(0, 256, (40, 50, 1), dtype=np.uint8), 3, axis=2)
    for seed in range(10):
        augment, rng = AugmentConfig(**SIZES, **STRONG), np.random.default_rng(seed)
        geometry = draw_geometry((40, 50), augment, rng)
        crop = geometry.apply_to_image(image, draw_photometric(augment, rng))
        assert (crop == crop[..., :1]).all() and crop.any()
