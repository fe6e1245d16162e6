"""Stages ``cams`` (variants other than plain CAM only) and ``maps``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from recamlabel.core.devices import to_device
from recamlabel.core.progress import track
from recamlabel.maps import get_variant
from recamlabel.maps.base import MapRequest, MapSource, Sample
from recamlabel.maps.build import build_maps
from recamlabel.maps.precomputed import PrecomputedMaps
from recamlabel.models.backbones import Backbone
from recamlabel.models.inputs import working_size
from recamlabel.stages.base import StageContext, load_classifier, load_recam
from recamlabel.storage.decode import read_image
from recamlabel.storage.hdf5 import ShardedWriter

SAMPLES_PER_CLASS = 30


def run_cams(context: StageContext) -> Mapping[str, Any]:
    """Maps of the classifier by another variant than CAM, which the re-activation then trains with."""
    return write_maps(context, "cams.h5", [_source(context, *classifier_head(context))], ("classifier",))


def run_maps(context: StageContext) -> Mapping[str, Any]:
    """Maps of the classifier (``cam``) and of the re-activated network (``recam``)."""
    config = context.config
    learnt, second = recam_head(context)
    sources: list[MapSource]
    if config.maps.variant != "cam":
        stored = PrecomputedMaps(context.run.path / "cams.h5", context.catalog.dataset.classes, config.maps)
        # A file has no weight to re-activate: the re-activated maps are plain CAM with the new weight.
        sources = [stored, _source(context, learnt, second, fallback="cam")]
    else:
        backbone, first = classifier_head(context)
        # One pass makes both where the re-activation left the backbone as it was.
        shared = config.recam.backbone_lr_factor == 0
        sources = (
            [_source(context, backbone, first | second)]
            if shared
            else [_source(context, backbone, first), _source(context, learnt, second)]
        )
    return write_maps(context, "maps.h5", sources, ("classifier", "recam"))


def classifier_head(context: StageContext) -> tuple[Backbone, dict[str, Tensor]]:
    """The classifier's backbone in eval mode, and the weight of its maps by their name."""
    classifier = load_classifier(context)
    to_device(classifier, context.device).eval()
    return classifier.backbone, {"cam": classifier.head.weight.detach()}


def recam_head(context: StageContext) -> tuple[Backbone, dict[str, Tensor]]:
    """The re-activated network's backbone in eval mode, and the weight of its maps by their name."""
    recam = load_recam(context)
    to_device(recam, context.device).eval()
    return recam.classifier.backbone, {"recam": recam.map_weight().detach()}


def _source(
    context: StageContext, backbone: Backbone, heads: Mapping[str, Tensor], fallback: str | None = None
) -> MapSource:
    config = context.config
    name = config.maps.variant
    if fallback and name == "precomputed":
        name = fallback
    table, amp = context.catalog.dataset.classes, config.runtime.amp
    request = MapRequest(backbone, heads, config.maps, table, lambda: _samples(context), amp)
    return get_variant(name)(request)


def _samples(context: StageContext) -> Iterator[Sample]:
    """Up to ``SAMPLES_PER_CLASS`` training images a class, in the data set's order."""
    table = context.catalog.dataset.classes
    count = dict.fromkeys(range(len(table)), 0)
    for image in context.catalog.training_images(context.config.data.train_splits):
        own = [number - 1 for number in table.ids_of(image.present)]
        if any(count[number] < SAMPLES_PER_CLASS for number in own):
            count |= {number: count[number] + 1 for number in own}
            yield read_image(image.path), own


def write_maps(
    context: StageContext,
    file: str,
    sources: Sequence[MapSource],
    models: tuple[str, ...],
    scales: Callable[[tuple[int, int]], Sequence[float]] | None = None,
) -> dict[str, Any]:
    """Store every image's maps from these sources.

    Args:
        context: Of the run.
        file: Name of the HDF5 file.
        sources: What makes the maps.
        models: The stages whose networks make them.
        scales: By height and width, the input scales; None: ``maps.scales``.
    """
    config = context.config.maps

    def enlarged(shape: tuple[int, int]) -> float:
        height, width = working_size(*shape, config.max_side)
        largest = max(config.scales if scales is None else scales(shape))
        return largest**2 * height * width / (shape[0] * shape[1])

    keys = {name: context.run.key_of(name) for name in models}
    attributes = {**context.provenance(), "variant": context.config.maps.variant, "model_keys": keys}
    total = len(context.catalog.images)
    with ShardedWriter(context.run.path / file, context.key, attributes) as writer:
        with track(Path(file).stem, total, start=len(writer.done)) as advance:
            build_maps(context.catalog, sources, writer, advance, max_pixels=context.batch_pixels, enlarged=enlarged)
        writer.finish()
    return {}
