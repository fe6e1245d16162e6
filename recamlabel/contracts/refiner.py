"""The contract of refiners (``recamlabel.refiners``)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recamlabel.contracts.base import HEIGHT, WIDTH, picture, require
from recamlabel.core.plugins import FlawError, check_scores
from recamlabel.refine import Refiner
from recamlabel.refine.config import RefineConfig


def check_refiner(refiner: Refiner) -> None:
    """Refine drawn maps, and check what every refiner promises.

    Args:
        refiner: The thing that the entry point names.

    Raises:
        ContractError: A promise is not kept: scores of the maps' shape, in 0..1, without NaN, the same twice; the
            inputs are left as they are; one class, several, an image of one pixel's height and maps of zeros are taken,
            with and without a background; where maps are zero everywhere there is no score.

    Example:
        >>> from recamlabel.refine import REFINERS
        >>> check_refiner(REFINERS["crf"])
    """
    require(isinstance(refiner, Refiner), f"it is a recamlabel.refine.Refiner, found {type(refiner).__name__}")
    require(isinstance(refiner.name, str) and refiner.name, "name is a text, as the entry point is called")
    if refiner.run is None:
        return
    wide = picture()
    for image in (wide, np.ascontiguousarray(wide[:1]), np.zeros((HEIGHT, WIDTH, 3), np.uint8)):
        for classes in (1, 3):
            for background in (True, False):
                _one(refiner, image, classes, background)


def _one(refiner: Refiner, image: NDArray[np.uint8], classes: int, background: bool) -> None:
    assert refiner.run is not None
    height, width = image.shape[:2]
    maps = np.random.default_rng(classes).random((classes, height, width)).astype(np.float32)
    maps[-1] = 0
    kept, pixels = maps.copy(), image.copy()
    config = RefineConfig(levels=[0.2, 0.5])
    scores = refiner.run(image, maps, config, background)
    try:
        check_scores(scores, maps.shape, "scores")
    except FlawError as flaw:
        require(False, f"{refiner.name} {flaw}, for an image of {image.shape} and maps of {maps.shape}")
    require(np.array_equal(maps, kept) and np.array_equal(image, pixels), "image and maps are left as they are")
    require(np.array_equal(scores, refiner.run(image, maps, config, background)), "the same input, the same scores")
    require(not background or scores[-1].max() <= 0.5, "a class whose map is zero everywhere has no high score")
