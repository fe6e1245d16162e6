"""Large images: windows where the maps speak, at the size that they deserve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recamlabel.refine.build import RefineTask, refine_image
from recamlabel.refine.config import RefineConfig
from recamlabel.refine.windows import WHOLE, Window, merged, refined_side, windows


def test_windows_hold_all_that_the_maps_speak_of_and_do_not_overlap() -> None:
    maps = np.random.default_rng(0).random((2, 40, 60)) * 0.05
    for row, column in ((3, 4), (5, 6), (30, 50), (38, 2)):
        maps[row % 2, row, column] = 0.9
    found = windows(maps, 0.1)
    held = np.zeros((40, 60), dtype=int)
    for one in found:
        held[one.cut(40, 60)] += 1
    assert held.max() == 1 and len(found) == 3  # the first two meet
    assert held[(maps > 0.1).any(axis=0)].all()
    assert sum(one.share for one in found) == pytest.approx(held.mean())


def test_no_window_without_anything_and_one_for_everything() -> None:
    assert windows(np.zeros((1, 5, 5)), 0.1) == []
    assert windows(np.zeros((0, 5, 5)), 0.1) == []
    assert windows(np.ones((1, 5, 5)), 0.1) == [WHOLE]


def test_boxes_are_merged_until_none_meet() -> None:
    # The first two meet only once the second has grown by the third.
    assert merged([(0, 0, 2, 2), (5, 5, 8, 8), (1, 1, 6, 6)]) == [(0, 0, 8, 8)]
    assert merged([(0, 0, 2, 2), (2, 2, 3, 3)]) == [(2, 2, 3, 3), (0, 0, 2, 2)]  # they touch, and share nothing


def test_the_size_grows_as_the_windows_shrink_and_ends_at_the_images() -> None:
    hundredth = [Window(0.0, 0.0, 0.1, 0.1)]
    assert refined_side(10_000, 640, hundredth) == 6400
    assert refined_side(4000, 640, hundredth) == 4000
    assert refined_side(4000, 640, []) == 640


def task(path: Path, maps: np.ndarray, **settings: object) -> RefineTask:
    config = RefineConfig(max_side=100, levels=[0.3, 0.6], smooth=0.0, **settings)  # type: ignore[arg-type]
    return RefineTask("a", path, maps.astype(np.float16), (1,), "crf", config, True)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """800 x 600 pixels, grey noise with a bright square of 12 pixels at (300, 200)."""
    pixels = np.random.default_rng(0).integers(90, 110, (600, 800, 3)).astype(np.uint8)
    pixels[200:212, 300:312] = 250
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_a_small_thing_in_a_large_image_keeps_its_outline(picture: Path) -> None:
    maps = np.zeros((1, 60, 80))
    maps[0, 19:23, 29:33] = 1  # 40 pixels, thrice too wide
    scores = refine_image(task(picture, maps))
    assert scores.shape == (1, 600, 800)
    mask, truth = scores[0] > 127, np.zeros((600, 800), dtype=bool)
    truth[200:212, 300:312] = True
    assert (mask & truth).sum() / (mask | truth).sum() > 0.6
    assert not scores[0, :150].any() and not scores[0, :, 400:].any()


def test_an_image_that_is_not_large_or_is_wanted_whole_is_refined_whole(picture: Path) -> None:
    maps = np.zeros((1, 60, 80))
    maps[0, 19:23, 29:33] = 1
    one = task(picture, maps)
    assert refine_image(replace(one, whole=True)).shape == (1, 75, 100)
    assert refine_image(task(picture, np.ones((1, 60, 80)))).shape == (1, 75, 100)
