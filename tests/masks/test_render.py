from __future__ import annotations

from itertools import pairwise

import numpy as np

from recamlabel.core.arrays import from_uint8, resize_maps, to_uint8
from recamlabel.core.classes import ClassTable
from recamlabel.masks.render import render_mask

TABLE = ClassTable(("a", "b", "c"))


def test_the_best_score_above_the_threshold_wins():
    scores = to_uint8(np.array([[[0.9, 0.4, 0.2, 0.5]], [[0.1, 0.6, 0.3, 0.5]]]))
    assert render_mask(scores, [1, 3], (1, 4), 0.45, TABLE).tolist() == [[1, 3, 0, 1]]


def test_background_wins_at_the_threshold_itself():
    scores = np.array([[[51, 52]]], np.uint8)  # 51 / 255 = 0.2
    assert render_mask(scores, [2], (1, 2), 0.2, TABLE).tolist() == [[0, 2]]


def test_a_higher_threshold_only_takes_pixels_away():
    scores = np.random.default_rng(0).integers(0, 256, (2, 9, 7)).astype(np.uint8)
    masks = [render_mask(scores, [1, 2], (27, 21), level, TABLE) for level in (0.1, 0.4, 0.7)]
    for low, high in pairwise(masks):
        assert np.array_equal(high[high > 0], low[high > 0]) and (high > 0).sum() < (low > 0).sum()


def test_images_without_labels_are_all_background():
    mask = render_mask(np.zeros((0, 2, 2), np.uint8), [], (5, 6), 0.0, TABLE)
    assert mask.shape == (5, 6) and mask.dtype == np.uint8 and mask.max() == 0


def test_many_classes_need_sixteen_bits():
    table = ClassTable(tuple(f"c{number}" for number in range(300)))
    mask = render_mask(np.full((1, 1, 1), 255, np.uint8), [300], (2, 2), 0.5, table)
    assert mask.dtype == np.uint16 and mask.tolist() == [[300, 300], [300, 300]] and table.ignore_id == 65535


def test_resizing_equals_torch_bilinear():
    import torch
    import torch.nn.functional as F

    maps = np.random.default_rng(1).random((3, 5, 7)).astype(np.float32)
    expected = F.interpolate(torch.from_numpy(maps)[None], (22, 31), mode="bilinear", align_corners=False)[0]
    assert np.abs(resize_maps(maps, 22, 31) - expected.numpy()).max() < 1e-5


def test_resizing_nothing_and_to_the_same_size():
    assert resize_maps(np.zeros((0, 2, 2)), 4, 4).shape == (0, 4, 4)
    same = np.ones((1, 2, 2), np.float16)
    assert resize_maps(same, 2, 2).dtype == np.float32 and resize_maps(same, 2, 2) is not same


def test_quantisation_loses_at_most_half_a_step():
    values = np.linspace(0, 1, 1001)
    assert np.abs(from_uint8(to_uint8(values)) - values).max() <= 0.5 / 255 + 1e-6
