"""Maps of all images into a file and out of it: what the stages that make or change maps share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recamlabel.adapters.base import LabelledImage
from recamlabel.config import Config
from recamlabel.data.passes import Made, store_pass
from recamlabel.gate.crossval import canonical_order
from recamlabel.maps import get_variant
from recamlabel.maps.base import MapRequest, MapSource, Sample
from recamlabel.maps.build import made_maps
from recamlabel.maps.config import MapsConfig
from recamlabel.models.backbones import Backbone
from recamlabel.models.inputs import working_size
from recamlabel.stages.cost import Cost, megapixels, over_scales
from recamlabel.stages.graph import Scope
from recamlabel.stages.view import View
from recamlabel.storage.decode import read_image
from recamlabel.storage.hdf5 import ShardedWriter, class_ids

SAMPLES_PER_CLASS = 30
# What one variant reads beside what all read.
OF_VARIANT = {
    "advcam": ("maps.advcam_steps",),
    "patchmemory": ("maps.memory_patches", "maps.memory_scale"),
    "precomputed": ("maps.file",),
}
# So many normal images show what background is; more only cost time.
NORMAL_IMAGES = 1000
# What the search for the nearest of 2000 patches costs, in passes of the same pixels through the backbone of `quick`.
SEARCH = 0.5


def map_settings(config: Config) -> tuple[str, ...]:
    """The settings that maps of this variant are made with.

    Example:
        >>> from recamlabel.config import Config
        >>> map_settings(Config())
        ('maps.variant', 'maps.scales', 'maps.flip', 'maps.max_side', 'maps.stored_stride')
    """
    names = tuple(f"maps.{name}" for name in ("variant", "scales", "flip", "max_side", "stored_stride"))
    if config.maps.variant == "cam":
        return names
    # Other variants may look at samples of the training images, drawn by the seed.
    return (*names, *OF_VARIANT.get(config.maps.variant, ()), "data.train_splits", "seed")


def map_source(view: View, backbone: Backbone, heads: Mapping[str, Tensor], fallback: str | None = None) -> MapSource:
    """What makes the maps of ``maps.variant``; where that reads a file, those of ``fallback``."""
    config = view.config
    name = config.maps.variant
    if fallback and name == "precomputed":
        name = fallback
    table, amp = view.catalog.dataset.classes, config.runtime.amp
    seed = 0 if config.maps.variant == "cam" else config.seed
    samples, normal = partial(training_samples, view), partial(normal_samples, view)
    request = MapRequest(backbone, heads, config.maps, table, samples, amp, seed, normal)
    return get_variant(name)(request)


def training_samples(view: View) -> Iterator[Sample]:
    """Up to ``SAMPLES_PER_CLASS`` training images a class, in the data set's order."""
    table = view.catalog.dataset.classes
    for image in some_of_each(view.taught.training_images(view.config.data.train_splits), SAMPLES_PER_CLASS):
        yield read_image(image.path), [class_id - 1 for class_id in table.ids_of(image.present)]


def some_of_each(images: Sequence[LabelledImage], count: int) -> list[LabelledImage]:
    """The first images, without those of whose classes each already has ``count``.

    Example:
        >>> names = ["cat", "cat", "dog", "cat"]
        >>> images = [LabelledImage(str(i), Path(str(i)), frozenset({n}), frozenset()) for i, n in enumerate(names)]
        >>> [image.id for image in some_of_each(images, 1)]
        ['0', '2']
    """
    met: Counter[str] = Counter()
    chosen = []
    for image in images:
        if any(met[name] < count for name in image.present):
            met.update(image.present)
            chosen.append(image)
    return chosen


def normal_samples(view: View) -> Iterator[np.ndarray]:
    """Up to ``NORMAL_IMAGES`` training images that are known to hold nothing, in an order that looks random."""
    images = [*filter(view.taught.dataset.is_normal, view.taught.training_images(view.config.data.train_splits))]
    for position in canonical_order([image.id for image in images])[:NORMAL_IMAGES]:
        yield read_image(images[position].path)


def write_maps(
    view: View,
    file: str,
    sources: Sequence[MapSource],
    models: tuple[str, ...],
    scales: Callable[[tuple[int, int]], Sequence[float]] | None = None,
) -> dict[str, Any]:
    """Store every image's maps from these sources.

    Args:
        view: Of the run.
        file: Name of the HDF5 file.
        sources: What makes the maps.
        models: The stages whose networks make them.
        scales: By height and width, the input scales; None: ``maps.scales``.
    """
    config = view.config.maps

    def enlarged(shape: tuple[int, int]) -> float:
        height, width = working_size(*shape, config.max_side)
        largest = max(input_scales(config) if scales is None else scales(shape))
        return largest**2 * height * width / (shape[0] * shape[1])

    keys = {name: view.learnt.key_of(name) for name in models}
    attributes = {**view.provenance(), "variant": view.config.maps.variant, "model_keys": keys}
    make = partial(made_maps, view.catalog.dataset.classes, sources)
    with ShardedWriter(view.run.path / file, view.key, attributes) as writer:
        store_pass(
            view.catalog,
            writer,
            Path(file).stem,
            view.batch_pixels,
            make,
            enlarged=enlarged,
            alike=view.alike(config.max_side),
        )
    return {}


def stored_maps(maps: h5py.File, source: str, image_id: str) -> tuple[dict[str, NDArray[Any]], list[int]]:
    """All of a file's maps of an image by their group, and the class ids of those of ``source``."""
    stored = {name: group[image_id] for name, group in maps.items() if image_id in group}
    return {name: item[()] for name, item in stored.items()}, class_ids(stored[source])


def to_store(arrays: Mapping[str, NDArray[Any]], image_id: str, ids: Sequence[int]) -> Made:
    """Maps of an image by their group, as a :class:`recamlabel.storage.hdf5.ShardedWriter` takes them."""
    attrs = {"class_ids": np.array(ids, dtype=np.int32)}
    return {f"{name}/{image_id}": (array, attrs) for name, array in arrays.items()}


def input_scales(config: MapsConfig) -> list[float]:
    """The scales at which an image is looked at."""
    return [*config.scales, config.memory_scale] if config.variant == "patchmemory" else list(config.scales)


def map_cost(scope: Scope) -> Cost:
    """What the maps of one network cost, over all scales."""
    config, pixels = scope.config.maps, megapixels(scope, scope.config.maps.max_side)
    scaled = pixels * over_scales(config.scales, config.flip)
    if config.variant == "patchmemory":
        # Plain CAM only where several classes share the anomaly.
        images = scope.catalog.images
        several = sum(len(image.present) > 1 for image in images) / max(1, len(images))
        search = SEARCH * config.memory_patches / 2000
        scaled = several * scaled + pixels * (1 + search) * config.memory_scale**2
    return Cost(forward=scaled, read=megapixels(scope))
