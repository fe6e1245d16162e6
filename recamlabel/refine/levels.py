"""Scores from the dense CRF run at several background levels (docs/method.md, 3, at every level)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recamlabel.refine.config import RefineConfig
from recamlabel.refine.crf import CrfInference


def crf_scores(
    image: NDArray[np.uint8], maps: NDArray[np.float32], config: RefineConfig, background: bool
) -> NDArray[np.float32]:
    """Per class and pixel, the highest background level at which the CRF keeps the class.

    At each level L the CRF starts from the labels ``argmax([L, maps])``; its pairwise terms are
    built once. A pixel that a class holds at the m lowest levels scores half-way between
    level m and level m+1, so a mask rendered at threshold L is exactly the CRF's result at L,
    and one rendered in between is the result at the nearest level.

    Args:
        image: ``(H, W, 3) uint8`` RGB.
        maps: ``(C, H, W) float32`` in [0, 1], C >= 1.
        config: Levels (ascending) and CRF settings.
        background: False where every pixel belongs to a class: one CRF over the classes, scores 0 and 1.

    Returns:
        ``(C, H, W) float32`` in [0, 1].

    Raises:
        MissingExtraError: The backend ``pydensecrf`` is asked for and not installed.
        RecamlabelError: Shapes that do not go together, or maps that are not finite.
    """
    classes = maps.shape[0]
    if not background:
        winner = CrfInference(image, classes, config.crf).run_labels(maps.argmax(axis=0))
        return np.asarray(winner[None] == np.arange(classes)[:, None, None], dtype=np.float32)
    crf = CrfInference(image, classes + 1, config.crf)
    # argmax([level, maps]), with ties going to the background.
    strongest, winner = maps.max(axis=0), maps.argmax(axis=0) + 1
    levels = np.array(config.levels, dtype=np.float32)
    labels = crf.run_labels(np.stack([np.where(strongest > level, winner, 0) for level in levels]))
    kept: NDArray[np.int64] = (labels[:, None] == np.arange(1, classes + 1)[None, :, None, None]).sum(axis=0)
    scores: NDArray[np.float32] = step_scores(config.levels)[kept]
    return scores


def step_scores(levels: list[float]) -> NDArray[np.float32]:
    """Score of a class that holds at the 0, 1, … lowest levels: 0, midpoints, the last level's upper side.

    Example:
        >>> step_scores([0.25, 0.5]).tolist()
        [0.0, 0.375, 0.75]
    """
    edges = np.array([*levels, 1.0], dtype=np.float64)
    return np.concatenate([[0.0], (edges[:-1] + edges[1:]) / 2]).astype(np.float32)
