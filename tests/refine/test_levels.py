from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from recamlabel.core.arrays import from_uint8, to_uint8
from recamlabel.refine.build import RefineTask, refine_image, smooth
from recamlabel.refine.config import CrfConfig, RefineConfig
from recamlabel.refine.crf import crf_from_labels
from recamlabel.refine.levels import crf_scores, step_scores

CONFIG = RefineConfig(levels=[0.2, 0.4, 0.6], crf=CrfConfig(iterations=3))


def example():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60, (20, 24, 3)).astype(np.uint8)
    image[5:15, 4:12] += 150
    maps = rng.random((2, 20, 24)).astype(np.float32) * 0.5
    maps[0, 6:14, 5:11] = 0.9
    return image, maps


@pytest.mark.parametrize("level", CONFIG.levels)
def test_a_mask_at_a_level_is_the_crf_at_that_level(level):
    image, maps = example()
    scores = crf_scores(image, maps, CONFIG, background=True)
    start = np.concatenate([np.full((1, 20, 24), level, np.float32), maps]).argmax(axis=0)
    expected = crf_from_labels(image, start, 3, CONFIG.crf)
    rendered = np.where(scores.max(axis=0) > level, scores.argmax(axis=0) + 1, 0)
    agreement = (rendered == expected).mean()
    # Equal wherever the classes are nested over the levels, which the CRF does not promise everywhere.
    assert agreement > 0.97


def test_scores_take_the_values_between_levels():
    image, maps = example()
    assert set(np.unique(crf_scores(image, maps, CONFIG, background=True))) <= set(np.float32([0.0, 0.3, 0.5, 0.8]))
    assert step_scores([0.2, 0.4, 0.6]) == pytest.approx([0.0, 0.3, 0.5, 0.8])


def test_inputs_stay_as_they_were():
    image, maps = example()
    before = image.copy(), maps.copy()
    crf_scores(image, maps, CONFIG, background=True)
    assert np.array_equal(image, before[0]) and np.array_equal(maps, before[1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9)])
def test_tiny_images(shape):
    scores = crf_scores(np.zeros((*shape, 3), np.uint8), np.ones((1, *shape), np.float32), CONFIG, background=True)
    assert scores.shape == (1, *shape) and np.isfinite(scores).all()


def test_smoothing_takes_speckle_away_and_leaves_what_is_even(tmp_path):
    image, maps = example()
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path)

    def refined(sigma: float) -> np.ndarray:
        config = CONFIG.model_copy(update={"smooth": sigma})
        return from_uint8(
            refine_image(RefineTask("a", path, maps.astype(np.float16), (1, 2), "crf", config, background=True))
        )

    plain, soft = refined(0.0), refined(0.05)
    stored = maps.astype(np.float16).astype(np.float32)
    assert np.array_equal(plain, from_uint8(to_uint8(crf_scores(image, stored, CONFIG, background=True))))
    assert np.abs(np.diff(soft, axis=2)).sum() < np.abs(np.diff(plain, axis=2)).sum()
    assert soft.max() <= plain.max() and soft.min() >= plain.min()
    even = smooth(np.full((1, 4, 6), 0.25, np.float32), 2.0)
    assert np.allclose(even, 0.25)
