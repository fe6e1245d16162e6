"""How much work a stage is, in units whose speed can be measured on the machine, and how long it takes at a speed.

Each stage says it itself (``Stage.cost``), from the settings and the images' sizes; nobody else knows what a stage
does. One that says nothing counts as one pass of all images through the backbone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from recamlabel.models.inputs import working_size

if TYPE_CHECKING:
    from recamlabel.core.section import ScheduleConfig
    from recamlabel.stages.graph import Scope

Shape = tuple[int, int]
# What the dense CRF costs before the first label, in labels: the lattice of the pixels is made once.
LATTICE = 2.0
# A handful of passes over the pixels with NumPy, in decodings of the same image.
PIXEL_WORK = 15.0


@dataclass(frozen=True)
class Cost:
    """Work, or (as a speed) the seconds that one of each unit takes.

    Attributes:
        forward: Megapixels through the backbone without a gradient.
        training: Megapixels through the backbone, forward and backward.
        refine: Megapixels of the refiner, once for each label and background level.
        read: Megapixels of image files decoded; also other work on each pixel, in such units.
        fixed: Seconds of what does not depend on any of these.

    Example:
        >>> (Cost(forward=2.0) + Cost(fixed=1.0)).seconds(Cost(forward=0.5, fixed=1.0))
        2.0
    """

    forward: float = 0.0
    training: float = 0.0
    refine: float = 0.0
    read: float = 0.0
    fixed: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(one + two for one, two in zip(self.values(), other.values(), strict=True)))

    def times(self, factor: float) -> Cost:
        """That much more work."""
        return Cost(*(value * factor for value in self.values()))

    def parts(self, speed: Cost) -> Cost:
        """Seconds of each unit."""
        return Cost(*(amount * each for amount, each in zip(self.values(), speed.values(), strict=True)))

    def seconds(self, speed: Cost) -> float:
        """How long it takes where one of each unit takes the seconds of ``speed``."""
        return sum(self.parts(speed).values())

    def values(self) -> tuple[float, ...]:
        """By unit, in the order of :data:`UNITS`."""
        return tuple(asdict(self).values())


UNITS = tuple(field.name for field in fields(Cost))
CostOf = Callable[["Scope"], Cost]


def megapixels(
    scope: Scope,
    max_side: int | None = None,
    enlarged: Callable[[Shape], float] = lambda shape: 1.0,
) -> float:
    """Megapixels of all images.

    Args:
        scope: The images.
        max_side: Longer images are scaled down to it; None: as they are.
        enlarged: By height and width (of the image as it is), what their pixels are multiplied by.
    """
    total = 0.0
    for shape, count in scope.sizes.items():
        height, width = shape if max_side is None else working_size(*shape, max_side)
        total += count * height * width * enlarged(shape)
    return total / 1e6


def one_pass(scope: Scope) -> Cost:
    """Every image decoded, and once through the backbone at the maps' size: what a stage costs that says nothing."""
    return Cost(forward=megapixels(scope, scope.config.maps.max_side), read=megapixels(scope))


def over_scales(scales: Sequence[float], flip: bool) -> float:
    """Pixels that go through a network for each pixel of an image.

    Example:
        >>> over_scales([1.0, 0.5], flip=True)
        2.5
    """
    return sum(scale**2 for scale in scales) * (2 if flip else 1)


def crop_pixels(scope: Scope, schedule: ScheduleConfig) -> float:
    """Megapixels of all training crops of a schedule."""
    return steps_of(scope, schedule) * schedule.batch_size * scope.config.augment.crop_size**2 / 1e6


def steps_of(scope: Scope, schedule: ScheduleConfig) -> int:
    """Steps of a schedule."""
    return schedule.steps(len(scope.catalog.training_images(scope.config.data.train_splits)))


def crops_read(scope: Scope, schedule: ScheduleConfig) -> float:
    """Megapixels decoded for the crops of a schedule: of large images, which are read reduced, once each."""
    images = max(1, len(scope.catalog.training_images(scope.config.data.train_splits)))
    drawn = schedule.steps(images) * schedule.batch_size / images
    return megapixels(scope, 2 * scope.config.augment.resize_max) * drawn
