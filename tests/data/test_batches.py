from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from recamlabel.adapters import load_dataset
from recamlabel.adapters.base import LabelledImage
from recamlabel.data.batches import (
    Batch,
    LoadedBatch,
    Normalisation,
    TrainingBatches,
    about_a_class,
    draw_geometry,
    resize,
)
from recamlabel.data.config import AugmentConfig

CPU = torch.device("cpu")
PLAIN = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def batches(tiny_csv, **changes):
    dataset = load_dataset(tiny_csv)
    augment = AugmentConfig(crop_size=32, resize_min=40, resize_max=60)
    settings = {"batch_size": 3, "steps": 6, "augment": augment, "seed": 1, **changes}
    return TrainingBatches(dataset.images, dataset.labels(), normalisation=PLAIN, **settings)


def test_a_batch_depends_on_seed_and_step_alone(tiny_csv):
    one, two = batches(tiny_csv), batches(tiny_csv)
    two[0], two[5]
    made = one[3].to(CPU).images
    assert torch.equal(made, two[3].to(CPU).images)
    assert not torch.equal(made, batches(tiny_csv, seed=2)[3].to(CPU).images)


def loaded(geometry, crop, normalisation):
    """One crop as a batch."""
    edges = [edge for part in geometry.target for edge in (part.start, part.stop)]
    batch = Batch(torch.from_numpy(crop)[None], torch.zeros(1, 1), 0)
    return LoadedBatch(batch, torch.tensor([edges]), torch.tensor([normalisation.mean, normalisation.std]))


def test_normalising_a_batch_gives_what_normalising_the_image_gives():
    """To the last bit: finished runs were trained with crops that were normalised before they were padded."""
    image = np.random.default_rng(0).integers(0, 256, (37, 52, 3)).astype(np.uint8)
    normalisation = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    for seed in range(10):
        augment = AugmentConfig(crop_size=40, resize_min=20, resize_max=90)
        geometry = draw_geometry((37, 52), augment, np.random.default_rng(seed))
        crop = geometry.apply_to_image(image)
        expected = np.zeros((40, 40, 3), np.float32)
        expected[geometry.target] = normalisation.apply(crop[geometry.target])
        found = loaded(geometry, crop, normalisation).to(CPU).images[0].permute(1, 2, 0).numpy()
        assert found.dtype == np.float32 and np.array_equal(found, expected)


def test_every_image_comes_once_an_epoch(tiny_csv):
    made = batches(tiny_csv, batch_size=4, steps=4)
    order = [number for step in range(4) for number in made.indices(step)]
    assert sorted(order[:8]) == sorted(order[8:]) == list(range(8)) and order[:8] != order[8:]


def test_a_batch_larger_than_the_data_set(tiny_csv):
    made = batches(tiny_csv, batch_size=20, steps=1)
    assert len(made.indices(0)) == 20 and set(made.indices(0)) == set(range(8))
    batch = made[0].to(CPU)
    assert batch.images.shape == (20, 3, 32, 32) and batch.labels.shape == (20, 2)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_padding_is_zero_after_normalisation():
    image = np.full((10, 20, 3), 255, np.uint8)
    augment = AugmentConfig(crop_size=32, resize_min=20, resize_max=20, flip=False)
    geometry = draw_geometry((10, 20), augment, np.random.default_rng(0))
    crop = loaded(geometry, geometry.apply_to_image(image), PLAIN).to(CPU).images[0]
    assert crop.shape == (3, 32, 32)
    assert (crop[0] == 1).sum() == 10 * 20 and (crop[0] == 0).sum() == 32 * 32 - 200


def test_parts_of_a_batch_are_the_batch(tiny_csv):
    batch = batches(tiny_csv, batch_size=5, weights=np.arange(8, dtype=np.float32))[1].to(CPU)
    parts = list(batch.parts(2))
    assert [len(part.labels) for part in parts] == [3, 2] and all(part.step == 1 for part in parts)
    assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
    assert torch.equal(torch.cat([part.weights for part in parts]), batch.weights) and parts[0].seeds is None


