"""From a segmenter's probabilities to masks: a dense CRF first (docs/method.md, 5)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recamlabel.core.classes import BACKGROUND_ID
from recamlabel.refine.build import smooth as gaussian
from recamlabel.refine.config import CrfConfig
from recamlabel.refine.crf import CrfInference
from recamlabel.segment.config import PredictConfig
from recamlabel.segment.predict import decide
from recamlabel.storage.decode import read_image

# A class that is less probable than this everywhere is left out: the CRF's time grows with the classes.
SMALLEST = 0.01
# Of the Gaussian after it, in pixels of the grid: the CRF leaves ragged edges and specks in fine texture.
SIGMA = 1.0


@dataclass(frozen=True)
class MaskTask:
    """What a worker needs for one mask; small enough to send to another process.

    Attributes:
        image_id: Whose mask it is.
        path: The image; only read where there is a CRF.
        probabilities: ``(K + 1, h, w) float32``, background first.
        shape: Height and width of the mask.
        dtype: Of the mask.
        crf: Its settings; None: the probabilities are taken as they are.
        background: Whether the background may occur.
    """

    image_id: str
    path: Path
    probabilities: NDArray[np.float32]
    shape: tuple[int, int]
    dtype: np.dtype[np.generic]
    crf: CrfConfig | None
    background: bool


def make_mask(task: MaskTask) -> NDArray[np.generic]:
    """The mask ``(H, W)`` of one image, in another process."""
    if task.crf is None:
        return decide(task.probabilities, task.shape, task.dtype, background=task.background)
    return smoothed_mask(read_image(task.path), task.probabilities, task.dtype, task.crf, background=task.background)


def smoothed_mask(
    image: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    dtype: np.dtype[np.generic],
    crf: CrfConfig | None,
    *,
    background: bool,
) -> NDArray[np.generic]:
    """The mask of an image that is at hand, of its size: through the CRF, where there is one."""
    smoothed = probabilities if crf is None else smooth(image, probabilities, crf, background=background)
    height, width = image.shape[:2]
    return decide(smoothed, (height, width), dtype, background=background)


def smoothing(config: PredictConfig) -> CrfConfig | None:
    """The CRF that masks pass through; None for none.

    Example:
        >>> smoothing(PredictConfig(smooth="none")) is None
        True
    """
    return None if config.smooth == "none" else config.crf


def smooth(
    image: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    config: CrfConfig,
    *,
    background: bool,
    floor: float = 1e-4,
) -> NDArray[np.float32]:
    """Dense CRF (Kraehenbuehl and Koltun 2011) on the network's probabilities and their own grid, then a Gaussian.

    Args:
        image: ``(H, W, 3) uint8`` of any size.
        probabilities: ``(K + 1, h, w)``, background first; classes below 1 % everywhere are left out.
        config: Kernels, in pixels of the probabilities' grid, and iterations.
        background: False: the background is left out as well.
        floor: Smallest probability of the unary term.

    Returns:
        ``(K + 1, h, w) float32``, summing to 1 over the first axis.

    Raises:
        MissingExtraError: The backend ``pydensecrf`` is asked for and not installed.

    Example:
        >>> probabilities = np.array([[[0.9, 0.4]], [[0.1, 0.6]]], dtype=np.float32)
        >>> image = np.zeros((2, 4, 3), np.uint8)
        >>> smooth(image, probabilities, CrfConfig(), background=True).argmax(axis=0).tolist()
        [[0, 0]]
    """
    height, width = probabilities.shape[1:]
    first = BACKGROUND_ID if background else BACKGROUND_ID + 1
    strongest = int(probabilities[first:].max(axis=(1, 2)).argmax()) + first
    kept = [
        class_id
        for class_id in range(first, len(probabilities))
        if class_id in (BACKGROUND_ID, strongest) or probabilities[class_id].max() >= SMALLEST
    ]
    small = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))
    clipped = np.clip(probabilities[kept], floor, 1)
    result: NDArray[Any] = np.zeros_like(probabilities, dtype=np.float32)
    result[kept] = CrfInference(small, len(kept), config).run(-np.log(clipped / clipped.sum(axis=0)))
    return gaussian(result, SIGMA)
