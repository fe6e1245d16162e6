"""Random changes of colour and light for training crops; what is where stays as it is.

The arithmetic is torchvision's (``transforms.v2.functional`` on Pillow images, which stay 8-bit throughout). Its
``ColorJitter`` is not used because it draws from torch's global generator: here every draw comes from the batch's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from torchvision.transforms.v2 import functional

from recamlabel.data.config import AugmentConfig


@dataclass(frozen=True)
class Photometric:
    """One drawn change of colour and light, applied in the order of the fields.

    Attributes:
        brightness: Factor of every value.
        contrast: Factor of the distance to the picture's mean grey.
        saturation: Factor of the distance to each pixel's own grey.
        hue: Shift of the hue in turns, -0.5..0.5.
        grey: Whether the colour is taken away.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    grey: bool = False

    def apply(self, image: np.ndarray) -> np.ndarray:
        """``(H, W, 3) uint8`` to the same, values cut at 0 and 255; a grey picture stays grey.

        Example:
            >>> Photometric(brightness=2.0).apply(np.array([[[10, 100, 200]]], dtype=np.uint8)).tolist()
            [[[20, 200, 255]]]
        """
        if self == Photometric():
            return image
        picture = Image.fromarray(image)
        # A factor of 1 is skipped, not multiplied by: nothing is rounded, and what is off costs no time.
        if self.brightness != 1:
            picture = functional.adjust_brightness(picture, self.brightness)
        if self.contrast != 1:
            picture = functional.adjust_contrast(picture, self.contrast)
        if self.saturation != 1:
            picture = functional.adjust_saturation(picture, self.saturation)
        if self.hue:
            picture = functional.adjust_hue(picture, self.hue)
        if self.grey:
            picture = functional.rgb_to_grayscale(picture, num_output_channels=3)
        return np.asarray(picture)


def draw_photometric(augment: AugmentConfig, rng: np.random.Generator) -> Photometric:
    """Draw a change of colour and light within the ranges of ``augment``.

    Five numbers are drawn whatever is on, so that one setting does not change what is drawn for another.

    Example:
        >>> draw_photometric(AugmentConfig(), np.random.default_rng(0)) == Photometric()
        True
    """
    brightness, contrast, saturation, hue = (2 * rng.random(4) - 1).tolist()
    return Photometric(
        1 + augment.brightness * brightness,
        1 + augment.contrast * contrast,
        1 + augment.saturation * saturation,
        augment.hue * hue,
        bool(rng.random() < augment.grey),
    )
