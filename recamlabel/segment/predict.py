"""Class probabilities and masks of single images from a trained segmenter (docs/method.md, 5, inference)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from recamlabel.core.arrays import paint_strongest
from recamlabel.core.classes import BACKGROUND_ID
from recamlabel.core.devices import looking
from recamlabel.data.batches import Normalisation
from recamlabel.errors import RecamlabelError
from recamlabel.models.inputs import TILE, Pixels, in_tiles, input_size
from recamlabel.models.segmenter import Segmenter
from recamlabel.segment.config import PredictConfig


@dataclass(frozen=True)
class Predictor:
    """A segmenter in eval mode on its device, and how it is asked.

    Args:
        net: The segmenter.
        config: Scales, flip, sizes.
        device: Where it runs.
        amp: bf16 where the device is quick at it.
        side: Long side, in pixels, at which the segmenter has learnt to look; None: ``config.max_side``.
    """

    net: Segmenter
    config: PredictConfig
    device: torch.device
    amp: bool = False
    side: int | None = None

    @property
    def max_side(self) -> int:
        """Images with a longer side are scaled down to it; what the segmenter has learnt at, where that is known."""
        return self.side or self.config.max_side

    @property
    def scales(self) -> list[float]:
        """Input scales; at a larger side than the usual one alone, as each costs several times the usual pixels."""
        return self.config.scales if self.max_side <= self.config.max_side else [1.0]

    @torch.no_grad()
    def probabilities(self, images: Sequence[np.ndarray]) -> NDArray[np.float32]:
        """Mean class probabilities over scales and flips.

        Args:
            images: B images ``(H, W, 3) uint8`` of one :func:`recamlabel.models.inputs.input_size`.

        Returns:
            ``(B, K + 1, h, w) float32``, summing to 1 over the second axis, at half the working
            size (the image's, at most :attr:`max_side` long). Inputs above a megapixel are looked at in overlapping
            tiles.

        Raises:
            RecamlabelError: The network's output is not finite.
        """
        height, width = input_size(images[0].shape, self.max_side, self.device)
        target = (max(1, height // 2), max(1, width // 2))
        pixels = Pixels(images, Normalisation(self.net.mean, self.net.std), self.device)
        total: Tensor | None = None
        for scale in self.scales:
            size = (max(1, round(height * scale)), max(1, round(width * scale)))
            inputs = pixels.at(*size)
            total = self._add(total, self._softmax(inputs, target))
            if self.config.flip:
                total = self._add(total, self._softmax(inputs.flip(-1), target).flip(-1))
        assert total is not None
        mean: NDArray[np.float32] = (total / total.sum(dim=1, keepdim=True)).cpu().numpy()
        if not np.isfinite(mean).all():
            raise RecamlabelError("the segmenter's output is not finite; train it again with a lower segmenter.lr")
        return mean

    @staticmethod
    def _add(total: Tensor | None, more: Tensor) -> Tensor:
        return more if total is None else total + more

    def _softmax(self, inputs: Tensor, target: tuple[int, int]) -> Tensor:
        if inputs.shape[2] * inputs.shape[3] > TILE**2:
            whole = in_tiles(self._halved, inputs, 2, self.device, self.amp)
            return F.interpolate(whole, target, mode="bilinear", align_corners=False)
        with looking(self.device, self.amp):
            logits = self.net(inputs.contiguous(memory_format=torch.channels_last))
        return F.interpolate(logits.float().softmax(dim=1), target, mode="bilinear", align_corners=False)

    def _halved(self, inputs: Tensor) -> Tensor:
        """Probabilities at half of the inputs' size, rounded up."""
        return F.avg_pool2d(self.net(inputs).float().softmax(dim=1), 2, ceil_mode=True, count_include_pad=False)


def stored_support(file: h5py.File, image_id: str) -> tuple[float, dict[int, float]]:
    """The segmenter's support of an image's mask (:func:`recamlabel.masks.evidence.support`), and by class id."""
    attributes = file[image_id].attrs
    ids = map(int, attributes["agreement_ids"])
    return float(attributes["support"]), dict(zip(ids, map(float, attributes["class_support"]), strict=True))


def restrict(probabilities: NDArray[np.float32], ids: Sequence[int]) -> NDArray[np.float32]:
    """Probabilities given that nothing but some classes is there.

    Args:
        probabilities: ``(K + 1, h, w)``, background first.
        ids: The C ids that are possible, 0 for the background.

    Returns:
        ``(C, h, w)``, summing to 1 over the classes.

    Example:
        >>> restrict(np.array([[[0.2]], [[0.5]], [[0.3]]], dtype=np.float32), [0, 2]).round(2).tolist()
        [[[0.4000000059604645]], [[0.6000000238418579]]]
    """
    chosen = probabilities[list(ids)]
    result: NDArray[np.float32] = chosen / np.maximum(chosen.sum(axis=0, keepdims=True), 1e-12)
    return result


def decide(
    probabilities: NDArray[np.float32],
    shape: tuple[int, int],
    dtype: np.dtype[np.generic],
    labels: Sequence[int] = (),
    *,
    background: bool,
) -> NDArray[np.generic]:
    """The most probable class of every pixel.

    Args:
        probabilities: ``(K + 1, h, w)``, background first.
        shape: Height and width of the mask.
        dtype: Of the mask.
        labels: Class ids that may occur beside the background; empty: all.
        background: Whether the background may occur.

    Returns:
        ``(H, W)`` class ids.

    Example:
        >>> p = np.array([[[0.2, 0.6]], [[0.5, 0.1]], [[0.3, 0.3]]], dtype=np.float32)
        >>> [decide(p, (1, 2), np.dtype(np.uint8), own, background=True).tolist() for own in ([], [2])]
        [[[1, 0]], [[2, 0]]]
    """
    ids = [*([BACKGROUND_ID] if background else []), *(labels or range(1, len(probabilities)))]
    mask = np.full(shape, BACKGROUND_ID, dtype=dtype)
    return paint_strongest(mask, -1.0, ((class_id, probabilities[class_id]) for class_id in ids))
