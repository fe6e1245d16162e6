"""A map variant: CAM, the mean over noisy copies of the image.

    M_k(x) = 1/N sum_n CAM_k(x + noise_n),   noise_n ~ N(0, sigma^2)

Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017, applied to class activation maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recamlabel.adapters import LabelledImage
from recamlabel.maps.base import MapRequest, MapSource
from recamlabel.maps.cam import cam

COPIES = 4
SIGMA = 10.0  # grey levels


@dataclass(frozen=True)
class SmoothCam:
    """Gives the maps of another source, smoothed.

    Args:
        plain: Makes the maps of one copy.
        seed: Of the noise.
    """

    plain: MapSource
    seed: int

    def maps(
        self, images: Sequence[LabelledImage], pixels: list[np.ndarray], classes: list[list[int]]
    ) -> dict[str, list[np.ndarray]]:
        """By head B arrays ``(C_b, h, w) float16`` in [0, 1], for B images ``(H, W, 3) uint8`` of one size."""
        # An image's noise is its own, so that its maps do not depend on which images it is looked at with.
        chance = [np.random.default_rng([self.seed, *image.id.encode()]) for image in images]
        totals: dict[str, list[np.ndarray]] = {}
        for _ in range(COPIES):
            noisy = [_with_noise(one, rng) for one, rng in zip(pixels, chance, strict=True)]
            for name, rows in self.plain.maps(images, noisy, classes).items():
                sums = totals.setdefault(name, [np.zeros(maps.shape, np.float32) for maps in rows])
                for total, maps in zip(sums, rows, strict=True):
                    total += maps
        return {name: [_by_maximum(total) for total in sums] for name, sums in totals.items()}


def smoothcam(request: MapRequest) -> SmoothCam:
    """What the entry point names: a function from all that a variant may use to what gives the maps."""
    return SmoothCam(cam(request), request.seed)


def _with_noise(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (pixels + rng.normal(0, SIGMA, pixels.shape)).clip(0, 255).astype(np.uint8)


def _by_maximum(maps: np.ndarray) -> np.ndarray:
    """Each class by its own maximum, as the maps of recamlabel are."""
    largest = maps.max(axis=(1, 2), keepdims=True, initial=0)
    scaled: np.ndarray = np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0)
    return scaled.astype(np.float16)
