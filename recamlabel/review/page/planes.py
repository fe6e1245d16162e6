"""What the page's editor works on: masks at the images' own size, and the mask at every stored background level.

``mask_l(p) = argmax([l, scores(p)])`` (docs/method.md, 7): which class is strongest does not depend on the level l. So
the strongest class of a pixel, and the number of levels below its score, give the masks of all levels at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recamlabel.core.arrays import from_uint8, resize_maps
from recamlabel.refine import refiner_of
from recamlabel.review.decisions.runs import Runs
from recamlabel.storage.run_folder import RunFolder

# Where a run's own levels are not known: maps without a CRF have a value at every level.
LEVELS = tuple(level / 20 for level in range(1, 20))
LONGEST = 40


def stored_levels(run: RunFolder) -> tuple[list[float], float | None]:
    """The background levels that the slider goes through, ascending, and the one of the run's masks (one of them)."""
    used = run.state.stages.get("masks", {}).get("threshold")
    refine: Mapping[str, Any] = run.state.config.get("refine", {})
    levels = {float(level) for level in refine.get("levels", LEVELS)} if _has_levels(refine) else set(LEVELS)
    chosen = sorted(levels | ({float(used)} if used is not None else set()))
    return chosen[:LONGEST], None if used is None else float(used)


def _has_levels(refine: Mapping[str, Any]) -> bool:
    """Whether the refiner was run at levels of its own."""
    return "method" in refine and refiner_of(str(refine["method"])).run is not None


def level_codes(scores: NDArray[np.uint8], shape: tuple[int, int], levels: Sequence[float]) -> NDArray[np.uint16]:
    """All levels' masks of one image in one array.

    Args:
        scores: ``(C, h, w) uint8``, 255 = 1.0; C may be 0.
        shape: Height and width of the mask.
        levels: Background levels in (0, 1), ascending, at least one.

    Returns:
        ``(H, W) uint16``: 0 where no class is above the lowest level, else ``1 + place + C * (above - 1)``, with the
        strongest class's place 0..C-1 and the number of levels that it is above. The mask at the i-th level has the
        class where ``above > i``, as :func:`recamlabel.masks.render.render_mask` has it.

    Example:
        >>> level_codes(np.array([[[0, 100, 255]], [[0, 200, 0]]], np.uint8), (1, 3), [0.25, 0.5, 0.9]).tolist()
        [[0, 4, 5]]
    """
    best = np.full(shape, levels[0], dtype=np.float32)
    winner = np.zeros(shape, dtype=np.int64)
    for place, plane in enumerate(scores):
        score = resize_maps(from_uint8(plane)[None], *shape)[0]
        above = score > best
        winner[above] = place + 1
        best[above] = score[above]
    count = np.searchsorted(np.asarray(levels, dtype=np.float32), best, side="left")
    codes: NDArray[np.uint16] = np.where(winner > 0, winner + len(scores) * (count - 1), 0).astype(np.uint16)
    return codes


def packed(mask: NDArray[Any] | None) -> str:
    """A mask or codes ``(H, W)`` as text; "" for None.

    Example:
        >>> packed(np.zeros((2, 2), np.uint8)), packed(None)
        ('eNpjYAEAAAYABQ==', '')
    """
    return "" if mask is None else Runs.of(mask).packed()
