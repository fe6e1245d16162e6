"""Class maps to refined scores, by name.

A refiner turns the maps of one image into *scores*: per class and pixel the highest
background level at which the pixel would still be given to the class. Masks are then
``argmax([threshold, scores])``, so one stored result serves every threshold. A new one is a
:class:`Refiner` in ``BUILT_IN``; another package adds its own by an entry point of the group ``recamlabel.refiners``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recamlabel.core.plugins import FlawError, blame, check_scores, owner
from recamlabel.core.registry import Registry
from recamlabel.errors import ConfigError
from recamlabel.refine.config import RefineConfig
from recamlabel.refine.levels import crf_scores

Refine = Callable[[NDArray[np.uint8], NDArray[np.float32], RefineConfig, bool], NDArray[np.float32]]
"""``(image (H, W, 3) uint8, maps (C, H, W) in [0, 1], settings, background) -> scores (C, H, W) in [0, 1]``."""


@dataclass(frozen=True)
class Refiner:
    """A way from one image's maps to its scores.

    Attributes:
        name: As ``refine.method`` has it.
        run: The work on one image; None: the maps are the scores.
        stepped: Whether its scores come in steps at ``refine.levels``, so that no other level says more.
        walks: Whether the maps are spread by a random walk first, which needs boundaries (``refine.edges``).
    """

    name: str
    run: Refine | None = None
    stepped: bool = False
    walks: bool = False


def _adopt(thing: Any, point: EntryPoint) -> Refiner:
    if not isinstance(thing, Refiner):
        raise FlawError(f"is a {type(thing).__name__}; expected a recamlabel.refine.Refiner")
    if thing.name != point.name:
        raise FlawError(f"calls itself {thing.name!r}; expected the name of its entry point")
    return (
        thing
        if thing.run is None
        else replace(thing, run=_guarded(thing.run, f"method {point.name!r} of {owner(point)}"))
    )


def _guarded(run: Refine, who: str) -> Refine:
    """Another package's work on an image; what it raises, and scores that are none, are told as its fault."""

    def checked(
        image: NDArray[np.uint8], maps: NDArray[np.float32], config: RefineConfig, background: bool
    ) -> NDArray[np.float32]:
        with blame(who, ConfigError):
            scores = check_scores(run(image, maps, config, background), maps.shape, "scores")
        result: NDArray[np.float32] = scores.astype(np.float32)
        return result

    return checked


BUILT_IN = (
    Refiner("none"),
    Refiner("crf", crf_scores, stepped=True),
    Refiner("random_walk", walks=True),
    Refiner("crf+random_walk", crf_scores, stepped=True, walks=True),
)
REFINERS: Registry[Refiner] = Registry(
    "refine.method", "method", {one.name: one for one in BUILT_IN}, "recamlabel.refiners", _adopt, auto=True
)


def walks(method: str) -> bool:
    """Whether a resolved method spreads the maps by a random walk first, which needs boundaries.

    Example:
        >>> walks("crf+random_walk"), walks("crf")
        (True, False)
    """
    return REFINERS.find(method).walks


def learns_affinity(config: RefineConfig) -> bool:
    """Whether a walk keeps to the boundaries of an affinity net, which has to be trained; the method is a resolved one.

    Example:
        >>> learns_affinity(RefineConfig(method="random_walk")), learns_affinity(RefineConfig(method="crf"))
        (True, False)
        >>> learns_affinity(RefineConfig(method="random_walk", edges="hed"))
        False
    """
    return walks(config.method) and config.edges == "affinity"


def stepped(method: str) -> bool:
    """Whether a resolved method's scores come in steps at ``refine.levels``."""
    return REFINERS.find(method).stepped


def refiner_of(method: str) -> Refiner:
    """The refiner that finished scores were made by; one that only has the name, where its package is gone.

    Example:
        >>> refiner_of("crf").stepped, refiner_of("gone").stepped
        (True, False)
    """
    try:
        return REFINERS.find(method)
    except ConfigError:
        return Refiner(method)


def resolve_method(name: str) -> str:
    """The refiner that ``refine.method`` stands for: ``auto`` is ``crf``.

    Raises:
        ConfigError: An unknown name; lists the known ones.

    Example:
        >>> resolve_method("auto")
        'crf'
    """
    return "crf" if name == "auto" else REFINERS.find(name).name
