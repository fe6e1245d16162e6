"""Stage ``probe``: the class maps fused with what the other images say about each pixel."""

from __future__ import annotations

import shutil
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recamlabel.adapters.base import LabelledImage
from recamlabel.config import Config
from recamlabel.core import ranks
from recamlabel.core.arrays import from_uint8, fuse, resize_maps
from recamlabel.core.devices import Halving, to_device
from recamlabel.core.pool import map_in_order
from recamlabel.core.progress import say, track
from recamlabel.data.batches import Normalisation
from recamlabel.data.passes import batches_by_shape, read_ahead
from recamlabel.gate.crossval import canonical_order
from recamlabel.maps.config import ProbeConfig
from recamlabel.maps.probe import PROBE_GROUP, CrossFittedProbe, PixelSample, fit_probe, pixel_features
from recamlabel.models.backbones import Backbone
from recamlabel.models.inputs import input_size, run_network
from recamlabel.refine.build import RefineTask, refine_image
from recamlabel.stages.cost import LATTICE, Cost, megapixels
from recamlabel.stages.graph import Scope, Stage, but
from recamlabel.stages.learnt import PROBE_WEIGHTS, fold_of, load_probe, save_probe
from recamlabel.stages.map_files import to_store
from recamlabel.stages.networks import BACKBONE, load_classifier
from recamlabel.stages.view import View
from recamlabel.storage.hdf5 import ShardedWriter, class_ids, leaf_paths, open_store
from recamlabel.storage.places import FINE_FILE, FUSED_FILE, JOINED_FILE, MAPS_FILE

# Numbers in the sample's features: half a gigabyte in half precision.
SAMPLE_VALUES = 1 << 28
# Features of all images on disk while the stage lasts: some 2 MB a photograph of 320 x 213, looked at three times.
FEATURES_FOLDER, FEATURE_BYTES = "probe-features", 4 << 30
# Between two fits one background level is enough, on images of half their size: the features' grid is coarser.
ALTERNATION_LEVEL, ALTERNATION_STRIDE = 0.4, 2
# Of one fit, which has always as many steps.
FIT_SECONDS = 1.0


@dataclass(frozen=True)
class Drawn:
    """Positions drawn from one image's ``(h, w)`` grid.

    Attributes:
        shape: Of the grid.
        positions: ``(P,)`` into the flattened grid.
        slots: Columns of the sample, the most classes that an image has.
    """

    shape: tuple[int, int]
    positions: NDArray[np.int64]
    slots: int

    def values(self, maps: NDArray[np.floating[Any]]) -> Tensor:
        """The maps' values at the positions, ``(P, slots)``."""
        values = torch.zeros(len(self.positions), self.slots)
        at = resize_maps(maps, *self.shape).reshape(len(maps), -1)[:, self.positions].T  # (P, C)
        values[:, : len(maps)] = torch.from_numpy(at)
        return values


def alternates_with_crf(config: Config) -> bool:
    """Whether the probe is fitted again to maps that the dense CRF has refined.

    Another method of refinement leaves the probe as it is.
    """
    return config.probe.alternations > 0


def run_probe(view: View) -> Mapping[str, Any]:
    """Fit the probe, then write ``fused.h5``: as ``maps.h5``, with the refined source's maps fused with the probe."""
    catalog, config = view.catalog, view.config
    backbone = load_classifier(view).backbone
    to_device(backbone, view.device).eval()
    source = config.refine.source
    attributes = {**view.provenance(), "weight": config.probe.weight}
    with (
        open_store(view.run.path / MAPS_FILE) as maps,
        open_store(view.run.path / own_maps_file(view)) as own_maps,
        ShardedWriter(view.run.path / FUSED_FILE, view.key, attributes) as writer,
        PixelFeatures(view, backbone) as features_of,
    ):
        probe, folds = _probe(view, features_of, own_maps[source])
        files = {"cam": maps, "recam": maps, source: own_maps}
        # Shared before what is done is left out: this process has the features of just these images.
        todo = [image for image in ranks.share(catalog.images) if image.id not in writer.done]
        with track("probe", len(writer.done) + len(todo), start=len(writer.done)) as advance:
            for image, features in features_of.of(todo):
                arrays = {name: file[f"{name}/{image.id}"][()] for name, file in files.items()}
                ids = class_ids(own_maps[f"{source}/{image.id}"])
                probabilities = (
                    probe.probabilities(features, ids, fold_of(view, folds, image)) if probe and ids else None
                )
                if probabilities is not None:
                    arrays[source] = fuse(arrays[source], probabilities, config.probe.weight)
                    arrays[PROBE_GROUP] = resize_maps(probabilities, *arrays[source].shape[1:]).astype(np.float16)
                writer.add(image.id, to_store(arrays, image.id, ids))
                advance()
        writer.finish()
    # Counted in the file: what an interrupted pass has done is among it, without those that have nothing to fuse.
    with open_store(view.run.path / FUSED_FILE) as file:
        fused = len(list(leaf_paths(file[PROBE_GROUP]))) if PROBE_GROUP in file else 0
    return {"fitted_to": len(folds), "joined": fused}


