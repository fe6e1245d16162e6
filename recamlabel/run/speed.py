"""How fast this machine is: a short timing of the backbone and of the refiner on the run's first images."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from recamlabel.core.allocator import freed_memory_kept
from recamlabel.core.devices import to_device
from recamlabel.core.progress import Clock
from recamlabel.data.batches import Normalisation, resize
from recamlabel.models.backbones import Backbone
from recamlabel.models.inputs import Pixels, run_network
from recamlabel.models.layers.depthwise import quicken_depthwise
from recamlabel.models.layers.folded_norm import fold_norms
from recamlabel.refine import REFINERS
from recamlabel.refine.build import shrink
from recamlabel.stages.cost import LATTICE, Cost
from recamlabel.stages.view import View
from recamlabel.storage.decode import read_image

# Images that are timed; the largest side of the refiner's part of one, and its background levels.
IMAGES, SIDE, LEVELS = 2, 160, 2
# The network gets each of them so many times, at the size of a crop up to so many pixels: two small ones take twice as
# long a pixel as the batches of a training do.
REPEATS, CROP = 4, 224
# Where the first, which warms up, took so long, once more is enough; else the median of some more. A CPU that is slower
# still is not asked again: what warms up is little there. On a GPU the first time loads libraries.
LONG, SLOW, MORE = 0.3, 3.0, 3


@dataclass(frozen=True)
class Stopwatch:
    """Times a piece of work on a device."""

    device: torch.device
    clock: Clock = time.perf_counter

    def __call__(self, work: Callable[[], object]) -> float:
        """Seconds that the work takes once it is warm: the first time chooses or loads kernels."""
        first = self._once(work)
        if first > SLOW and self.device.type == "cpu":
            return first
        return statistics.median(self._once(work) for _ in range(1 if first > LONG else MORE))

    def _once(self, work: Callable[[], object]) -> float:
        began = self.clock()
        work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.clock() - began


def measure_speed(view: View, wanted: Cost) -> Cost:
    """Seconds that one of each unit of work takes here.

    The network has random weights, which are as fast as others and need no file; chance is left as it was.

    Args:
        view: Of a run with at least one image.
        wanted: The work that is to be done: units of which there is none are not timed, and are 0.

    Returns:
        As :meth:`recamlabel.stages.cost.Cost.seconds` takes it.
    """
    watch, paths = Stopwatch(view.device), [image.path for image in view.catalog.images[:IMAGES]]
    images: list[NDArray[np.uint8]] = []
    decoding = watch(lambda: images.extend(read_image(path) for path in paths))
    images = images[: len(paths)]
    read = decoding / (sum(image.shape[0] * image.shape[1] for image in images) / 1e6)
    forward = training = 0.0
    if wanted.forward or wanted.training:
        devices = [view.device] if view.device.type == "cuda" else []
        with torch.random.fork_rng(devices), freed_memory_kept(view.device):
            forward, training = _network_speed(view, images, watch, trained=wanted.training > 0)
    refine = _refiner_speed(view, images[0], watch) if wanted.refine else 0.0
    return Cost(forward, training, refine, read, fixed=1.0)


def _network_speed(view: View, images: list[NDArray[np.uint8]], watch: Stopwatch, trained: bool) -> tuple[float, float]:
    """Seconds a megapixel without a gradient, and in training where that is wanted."""
    config = view.settings.backbone
    backbone = Backbone(config.name, config.output_stride, config.frozen_stages)
    to_device(backbone, view.device)
    fold_norms(backbone)
    quicken_depthwise(backbone)
    side = min(CROP, view.settings.augment.crop_size)
    square = [resize(image, side, side) for image in images] * REPEATS
    normalisation, amp = Normalisation(backbone.mean, backbone.std), view.settings.runtime.amp
    backbone.eval()
    forward = watch(lambda: run_network(backbone, square, (side, side), normalisation, view.device, amp))
    pixels = len(square) * side**2 / 1e6
    if not trained:
        return forward / pixels, 0.0
    backbone.train()
    inputs = Pixels(square, normalisation, view.device).at(side, side)
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    training = watch(lambda: backbone(inputs).float().mean().backward())
    return forward / pixels, training / pixels


def _refiner_speed(view: View, image: NDArray[np.uint8], watch: Stopwatch) -> float:
    """Seconds of a megapixel, label and background level, over all worker processes together."""
    config = view.settings.refine
    refine = REFINERS.find(config.method).run
    if refine is None:
        return 0.0
    # A part at the size that it is refined at: a whole image made small has other neighbours.
    part = np.ascontiguousarray(shrink(image, config.max_side)[:SIDE, :SIDE])
    height, width = part.shape[:2]
    maps = np.linspace(0, 1, height * width, dtype=np.float32).reshape(1, height, width)
    few = config.model_copy(update={"levels": config.levels[:LEVELS]})
    units = float(height * width / 1e6 * (len(few.levels) + LATTICE))

    def work() -> None:
        with view.device:
            refine(part, maps, few, view.catalog.dataset.classes.background)

    if view.device.type == "cuda":
        return watch(work) / units
    # As in a worker: one thread each.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return watch(work) / units / max(1, view.workers)
    finally:
        torch.set_num_threads(threads)
