from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from recamlabel.models.inputs import resized


@pytest.mark.parametrize(
    ("size", "target"), [((60, 80), (30, 40)), ((60, 80), (90, 120)), ((60, 80), (37, 51)), ((600, 800), (32, 48))]
)
def test_what_a_gpu_resizes_is_what_pillow_resizes(size, target):
    noise = np.random.default_rng(0).normal(0, 90, (*size, 3))
    image = (gaussian_filter(noise, (2, 2, 0)) * 3 + 128).clip(0, 255).astype(np.uint8)
    expected = np.asarray(Image.fromarray(image).resize(target[::-1], Image.Resampling.BICUBIC)).astype(np.float32)
    found = resized(torch.from_numpy(image).permute(2, 0, 1)[None].float(), *target)[0].permute(1, 2, 0).numpy()
    assert found.shape == expected.shape
    # Pillow rounds after each of its two passes.
    assert np.abs(found - expected).max() <= 1 and (found == expected).mean() > 0.75


def test_a_size_that_is_right_is_left_alone():
    image = torch.rand(1, 3, 5, 7)
    assert resized(image, 5, 7) is image
