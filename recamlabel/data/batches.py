"""Training batches as a pure function of (seed, step), so that a resumed run repeats nothing and skips nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from recamlabel.adapters.base import LabelledImage
from recamlabel.config import AugmentConfig
from recamlabel.data.decode import read_image


@dataclass(frozen=True)
class Normalisation:
    """Per-channel mean and standard deviation of RGB in 0..1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, image: np.ndarray) -> np.ndarray:
        """``(H, W, 3) uint8`` to normalised ``(H, W, 3) float32``."""
        scaled = image.astype(np.float32) / 255.0
        mean, std = (np.array(values, dtype=np.float32) for values in (self.mean, self.std))
        result: np.ndarray = (scaled - mean) / std
        return result


@dataclass(frozen=True)
class Batch:
    """Images ``(B, 3, c, c) float32`` normalised, labels ``(B, K) int8`` in {1, 0, -1}, and the step."""

    images: Tensor
    labels: Tensor
    step: int

    def to(self, device: torch.device) -> Batch:
        """The batch on a device, images channels-last."""
        images = self.images.to(device, non_blocking=True, memory_format=torch.channels_last)
        return Batch(images, self.labels.to(device, non_blocking=True), self.step)

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory, for quick copies to a GPU."""
        return Batch(self.images.pin_memory(), self.labels.pin_memory(), self.step)


class TrainingBatches(Dataset[Batch]):
    """Item ``s`` is the batch of optimiser step ``s``.

    Every epoch is a fresh permutation; a batch may straddle two epochs, so data sets smaller
    than a batch work.

    Args:
        images: Training images, at least one.
        labels: ``(N, K) int8``.
        batch_size: Images per batch.
        steps: Number of batches.
        augment: Geometry of the augmentation.
        normalisation: Applied before the zero padding, as the authors do.
        seed: Makes order and augmentation.
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        labels: np.ndarray,
        batch_size: int,
        steps: int,
        augment: AugmentConfig,
        normalisation: Normalisation,
        seed: int,
    ) -> None:
        self.images, self.labels, self.steps = images, labels, steps
        self.batch_size, self.augment, self.normalisation, self.seed = batch_size, augment, normalisation, seed

    def __len__(self) -> int:
        return self.steps

    def indices(self, step: int) -> list[int]:
        """Image numbers of a step's batch."""
        count = len(self.images)
        first = step * self.batch_size
        positions = range(first, first + self.batch_size)
        orders = {epoch: self._order(epoch) for epoch in {position // count for position in positions}}
        return [int(orders[position // count][position % count]) for position in positions]

    def __getitem__(self, step: int) -> Batch:
        if not 0 <= step < self.steps:
            raise IndexError(step)
        chosen = self.indices(step)
        crops = [
            self._crop(number, np.random.default_rng((self.seed, 2, step, slot))) for slot, number in enumerate(chosen)
        ]
        images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
        return Batch(images, torch.from_numpy(self.labels[chosen]), step)

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, 1, epoch)).permutation(len(self.images))

    def _crop(self, number: int, rng: np.random.Generator) -> np.ndarray:
        image = read_image(self.images[number].path)
        return random_crop(image, self.augment, self.normalisation, rng)


def random_crop(
    image: np.ndarray, augment: AugmentConfig, normalisation: Normalisation, rng: np.random.Generator
) -> np.ndarray:
    """Random resize of the long side, flip, normalisation, then a random zero-padded square crop.

    Args:
        image: ``(H, W, 3) uint8``.
        augment: Ranges.
        normalisation: Applied before the padding.
        rng: Source of chance.

    Returns:
        ``(crop, crop, 3) float32``.
    """
    height, width = image.shape[:2]
    long_side = int(rng.integers(augment.resize_min, augment.resize_max + 1))
    scale = long_side / max(height, width)
    image = resize(image, max(1, round(height * scale)), max(1, round(width * scale)))
    if augment.flip and rng.random() < 0.5:
        image = image[:, ::-1]
    crop = augment.crop_size
    out = np.zeros((crop, crop, 3), dtype=np.float32)
    source, target = [], []
    for side in image.shape[:2]:
        size = min(side, crop)
        source.append(slice(start := int(rng.integers(0, side - size + 1)), start + size))
        target.append(slice(start := int(rng.integers(0, crop - size + 1)), start + size))
    out[target[0], target[1]] = normalisation.apply(image[source[0], source[1]])
    return out


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize ``(H, W, 3) uint8`` with PIL's bicubic filter, which antialiases when it shrinks."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def iterate(batches: TrainingBatches, start: int, device: torch.device, workers: int) -> Iterator[Batch]:
    """The batches from step ``start`` on, made ahead by worker processes where ``workers`` is above 0."""
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, len(batches)),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=False,
    )
    for batch in loader:
        yield batch.to(device)