def test_resize_leaves_equal_sizes_alone_and_keeps_the_input():
    image = np.zeros((4, 6, 3), np.uint8)
    assert resize(image, 4, 6) is image and resize(image, 8, 12).shape == (8, 12, 3)


def test_steps_end(tiny_csv):
    with pytest.raises(IndexError):
        batches(tiny_csv)[6]


@pytest.mark.parametrize("size", [(30, 40), (90, 60)])
def test_soft_maps_go_through_the_images_geometry(size):
    """A map that holds the image's own brightness still does so after resize, flip, crop and padding."""
    height, width = size
    ramp = np.linspace(0, 1, height)[:, None] * 0.5 + np.linspace(0, 1, width)[None] * 0.5
    image = np.repeat((ramp * 255).astype(np.uint8)[..., None], 3, axis=2)
    for seed in range(6):
        augment = AugmentConfig(crop_size=33, resize_min=30, resize_max=80)
        geometry = draw_geometry(size, augment, np.random.default_rng(seed))
        crop = geometry.apply_to_image(image)[..., 0] / 255
        maps = geometry.apply_to_maps(np.stack([ramp, 1 - ramp]).astype(np.float16))
        assert maps.shape == (2, 9, 9) and maps.dtype == np.float16
        centres = (np.arange(9) * 4 + 2).clip(max=32)
        inside = np.zeros((33, 33), bool)
        inside[geometry.target] = True
        expected, held = crop[np.ix_(centres, centres)], inside[np.ix_(centres, centres)]
        assert np.abs(maps[0] - expected)[held].max() < 0.05 and not maps[:, ~held].any()
        assert np.allclose(maps.sum(0)[held], 1, atol=1e-2)


def test_masks_come_with_the_batch(tiny_csv):
    made = batches(tiny_csv, masks=lambda image_id: np.full((2, 5, 5), 0.5, np.float16))
    batch = made[0].to(CPU)
    assert batch.masks.shape == (3, 2, 8, 8) and set(batch.masks.unique().tolist()) <= {0.0, 0.5}
    assert batches(tiny_csv)[0].to(CPU).masks is None


def test_crops_about_a_class_hold_it_wherever_it_is():
    augment = AugmentConfig(resize_min=400, resize_max=800, crop_size=64)
    held = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        seeds = np.zeros((300, 400), np.uint8)
        row, column = int(rng.integers(0, 298)), int(rng.integers(0, 398))
        seeds[row : row + 3, column : column + 3] = 2
        seeds[:50, :50] = np.where(seeds[:50, :50] == 0, 255, seeds[:50, :50])  # withheld: no class
        drawn = draw_geometry(seeds.shape, augment, rng)
        about = about_a_class(drawn, seeds, 255, rng)
        assert (about.height, about.width, about.flip, about.target) == (
            drawn.height, drawn.width, drawn.flip, drawn.target,
        )  # fmt: skip
        assert all(
            one.stop - one.start == 64 and one.start >= 0 and one.stop <= side
            for one, side in zip(about.source, (about.height, about.width), strict=True)
        )
        held.append((about.apply_to_seeds(seeds, 255) == 2).any())
        assert about_a_class(drawn, np.full((3, 4), 255), 255, rng) is drawn
    assert all(held)


def test_half_of_the_crops_are_about_a_class(tmp_path):
    Image.fromarray(np.full((200, 200, 3), 90, np.uint8)).save(tmp_path / "a.png")
    seeds = np.zeros((200, 200), np.uint8)
    seeds[150:154, 150:154] = 1
    images = [LabelledImage("a", tmp_path / "a.png", frozenset(["x"]), frozenset())]
    augment = AugmentConfig(resize_min=200, resize_max=200, crop_size=20)

    def share(about: float) -> float:
        batches = TrainingBatches(
            images, np.ones((1, 1), np.int8), 1, 80, augment, Normalisation((0.5,) * 3, (0.2,) * 3), 0,
            seeds=lambda _: seeds, about=about,
        )  # fmt: skip
        return float(np.mean([(batches[step].batch.seeds == 1).any() for step in range(80)]))

    assert share(0.0) < 0.1 and 0.35 < share(0.5) < 0.7 and share(1.0) == 1
