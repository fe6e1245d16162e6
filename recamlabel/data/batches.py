"""Training batches as a pure function of (seed, step), so that a resumed run repeats nothing and skips nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from recamlabel.adapters.base import LabelledImage
from recamlabel.data.config import AugmentConfig
from recamlabel.data.photometric import Photometric, draw_photometric
from recamlabel.storage.decode import read_reduced

SeedReader = Callable[[str], np.ndarray]
"""``image id -> (H, W)`` integer seeds, of any size with the image's aspect."""

MapReader = Callable[[str], np.ndarray]
"""``image id -> (K, h, w)`` soft maps, of any size with the image's aspect."""

MASK_STRIDE = 4


# Decoded images that a training keeps in memory, in bytes: a few hundred, each needed every epoch.
KEPT_BYTES = 256_000_000


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
    """One step's images and labels.

    Attributes:
        images: ``(B, 3, c, c) float32`` normalised.
        labels: ``(B, K) int8`` in {1, 0, -1}.
        step: Optimiser step, from 0.
        seeds: ``(B, c, c) int32`` class ids, 0 and the ignore id, where the stage learns from pixels.
        weights: ``(B,) float32`` weight of each image in the loss, where they differ.
        masks: ``(B, K, ceil(c / 4), ceil(c / 4)) float16`` soft maps, where the stage is given them.
    """

    images: Tensor
    labels: Tensor
    step: int
    seeds: Tensor | None = None
    masks: Tensor | None = None
    weights: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The batch on a device, images channels-last."""
        images = self.images.to(device, non_blocking=True, memory_format=torch.channels_last)
        return self._map(images, lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory, for quick copies to a GPU."""
        return self._map(self.images.pin_memory(), lambda tensor: tensor.pin_memory())

    def _map(self, images: Tensor, move: Callable[[Tensor], Tensor]) -> Batch:
        parts = (self.seeds, self.masks, self.weights)
        seeds, masks, weights = (None if tensor is None else move(tensor) for tensor in parts)
        return Batch(images, move(self.labels), self.step, seeds, masks, weights)


