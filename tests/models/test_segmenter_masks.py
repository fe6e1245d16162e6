"""From the segmenter's probabilities to masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from recamlabel.refine.config import CrfConfig
from recamlabel.segment.config import PredictConfig
from recamlabel.segment.masks import MaskTask, make_mask, smooth, smoothing


def halves(height: int = 24, width: int = 32) -> np.ndarray:
    """Dark on the left, bright on the right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, width // 2 :] = 220
    return image


def test_probabilities_follow_the_edges_of_the_image() -> None:
    image = halves(48, 64)
    found = np.zeros((3, 24, 32), np.float32)
    found[1] = np.linspace(0.1, 0.9, 32)[None] ** 2  # crosses one half too far to the right
    found[0] = 1 - found[1]
    edge = found.argmax(axis=0)
    assert edge[12].tolist() != [0] * 16 + [1] * 16
    result = smooth(image, found, PredictConfig().crf, background=True)
    assert result.shape == found.shape and np.allclose(result.sum(axis=0), 1, atol=1e-4)
    assert result.argmax(axis=0)[12].tolist() == [0] * 16 + [1] * 16
    assert not result[2].any()  # below 1 % everywhere: left out


def test_without_a_background_it_takes_no_part() -> None:
    found = np.zeros((3, 8, 8), np.float32)
    found[0], found[1], found[2] = 0.6, 0.3, 0.1
    result = smooth(halves(8, 8), found, CrfConfig(), background=False)
    assert not result[0].any() and (result.argmax(axis=0) == 1).all()


def test_one_pixel_and_nothing_but_background() -> None:
    alone = np.array([[[1.0]], [[0.0]]], np.float32)
    assert smooth(np.zeros((1, 1, 3), np.uint8), alone, CrfConfig(), background=True)[:, 0, 0].tolist() == [1, 0]
    assert smooth(np.zeros((1, 1, 3), np.uint8), alone, CrfConfig(), background=False)[:, 0, 0].tolist() == [0, 1]


def test_a_mask_with_and_without_the_crf(tmp_path: Path) -> None:
    Image.fromarray(halves(48, 64)).save(tmp_path / "a.png")
    found = np.stack([np.full((24, 32), 0.9), np.full((24, 32), 0.1)]).astype(np.float32)
    found[:, 12, 8] = found[::-1, 12, 8]  # a speck
    tasks = [
        MaskTask("a", tmp_path / "a.png", found, (48, 64), np.dtype(np.uint8), crf, background=True)
        for crf in (None, CrfConfig())
    ]
    plain, smoothed = map(make_mask, tasks)
    assert plain.shape == smoothed.shape == (48, 64) and smoothed.dtype == np.uint8
    assert plain.any() and not smoothed.any()


def test_which_crf_is_used() -> None:
    assert smoothing(PredictConfig(smooth="none")) is None
    assert smoothing(PredictConfig()) == smoothing(PredictConfig(smooth="crf")) == PredictConfig().crf
