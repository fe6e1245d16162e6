"""Class maps to refined scores, by name.

A refiner turns the maps of one image into *scores*: per class and pixel the highest
background level at which the pixel would still be given to the class. Masks are then
``argmax([threshold, scores])``, so one stored result serves every threshold.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recamlabel.errors import ConfigError, MissingExtraError
from recamlabel.refine.config import CrfConfig, RefineConfig
from recamlabel.refine.crf import crf_available
from recamlabel.refine.levels import crf_scores

Refiner = Callable[[NDArray[np.uint8], NDArray[np.float32], RefineConfig, bool], NDArray[np.float32]]
"""``(image (H, W, 3) uint8, maps (C, H, W) in [0, 1], settings, background) -> scores (C, H, W) in [0, 1]``."""


def keep_maps(
    image: NDArray[np.uint8], maps: NDArray[np.float32], config: RefineConfig, background: bool = True
) -> NDArray[np.float32]:
    """No refinement: the maps are the scores."""
    return maps


REFINERS: dict[str, Refiner] = {
    "none": keep_maps,
    "crf": crf_scores,
    "random_walk": keep_maps,
    "crf+random_walk": crf_scores,
}
"""What is done with one image's maps; the maps of a method that :func:`walks` have walked before."""


def walks(method: str) -> bool:
    """Whether a resolved method spreads the maps by a random walk first, which needs the affinity net.

    Example:
        >>> walks("crf+random_walk"), walks("crf")
        (True, False)
    """
    return "random_walk" in method.split("+")


def needs_crf(method: str) -> bool:
    """Whether a resolved method cannot do without the dense CRF."""
    return REFINERS[method] is crf_scores


def seed_crf(config: RefineConfig) -> CrfConfig | None:
    """The dense CRF that confident seeds are made with; None where it is not installed."""
    return config.crf if crf_available() else None


def resolve_method(name: str) -> str:
    """The refiner that ``refine.method`` stands for on this machine.

    ``auto`` is ``crf`` where its package is installed and ``none`` elsewhere.

    Raises:
        ConfigError: An unknown name; lists the known ones.
        MissingExtraError: A method with ``crf`` asked for by name and not installed.
    """
    if name == "auto":
        return "crf" if crf_available() else "none"
    if name not in REFINERS:
        raise ConfigError(f"refine.method: unknown {name!r}; the methods are: auto, {', '.join(REFINERS)}")
    if needs_crf(name) and not crf_available():
        raise MissingExtraError(
            f"refine.method={name} needs the package pydensecrf2: pip install 'recamlabel[crf]' "
            "(builds from source with a C++ compiler such as g++); "
            f"or --set refine.method={'random_walk' if walks(name) else 'none'}"
        )
    return name