def _probe(view: View, features_of: PixelFeatures, maps: h5py.Group) -> tuple[CrossFittedProbe | None, dict[str, int]]:
    """The probe, fitted and kept, and the folds of the images that it is fitted to; of another data set's the run's."""
    if view.origin:
        return view.once("probe", partial(load_probe, view))
    folds = deal(choose(view), view.config.probe.folds)
    probe = _fit(view, features_of, maps, folds) if len(set(folds.values())) > 1 else None
    if probe is None:
        say("probe: fewer than two images to learn from, the class maps stay as they are")
    if ranks.is_first():
        save_probe(view, probe, folds)
    return probe, folds


def own_maps_file(view: View) -> str:
    """The file with the maps that the probe starts from."""
    files = {"joined": JOINED_FILE, "fine": FINE_FILE, "maps": MAPS_FILE}
    return next(file for stage, file in files.items() if stage in view.planned)


def choose(view: View) -> list[LabelledImage]:
    """The images that the probe is fitted to, at most ``probe.images``, rare classes first.

    Training images whose labels are all known; those without any label show background alone.
    """
    catalog, config = view.catalog, view.config.data
    images = [
        image
        for image in catalog.training_images(config.train_splits)
        if image.present or (config.background and catalog.dataset.is_normal(image))
    ]
    images = [images[position] for position in canonical_order([image.id for image in images])]
    met: dict[str, int] = {}
    ranks = []
    for image in images:
        names = image.present or {""}
        ranks.append(min(met.get(name, 0) for name in names))
        met.update({name: met.get(name, 0) + 1 for name in names})
    order = sorted(range(len(images)), key=ranks.__getitem__)
    return [images[position] for position in order[: view.config.probe.images]]


def deal(images: Sequence[LabelledImage], folds: int) -> dict[str, int]:
    """A fold number for every image, so that each class is spread over as many folds as it can be.

    Example:
        >>> from pathlib import Path
        >>> rows = [("a", "cat"), ("b", "dog"), ("c", "cat"), ("d", "dog")]
        >>> images = [LabelledImage(i, Path(i), frozenset({name}), frozenset()) for i, name in rows]
        >>> deal(images, 2)
        {'a': 0, 'c': 1, 'b': 0, 'd': 1}
    """
    count: dict[str, int] = {}
    for image in images:
        for name in image.present:
            count[name] = count.get(name, 0) + 1
    rarest = [min(((count[name], name) for name in image.present), default=(0, "")) for image in images]
    order = sorted(range(len(images)), key=rarest.__getitem__)
    return {images[position_in_order].id: position % folds for position, position_in_order in enumerate(order)}


def _fit(view: View, features_of: PixelFeatures, maps: h5py.Group, folds: Mapping[str, int]) -> CrossFittedProbe:
    """Draw positions from the images, then fit, in turn with the dense CRF where one is used.

    Of several processes each looks at its share of the images, and the first fits.
    """
    config, catalog = view.config.probe, view.catalog
    images = [image for image in catalog.images if image.id in folds]
    drawn, sample = _sample(view, features_of, images, maps, folds)
    probe = _fitted(view, sample, config.iterations)
    labelled = [image for image in images if image.present and image.id in drawn]
    for _ in range(config.alternations if alternates_with_crf(view.settings) else 0):
        values = {name: torch.zeros(len(one.positions), one.slots) for name, one in drawn.items()}
        tasks = _tasks(view, features_of, labelled, maps, folds, probe)
        with track("probe: refine", len(labelled), more=True) as advance:
            for task, scores in map_in_order(refine_image, tasks, view.workers, "probe", view.device):
                values[task.image_id] = drawn[task.image_id].values(from_uint8(scores))
                advance()
        if (everyones := ranks.gathered(values)) and sample is not None:
            found = dict(ChainMap(*everyones))
            sample = replace(sample, maps=torch.cat([found[image.id] for image in images]).to(view.device))
        probe = _fitted(view, sample, 1)
    return probe


