"""Pixel counts of everything in a run that can be scored, one image at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.core.arrays import from_uint8, resize_maps
from recamlabel.core.classes import ClassTable
from recamlabel.core.progress import track
from recamlabel.data.catalog import Catalog
from recamlabel.errors import StoreError
from recamlabel.evaluation.confusion import ClassCounts, ConfusionMatrix
from recamlabel.evaluation.id_order import IdOrder
from recamlabel.evaluation.resampling import Resampling
from recamlabel.evaluation.seeds import BestThreshold, SeedSweep
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.masks.render import render_mask
from recamlabel.masks.rescue import KEPT_IDS
from recamlabel.masks.reviewed import MASKS_FILE, ReviewFolder
from recamlabel.storage.hdf5 import class_ids, first_dataset, open_store
from recamlabel.storage.places import MAPS_FILE, SCORES_FILE
from recamlabel.storage.run_folder import RunFolder

What = Literal["cam-seeds", "recam-seeds", "scores", "masks", "complete-masks", "reviewed", "segmenter"]
WHAT: tuple[What, ...] = get_args(What)
STAGE_OF: dict[str, str] = {
    "cam-seeds": "maps",
    "recam-seeds": "maps",
    "scores": "refine",
    "masks": "masks",
    "complete-masks": "masks",
    "reviewed": "masks",
    "segmenter": "segmentation",
}
WITH_TRUTH = "chosen with ground truth"


def made_key(run: RunFolder, what: str) -> str:
    """Key of what is scored; with the digest of the review where that has a part in it. Raises StoreError."""
    key = run.key_of(STAGE_OF.get(what, "maps"), outdated=what == "segmenter")
    return f"{key}+review:{ReviewFolder(run.path).digest()}" if what == "reviewed" else key


def current_key(run: RunFolder, what: str) -> str | None:
    """As :func:`made_key`, or None where the run holds no such thing, or one that is outdated."""
    return None if run.current_key(STAGE_OF.get(what, "maps")) is None else made_key(run, what)


@dataclass(frozen=True)
class Outcome:
    """Pixel counts, the background level they are for, and the counts of images drawn anew (masks alone)."""

    counts: ClassCounts
    threshold: float | None
    origin: str
    curve: tuple[tuple[float, float], ...] = ()
    resampling: Resampling | None = None


@dataclass(frozen=True)
class Pairs:
    """Iterates over image ids with their true masks, shows the progress, and lets ``order`` look at each."""

    truth: TruthFolder
    matched: dict[str, Path]
    shapes: Mapping[str, tuple[int, int]]
    what: str
    order: IdOrder | None = None

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.uint16]]]:
        with track(f"evaluate {self.what}", len(self.matched)) as advance:
            for image_id, path in self.matched.items():
                truth = self.truth.read(path, self.shapes[image_id])
                if self.order is not None:
                    self.order.update(image_id, truth)
                yield image_id, truth
                advance()


def score_masks(run: RunFolder, catalog: Catalog, pairs: Pairs) -> Outcome:
    """The masks as they are."""
    threshold, origin = _mask_threshold(run)
    counts, resampling = _stored_masks([run.path / "masks.h5"], catalog, pairs, "recamlabel masks")
    return Outcome(counts, threshold, origin, resampling=resampling)


def score_reviewed(run: RunFolder, catalog: Catalog, pairs: Pairs) -> Outcome:
    """The masks after review: a reviewer's where there is one, the pseudo mask elsewhere."""
    path = run.path / MASKS_FILE
    if not path.is_file():
        raise StoreError(f"{path}: not there yet; review the masks with `recamlabel review`, or evaluate --what masks")
    counts, resampling = _stored_masks([path, run.path / "masks.h5"], catalog, pairs, "recamlabel review")
    return Outcome(counts, None, "as reviewed", resampling=resampling)


def score_segmenter(run: RunFolder, catalog: Catalog, pairs: Pairs) -> Outcome:
    """The segmenter's own masks, which know nothing of the images' labels."""
    counts, resampling = _stored_masks([run.path / "segmenter.h5"], catalog, pairs, "recamlabel fit")
    return Outcome(counts, None, "no threshold", resampling=resampling)


def score_complete(run: RunFolder, catalog: Catalog, pairs: Pairs) -> Outcome:
    """The masks before any pixel was withheld."""
    table = catalog.dataset.classes
    threshold, origin = _mask_threshold(run)
    confusion = ConfusionMatrix(len(table) + 1, table.ignore_id)
    resampling = Resampling(len(pairs.matched), len(table) + 1)
    with complete_masks(run, table) as complete:
        for image_id, truth in pairs:
            resampling.update(confusion.update(truth, complete(image_id, (truth.shape[0], truth.shape[1]))))
    return Outcome(confusion.counts(), threshold, origin, resampling=resampling)


