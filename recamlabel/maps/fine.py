"""Where objects end: class maps of larger inputs beside the usual ones.

A network that looks at an enlarged image sees less of the surroundings around each position, so its maps end closer
to the object: a boat of thirty pixels is no longer one blot with the water around it. But it no longer sees the
whole either, and mistakes classes that occur together for each other: a body for the face above it. So the larger
inputs say *where* anything is, and the usual ones say *which* of the image's classes it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.adapters.base import LabelledImage
from recamlabel.maps.config import MapsConfig
from recamlabel.maps.multiscale import MapNet, class_maps
from recamlabel.models.cam import PEAK_EPS
from recamlabel.models.inputs import working_size

LARGEST_SCALE = 3.0


@dataclass(frozen=True)
class FineMaps:
    """The :class:`recamlabel.maps.base.MapSource` of the stored maps with the foreground of larger inputs.

    Attributes:
        net: The network that made the stored maps, with one head for each of their names.
        config: The stored maps' settings.
        sides: Long sides of the larger inputs, in pixels.
        usual: The open ``maps.h5``.
        amp: bf16 where the device is quick at it.
    """

    net: MapNet
    config: MapsConfig
    sides: Sequence[int]
    usual: h5py.File
    amp: bool = False

    def maps(
        self, images: Sequence[LabelledImage], pixels: list[np.ndarray], classes: list[list[int]]
    ) -> dict[str, list[np.ndarray]]:
        """See :class:`recamlabel.maps.base.MapSource`."""
        height, width = pixels[0].shape[:2]
        made = class_maps(pixels, classes, self.net, fine_config(self.config, (height, width), self.sides), self.amp)
        return {
            name: [
                sharpened(self.usual[f"{name}/{image.id}"][()], fine)
                for image, fine in zip(images, larger, strict=True)
            ]
            for name, larger in made.items()
        }


def sharpened(maps: NDArray[np.floating[Any]], fine: NDArray[np.floating[Any]]) -> NDArray[np.float16]:
    """``s_c = sqrt(max_k a_k * max_k f_k) * a_c / max_k a_k``, then ``s / max_{c,n} s`` (docs/method.md, 1).

    The foreground is the geometric mean of both maxima over the classes, and each class has the share in it that it
    has of the usual maximum. All classes together are divided by their maximum, not each by its own: which of two
    classes is ahead would change with it, and with a face and a body it is a matter of hundredths.

    Args:
        maps: *a*, ``(C, h, w)`` in [0, 1], at the usual scales.
        fine: *f*, the same of larger inputs.

    Returns:
        ``(C, h, w) float16`` in [0, 1]: the maps, with the foreground of the fine ones.

    Example:
        >>> sharpened(np.array([[[1.0, 0.5]]]), np.array([[[1.0, 0.125]]])).tolist()
        [[[1.0, 0.25]]]
    """
    if not len(maps):
        return maps.astype(np.float16)
    usual, larger = maps.astype(np.float32), fine.astype(np.float32)  # (C, h, w) each
    share = usual / (usual.max(axis=0) + PEAK_EPS)
    sharp = np.sqrt(usual.max(axis=0) * larger.max(axis=0)) * share  # (h, w) * (C, h, w)
    result: NDArray[np.float16] = (sharp / (sharp.max() + PEAK_EPS)).astype(np.float16)
    return result


def fine_config(config: MapsConfig, shape: tuple[int, int], sides: Sequence[int]) -> MapsConfig:
    """Settings of maps whose inputs have the given long sides; without mirror images.

    No input is larger than three times the image: what is not in its pixels is not to be found in more of them.

    Example:
        >>> [fine_config(MapsConfig(), (side, side), [480, 960]).scales for side in (320, 64)]
        [[1.5, 3.0], [3.0]]
    """
    longest = max(working_size(*shape, config.max_side))
    scales = dict.fromkeys(min(side / longest, LARGEST_SCALE) for side in sides)
    return config.model_copy(update={"scales": list(scales), "flip": False})