def _fitted(view: View, sample: PixelSample | None, iterations: int) -> CrossFittedProbe:
    config = view.config.probe.model_copy(update={"iterations": iterations})

    def fit() -> CrossFittedProbe:
        assert sample is not None
        with track("probe: fit", iterations * (int(sample.folds.max()) + 1), unit="fits", more=True) as advance:
            classes, background = len(view.catalog.dataset.classes), view.config.data.background
            probe = fit_probe(sample, classes, config, background, view.config.seed, advance)
        return probe.to(torch.device("cpu"))

    return ranks.of_first(fit).to(view.device)


def _sample(
    view: View,
    features_of: PixelFeatures,
    images: Sequence[LabelledImage],
    maps: h5py.Group,
    folds: Mapping[str, int],
) -> tuple[dict[str, Drawn], PixelSample | None]:
    """Positions of every image that is this process's, and what is known at those of all images, image after image.

    The sample is the first process's, which fits to it; None on the others.
    """
    slots = max(1, *(len(image.present) for image in images))
    pixels, drawn, parts = view.config.probe.pixels, {}, {}
    own = [image for image in ranks.share(view.catalog.images) if image.id in folds]
    with track("probe: sample", len(own), more=True) as advance:
        for image, features in features_of.of(own):
            pixels = min(pixels, max(1, SAMPLE_VALUES // (len(images) * len(features))))
            stored = maps[image.id]
            ids, fold = class_ids(stored), folds[image.id]
            rng = _stream(image.id, view.config.seed)
            drawn[image.id], parts[image.id] = _draw(features, stored[()], ids, fold, pixels, slots, rng)
            advance()
    if not (everyones := ranks.gathered(parts)):
        return drawn, None
    parts = dict(ChainMap(*everyones))
    ordered = [parts.pop(image.id) for image in images]
    values = {
        name: torch.cat([getattr(part, name) for part in ordered]).to(view.device)
        for name in ("features", "ids", "maps", "folds")
    }
    return drawn, PixelSample(**values)


def _tasks(
    view: View,
    features_of: PixelFeatures,
    images: Sequence[LabelledImage],
    maps: h5py.Group,
    folds: Mapping[str, int],
    probe: CrossFittedProbe,
) -> Iterator[RefineTask]:
    """Each image's fused maps for the dense CRF."""
    refine = view.config.refine
    crf = refine.crf.model_copy(
        update={name: getattr(refine.crf, name) / ALTERNATION_STRIDE for name in ("gaussian_sxy", "bilateral_sxy")}
    )
    for image, features in features_of.of(images):
        stored = maps[image.id]
        ids, fused = class_ids(stored), stored[()]
        probabilities = probe.probabilities(features, ids, folds[image.id])
        if probabilities is not None:
            fused = fuse(fused, probabilities, view.config.probe.weight)
        side = max(1, min(refine.max_side, max(view.catalog.shapes[image.id])) // ALTERNATION_STRIDE)
        config = refine.model_copy(update={"levels": [ALTERNATION_LEVEL], "max_side": side, "crf": crf})
        background = view.config.data.background
        yield RefineTask(image.id, image.path, fused, tuple(ids), "crf", config, background, whole=True)


def _stream(image_id: str, seed: int) -> np.random.Generator:
    """Chance of one image's own, so that its positions are the same ones whatever the other images are.

    Seed 0 adds nothing to the id: those are the positions of runs before seeds had a part in it.
    """
    # The id's own bytes: Python's hash of a string differs from process to process.
    return np.random.default_rng([*image_id.encode(), *([seed] if seed else [])])


def _draw(
    features: Tensor,
    maps: np.ndarray,
    ids: Sequence[int],
    fold: int,
    pixels: int,
    slots: int,
    rng: np.random.Generator,
) -> tuple[Drawn, PixelSample]:
    """Some positions of one image."""
    height, width = features.shape[1:]
    positions = np.sort(rng.permutation(height * width)[:pixels])
    ids_at = np.zeros((len(positions), slots), dtype=np.int64)
    ids_at[:, : len(ids)] = ids
    drawn = Drawn((height, width), positions, slots)
    sample = PixelSample(
        features.flatten(1)[:, torch.from_numpy(positions)].T.half().cpu(),
        torch.from_numpy(ids_at),
        drawn.values(maps) if ids else torch.zeros(len(positions), slots),
        torch.full((len(positions),), fold),
    )
    return drawn, sample


class PixelFeatures:
    """Each image's ``(D, h, w)`` features, computed once and kept in a folder of the run while the stage lasts.

    They are rounded to float16 whether kept or not, so that what is made of them does not depend on it.

    Args:
        view: Of the run.
        backbone: In eval mode.

    Attributes:
        room: Bytes that may still be kept; images that do not fit in are computed anew each time.
    """

    def __init__(self, view: View, backbone: Backbone) -> None:
        self.view, self.backbone, self.room = view, backbone, FEATURE_BYTES // ranks.world()
        self.folder = view.run.path / FEATURES_FOLDER / str(ranks.rank())
        self.kept: dict[str, Path] = {}

    def __enter__(self) -> PixelFeatures:
        # Of killed processes.
        ranks.of_first(lambda: shutil.rmtree(self.folder.parent, ignore_errors=True))
        self.folder.mkdir(parents=True)
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()  # that of the last process is empty

    def of(self, images: Sequence[LabelledImage]) -> Iterator[tuple[LabelledImage, Tensor]]:
        """Images with their features ``(D, h, w) float32`` on the device, not in the order of ``images``."""
        for image in images:
            if image.id in self.kept:
                yield image, torch.from_numpy(np.load(self.kept[image.id])).to(self.view.device).float()
        for image, features in _computed(self.view, self.backbone, [one for one in images if one.id not in self.kept]):
            half = features.half()
            self._keep(image.id, half)
            yield image, half.float()

    def _keep(self, image_id: str, features: Tensor) -> None:
        size = features.numel() * features.element_size()
        if size > self.room:
            return
        path = self.folder / f"{len(self.kept)}.npy"
        np.save(path, features.cpu().numpy())
        self.kept[image_id], self.room = path, self.room - size


def _computed(
    view: View, backbone: Backbone, images: Sequence[LabelledImage]
) -> Iterator[tuple[LabelledImage, Tensor]]:
    """Each image with its ``(D, h, w)`` features, images of one size together."""
    scale, side = view.config.probe.scale, view.config.maps.max_side
    normalisation = Normalisation(backbone.mean, backbone.std)
    bound = max(1, int(view.batch_pixels / scale**2))
    halving = Halving("probe")
    for group, pixels in read_ahead(batches_by_shape(view.catalog, images, bound, alike=view.alike(side))):
        size = [max(1, round(length * scale)) for length in input_size(pixels[0].shape, side, view.device)]
        ask = partial(
            run_network,
            partial(pixel_features, backbone),
            size=(size[0], size[1]),
            normalisation=normalisation,
            device=view.device,
            amp=view.config.runtime.amp,
        )
        yield from zip(group, chain.from_iterable(halving(ask, pixels)), strict=True)


def _reads(scope: Scope) -> tuple[str, ...]:
    crf = ("refine.max_side", "refine.smooth", "refine.crf") if alternates_with_crf(scope.config) else ()
    settings = but(ProbeConfig, "probe", "fine_sides", "enabled")
    rest = ("refine.source", "data.background", "data.train_splits", "maps.max_side", "seed")
    return (*BACKBONE, *settings, *rest, *crf)


def _cost(scope: Scope) -> Cost:
    config, probe = scope.config, scope.config.probe
    alternations = probe.alternations if alternates_with_crf(config) else 0
    half = megapixels(scope, max(1, config.refine.max_side // ALTERNATION_STRIDE)) / ALTERNATION_STRIDE
    return Cost(
        forward=megapixels(scope, config.maps.max_side) * probe.scale**2,
        refine=alternations * half * (scope.labels + LATTICE),
        read=megapixels(scope),
        fixed=FIT_SECONDS * probe.folds * (probe.iterations + alternations),
    )


STAGE = Stage(
    "probe",
    4,
    run_probe,
    "maps fused with what other images say",
    needs=("classifier", "maps", "fine", "joined"),
    reads=_reads,
    makes=(FUSED_FILE, PROBE_WEIGHTS),
    wanted=lambda scope: scope.config.probe.enabled,
    facts=lambda scope: {"training": scope.training},
    shared=True,
    per_image=True,
    cost=_cost,
)