@contextmanager
def complete_masks(run: RunFolder, table: ClassTable) -> Iterator[Callable[[str, tuple[int, int]], NDArray[Any]]]:
    """Gives the mask ``(H, W)`` of an image id and a shape as it was before any pixel was withheld.

    Raises:
        StoreError: The scores are missing or damaged.
    """
    threshold, _ = _mask_threshold(run)
    with open_store(run.path / SCORES_FILE) as file, open_store(run.path / "masks.h5") as masks:

        def mask(image_id: str, shape: tuple[int, int]) -> NDArray[Any]:
            item, left = stored(file, f"scores/{image_id}"), stored(masks, image_id)
            complete = render_mask(item[()], class_ids(item), shape, threshold, table)
            # What was kept at a level of its own is in the masks alone.
            own = np.isin(left[()], left.attrs.get(KEPT_IDS, ()))
            return np.where(own, left[()], complete) if own.any() else complete

        yield mask


def has_complete_masks(run: RunFolder) -> bool:
    """Whether the scores are there that a run's masks were made from."""
    return run.artifact(SCORES_FILE) is not None and run.artifact("masks.h5") is not None


def score_soft(run: RunFolder, catalog: Catalog, pairs: Pairs) -> Outcome:
    """Maps or refined scores at the best of 101 background levels, which is chosen with the true masks."""
    refined = pairs.what == "scores"
    group = "scores" if refined else pairs.what.removesuffix("-seeds")
    path = run.path / (SCORES_FILE if refined else MAPS_FILE)
    best = best_level(path, group, catalog, pairs)
    return Outcome(best.counts, best.threshold, WITH_TRUTH, best.curve)


def best_level(path: Path, group: str, catalog: Catalog, pairs: Pairs) -> BestThreshold:
    """The background level of maps or scores that the true masks like best.

    Args:
        path: ``maps.h5``, ``scores.h5`` or any other file of maps of a run.
        group: Group of the images' maps in it: float in [0, 1], or uint8 as the refined scores are stored.
        catalog: The run's images.
        pairs: Images with their true masks.
    """
    table = catalog.dataset.classes
    sweep = SeedSweep(len(table) + 1, table.ignore_id)
    with open_store(path) as file:
        for image_id, truth in pairs:
            item = stored(file, f"{group}/{image_id}")
            soft = from_uint8(item[()]) if item.dtype == np.uint8 else item[()]
            sweep.update(truth, resize_maps(soft, *truth.shape), class_ids(item))
    return sweep.best()


SCORERS: dict[str, Callable[[RunFolder, Catalog, Pairs], Outcome]] = {
    "cam-seeds": score_soft,
    "recam-seeds": score_soft,
    "scores": score_soft,
    "masks": score_masks,
    "complete-masks": score_complete,
    "reviewed": score_reviewed,
    "segmenter": score_segmenter,
}


def stored(file: h5py.File, path: str) -> h5py.Dataset:
    """One dataset of a run's file. Raises StoreError where it is missing."""
    item = first_dataset([file], path)
    if item is None:
        raise StoreError(
            f"{file.filename}: nothing stored as {path!r}; run `recamlabel fit` again, it makes what is missing"
        )
    return item


def _stored_masks(paths: Sequence[Path], catalog: Catalog, pairs: Pairs, remedy: str) -> tuple[ClassCounts, Resampling]:
    """Counts of the masks in files, of which the first that holds an image counts."""
    table = catalog.dataset.classes
    confusion = ConfusionMatrix(len(table) + 1, table.ignore_id)
    resampling = Resampling(len(pairs.matched), len(table) + 1)
    with ExitStack() as stack:
        files = [stack.enter_context(open_store(path)) for path in paths]
        for image_id, truth in pairs:
            item = first_dataset(files[:-1], image_id)
            item = stored(files[-1], image_id) if item is None else item
            mask = item[()]
            if mask.shape != truth.shape:
                raise StoreError(
                    f"{item.file.filename}: mask of {image_id!r} has shape {mask.shape}, its image {truth.shape}; "
                    f"run `{remedy}` again"
                )
            resampling.update(confusion.update(truth, mask))
    return confusion.counts(), resampling


def _mask_threshold(run: RunFolder) -> tuple[float, str]:
    facts = run.state.stages["masks"]
    origin = str(facts.get("threshold_origin", "as the masks were made, without ground truth"))
    return float(facts.get("threshold", 0.5)), origin