class TrainingBatches(Dataset[Batch]):
    """Item ``s`` is the batch of optimiser step ``s``.

    Every epoch is a fresh permutation; a batch may straddle two epochs, so data sets smaller
    than a batch work.

    Args:
        images: Training images, at least one.
        labels: ``(N, K) int8``.
        batch_size: Images per batch.
        steps: Number of batches.
        augment: Geometry, colour and light of the augmentation.
        normalisation: Applied before the zero padding, as the authors do.
        seed: Makes order and augmentation.
        seeds: Reads the seeds of an image, which then go through the image's own geometry.
        ignore_id: What seeds are padded with.
        masks: Reads the soft maps of an image, which go through its geometry too.
        weights: ``(N,) float32``, each image's weight in the loss.
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
        seeds: SeedReader | None = None,
        ignore_id: int = 255,
        masks: MapReader | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        self.images, self.labels, self.steps = images, labels, steps
        self.batch_size, self.augment, self.normalisation, self.seed = batch_size, augment, normalisation, seed
        self.seeds, self.ignore_id, self.masks, self.weights = seeds, ignore_id, masks, weights
        self._kept: dict[str, np.ndarray] = {}
        self._room = KEPT_BYTES

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
        made = [
            self._crop(number, np.random.default_rng((self.seed, 2, step, slot))) for slot, number in enumerate(chosen)
        ]
        images, seeds, masks = (_stack([crops[part] for crops in made]) for part in range(3))
        assert images is not None
        weights = None if self.weights is None else torch.from_numpy(self.weights[chosen])
        return Batch(images.permute(0, 3, 1, 2), torch.from_numpy(self.labels[chosen]), step, seeds, masks, weights)

    def _read(self, image: LabelledImage) -> np.ndarray:
        """Pixels enough for every crop; of large images, which take long to decode, some are kept."""
        kept = self._kept.get(image.id)
        if kept is None:
            kept = read_reduced(image.path, self.augment.resize_max)
            if max(kept.shape[:2]) < 2 * self.augment.resize_max and kept.nbytes <= self._room:
                self._kept[image.id] = kept
                self._room -= kept.nbytes
        return kept

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, 1, epoch)).permutation(len(self.images))

    def _crop(self, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        chosen = self.images[number]
        image = self._read(chosen)
        geometry = draw_geometry((image.shape[0], image.shape[1]), self.augment, rng)
        # Drawn last: the geometry is the same whether colour and light change or not.
        photometric = draw_photometric(self.augment, rng)
        return (
            geometry.apply_to_image(image, self.normalisation, photometric),
            geometry.apply_to_seeds(self.seeds(chosen.id), self.ignore_id) if self.seeds else None,
            geometry.apply_to_maps(self.masks(chosen.id)) if self.masks else None,
        )


def _stack(arrays: list[np.ndarray | None]) -> Tensor | None:
    present = [array for array in arrays if array is not None]
    return torch.from_numpy(np.stack(present)) if present else None


@dataclass(frozen=True)
class Geometry:
    """One drawn augmentation: resize to ``height x width``, flip, then cut ``source`` out into ``target``."""

    height: int
    width: int
    flip: bool
    crop: int
    source: tuple[slice, slice]
    target: tuple[slice, slice]

    def apply_to_image(
        self, image: np.ndarray, normalisation: Normalisation, photometric: Photometric | None = None
    ) -> np.ndarray:
        """``(H, W, 3) uint8`` to ``(crop, crop, 3) float32``, normalised and then padded with zeros.

        Colour and light change in between: on what was cut out alone, while it is still 8-bit.
        """
        image = resize(image, self.height, self.width)
        out = np.zeros((self.crop, self.crop, 3), dtype=np.float32)
        cut = (image[:, ::-1] if self.flip else image)[self.source]
        out[self.target] = normalisation.apply(photometric.apply(cut) if photometric else cut)
        return out

    def apply_to_seeds(self, seeds: np.ndarray, ignore_id: int) -> np.ndarray:
        """``(h, w)`` integers to ``(crop, crop) int32`` by nearest pixel, padded with ``ignore_id``."""
        rows, columns = self._nearest(seeds.shape)
        out = np.full((self.crop, self.crop), ignore_id, dtype=np.int32)
        out[self.target] = seeds[rows[self.source[0], None], columns[None, self.source[1]]]
        return out

    def apply_to_maps(self, maps: np.ndarray) -> np.ndarray:
        """``(K, h, w)`` to ``(K, ceil(crop / 4), ceil(crop / 4))`` of the same dtype, zero in the padding."""
        rows, columns = self._nearest(maps.shape[1:])
        side = -(-self.crop // MASK_STRIDE)
        centres = (np.arange(side) * MASK_STRIDE + MASK_STRIDE // 2).clip(max=self.crop - 1)
        place: list[np.ndarray] = []
        inside: list[np.ndarray] = []
        for axis, lookup in enumerate((rows, columns)):
            source, target = self.source[axis], self.target[axis]
            inside.append((centres >= target.start) & (centres < target.stop))
            place.append(lookup[centres[inside[axis]] - target.start + source.start])
        out = np.zeros((len(maps), side, side), dtype=maps.dtype)
        out[:, inside[0][:, None] & inside[1][None]] = maps[:, place[0][:, None], place[1][None]].reshape(len(maps), -1)
        return out

    def _nearest(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """For every row and column of the resized image the nearest one of an array of ``shape``."""
        rows, columns = (
            # Pixel centres, as the bilinear and bicubic resizes have them.
            (2 * np.arange(size) + 1) * found // (2 * size)
            for size, found in zip((self.height, self.width), shape, strict=True)
        )
        return rows, columns[::-1] if self.flip else columns


def draw_geometry(shape: tuple[int, int], augment: AugmentConfig, rng: np.random.Generator) -> Geometry:
    """Draw the augmentation of an image of ``shape`` (height, width)."""
    long_side = int(rng.integers(augment.resize_min, augment.resize_max + 1))
    scale = long_side / max(shape)
    size = (max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale)))
    flip = augment.flip and bool(rng.random() < 0.5)
    crop = augment.crop_size
    source, target = [], []
    for side in size:
        length = min(side, crop)
        source.append(slice(start := int(rng.integers(0, side - length + 1)), start + length))
        target.append(slice(start := int(rng.integers(0, crop - length + 1)), start + length))
    return Geometry(*size, flip, crop, (source[0], source[1]), (target[0], target[1]))


def random_crop(
    image: np.ndarray, augment: AugmentConfig, normalisation: Normalisation, rng: np.random.Generator
) -> np.ndarray:
    """Random resize of the long side, flip, colour and light, normalisation, in a random zero-padded square crop.

    Args:
        image: ``(H, W, 3) uint8``.
        augment: Ranges.
        normalisation: Applied before the padding.
        rng: Source of chance.

    Returns:
        ``(crop, crop, 3) float32``.
    """
    shape = (image.shape[0], image.shape[1])
    geometry = draw_geometry(shape, augment, rng)
    return geometry.apply_to_image(image, normalisation, draw_photometric(augment, rng))


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
