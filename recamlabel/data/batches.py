"""Training batches as a pure function of (seed, step), so that a resumed run repeats nothing and skips nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from operator import itemgetter

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

    def tensor(self) -> Tensor:
        """Mean and standard deviation, ``(2, 3) float32``."""
        return torch.tensor([self.mean, self.std])


def normalise_(images: Tensor, normalisation: Tensor) -> Tensor:
    """:meth:`Normalisation.apply` in place, of ``(B, 3, H, W) float32`` in 0..255 on any device.

    Args:
        images: Overwritten.
        normalisation: :meth:`Normalisation.tensor`, on the same device.

    Example:
        >>> half = Normalisation((0.5,) * 3, (0.25,) * 3).tensor()
        >>> normalise_(torch.full((1, 3, 1, 1), 255.0), half).flatten().tolist()
        [2.0, 2.0, 2.0]
    """
    mean, std = normalisation.view(2, 3, 1, 1)
    return images.div_(255).sub_(mean).div_(std)


@dataclass(frozen=True)
class Batch:
    """One step's images and labels, on the device.

    Attributes:
        images: ``(B, 3, c, c) float32`` normalised, channels-last.
        labels: ``(B, K) int8`` in {1, 0, -1}.
        step: Optimiser step, from 0.
        seeds: ``(B, c, c) int32`` class ids, 0 and the ignore id, where the stage learns from pixels.
        weights: ``(B,) float32`` weight of each image in the loss, where they differ.
        masks: ``(B, K, ceil(c / 4), ceil(c / 4)) float16`` soft maps, where the stage is given them.
        most_labels: The largest number of present labels of an image, where it was counted when loaded.
        slots: Which slots of the step's batch these are, where other processes have the rest of them; None: all.
        total: Images in the step's whole batch; 0: these are all.
    """

    images: Tensor
    labels: Tensor
    step: int
    seeds: Tensor | None = None
    masks: Tensor | None = None
    weights: Tensor | None = None
    most_labels: int | None = None
    slots: slice | None = None
    total: int = 0

    def map(self, move: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with all its tensors replaced."""
        seeds, masks, weights = (
            None if part is None else move(part) for part in (self.seeds, self.masks, self.weights)
        )
        images, labels = move(self.images), move(self.labels)
        return replace(self, images=images, labels=labels, seeds=seeds, masks=masks, weights=weights)

    def parts(self, count: int) -> Iterator[Batch]:
        """The batch in up to ``count`` pieces of nearly equal size, one after the other.

        Example:
            >>> batch = Batch(torch.zeros(3, 3, 8, 8), torch.zeros(3, 2), 0)
            >>> [len(part.images) for part in batch.parts(2)]
            [2, 1]
        """
        size = -(-len(self.images) // count)
        for start in range(0, len(self.images), size):
            yield self.map(itemgetter(slice(start, start + size)))


@dataclass(frozen=True)
class LoadedBatch:
    """A batch as it is loaded: 8-bit pixels, a quarter of the bytes to copy, normalised where the network is.

    Attributes:
        batch: All the rest; its ``images`` are ``(B, c, c, 3) uint8``, 0 in the padding.
        inside: ``(B, 4) int64``: first row, row behind the last, first column, column behind the last of the image.
        normalisation: ``(2, 3) float32``: mean and standard deviation of RGB in 0..1.
    """

    batch: Batch
    inside: Tensor
    normalisation: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on a device, images normalised and then padded with zeros, as the authors do."""
        batch = self.batch.map(lambda tensor: tensor.to(device, non_blocking=True))
        inside, normalisation = (part.to(device, non_blocking=True) for part in (self.inside, self.normalisation))
        images = normalise_(batch.images.permute(0, 3, 1, 2).float(), normalisation)
        place = torch.arange(images.shape[2], device=device)
        row, column = (
            (place >= inside[:, first, None]) & (place < inside[:, first + 1, None]) for first in (0, 2)
        )  # (B, c)
        images.masked_fill_(~(row[:, None, :, None] & column[:, None, None]), 0)
        return replace(batch, images=images)

    def pin_memory(self) -> LoadedBatch:
        """The batch in page-locked memory, for quick copies to a GPU."""
        pinned = self.batch.map(Tensor.pin_memory)
        return LoadedBatch(pinned, self.inside.pin_memory(), self.normalisation.pin_memory())


@dataclass(frozen=True)
class Visit:
    """An image's place in a batch.

    Attributes:
        number: Of the image among those of the training.
        chance: Seed of its crop.
        view: Which of the image's crops it is, where these are always the same.
    """

    number: int
    chance: tuple[int, ...]
    view: int = 0


class TrainingBatches(Dataset[LoadedBatch]):
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
        about: Share of the crops that are cut about a pixel of a class, each class as often, where the seeds have one.
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
        about: float = 0.0,
    ) -> None:
        self.images, self.labels, self.steps = images, labels, steps
        self.batch_size, self.augment, self.normalisation, self.seed = batch_size, augment, normalisation, seed
        self.seeds, self.ignore_id, self.masks, self.weights = seeds, ignore_id, masks, weights
        self.about = about
        self.slots = range(batch_size)
        self._kept: dict[str, np.ndarray] = {}
        self._room = KEPT_BYTES

    def __len__(self) -> int:
        return self.steps

    def of_slots(self, slots: range) -> TrainingBatches:
        """The same batches, of which only some slots are made: crop for crop those of the whole batches."""
        part = copy(self)
        part.slots = slots
        return part

    def indices(self, step: int) -> list[int]:
        """Image numbers of a step's batch."""
        count = len(self.images)
        first = step * self.batch_size
        positions = range(first, first + self.batch_size)
        orders = {epoch: self._order(epoch) for epoch in {position // count for position in positions}}
        return [int(orders[position // count][position % count]) for position in positions]

    def __getitem__(self, step: int) -> LoadedBatch:
        if not 0 <= step < self.steps:
            raise IndexError(step)
        return self.loaded(step, self.visits(step))

    def visits(self, step: int) -> list[Visit]:
        """Which images stand in this process's slots of a step's batch, and what their crops are drawn by."""
        everything, views = self.indices(step), self.augment.views
        if not views:
            return [Visit(everything[slot], (self.seed, 2, step, slot)) for slot in self.slots]
        first, found = step * self.batch_size, []
        for slot in self.slots:
            found.append(self.fixed_crop(everything[slot], (first + slot) // len(self.images) % views))
        return found

    def fixed_crop(self, number: int, view: int) -> Visit:
        """One of the crops of an image that are always the same, ``augment.views`` in number."""
        # In every stage, whose seeds are two numbers that differ in their last bit.
        return Visit(number, (self.seed // 2, 3, number, view), view)

    def loaded(self, step: int, visits: Sequence[Visit]) -> LoadedBatch:
        """The crops of these visits, with all that is known of them."""
        made = [self._crop(visit.number, np.random.default_rng(visit.chance)) for visit in visits]
        images, inside, seeds, masks = (_stack([crops[part] for crops in made]) for part in range(4))
        assert images is not None and inside is not None
        batch = self.batch(step, visits, images)
        return LoadedBatch(replace(batch, seeds=seeds, masks=masks), inside, self.normalisation.tensor())

    def batch(self, step: int, visits: Sequence[Visit], images: Tensor) -> Batch:
        """What is known of these visits but for their pixels, beside ``images``."""
        chosen = [visit.number for visit in visits]
        weights = None if self.weights is None else torch.from_numpy(self.weights[chosen])
        labels = self.labels[chosen]
        most = int((labels > 0).sum(axis=1).max(initial=0))
        batch = Batch(images, torch.from_numpy(labels), step, weights=weights, most_labels=most)
        if len(self.slots) < self.batch_size:
            slots = slice(self.slots.start, self.slots.stop)
            batch = replace(batch, slots=slots, total=self.batch_size)
        return batch

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

    def _crop(self, number: int, rng: np.random.Generator) -> tuple[np.ndarray | None, ...]:
        chosen = self.images[number]
        image = self._read(chosen)
        seeds = self.seeds(chosen.id) if self.seeds else None
        geometry = draw_geometry((image.shape[0], image.shape[1]), self.augment, rng)
        if seeds is not None and self.about and rng.random() < self.about:
            geometry = about_a_class(geometry, seeds, self.ignore_id, rng)
        # Drawn last: the geometry is the same whether colour and light change or not.
        photometric = draw_photometric(self.augment, rng)
        return (
            geometry.apply_to_image(image, photometric),
            np.array([edge for part in geometry.target for edge in (part.start, part.stop)]),
            None if seeds is None else geometry.apply_to_seeds(seeds, self.ignore_id),
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

    def apply_to_image(self, image: np.ndarray, photometric: Photometric | None = None) -> np.ndarray:
        """``(H, W, 3) uint8`` to ``(crop, crop, 3) uint8``, 0 outside ``target``.

        Colour and light change in between, on what was cut out alone.
        """
        image = resize(image, self.height, self.width)
        out = np.zeros((self.crop, self.crop, 3), dtype=np.uint8)
        cut = (image[:, ::-1] if self.flip else image)[self.source]
        out[self.target] = photometric.apply(cut) if photometric else cut
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


def about_a_class(geometry: Geometry, seeds: np.ndarray, ignore_id: int, rng: np.random.Generator) -> Geometry:
    """The same augmentation, cut out about a pixel of a class that is drawn among those of the image.

    Args:
        geometry: As drawn.
        seeds: ``(h, w)`` class ids of the whole image, of any size with its aspect.
        ignore_id: Of no class, as the background (0) is.
        rng: Of this crop.
    """
    classes = np.setdiff1d(np.unique(seeds), [0, ignore_id])
    if not classes.size:
        return geometry
    place = np.argwhere(seeds == rng.choice(classes))
    pixel = (place[rng.integers(len(place))] + 0.5) / seeds.shape
    cuts = []
    for axis, (side, old) in enumerate(zip((geometry.height, geometry.width), geometry.source, strict=True)):
        share = 1 - pixel[axis] if axis == 1 and geometry.flip else pixel[axis]
        length = old.stop - old.start
        start = int(np.clip(share * side - rng.random() * length, 0, side - length))
        cuts.append(slice(start, start + length))
    return replace(geometry, source=(cuts[0], cuts[1]))


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize ``(H, W, 3) uint8`` with PIL's bicubic filter, which antialiases when it shrinks."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def iterate(batches: TrainingBatches, start: int, device: torch.device, workers: int) -> Iterator[Batch]:
    """The batches from step ``start`` on, made ahead by worker processes where ``workers`` is above 0.

    On a GPU each is copied while the step before is computed.
    """
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, len(batches)),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=False,
    )
    if device.type == "cuda":
        yield from _copied_ahead(loader, device)
    else:
        for batch in loader:
            yield batch.to(device)


def _copied_ahead(loader: Iterable[LoadedBatch], device: torch.device) -> Iterator[Batch]:
    """Batches on a GPU, each copied and normalised on a stream of its own while the one before is worked on."""
    # PyTorch leaves its constructor without types.
    stream, ahead = torch.cuda.Stream(device), None  # type: ignore[no-untyped-call]
    for loaded in loader:
        with torch.cuda.stream(stream):
            copied = (loaded.to(device), stream.record_event())
        if ahead is not None:
            yield _ready(*ahead, device)
        ahead = copied
    if ahead is not None:
        yield _ready(*ahead, device)


def _ready(batch: Batch, copied: torch.cuda.Event, device: torch.device) -> Batch:
    current = torch.cuda.current_stream(device)
    current.wait_event(copied)

    def keep(tensor: Tensor) -> Tensor:
        # Its memory belongs to the copying stream, which must not reuse it before this one is done with it.
        tensor.record_stream(current)
        return tensor

    return batch.map(keep)
