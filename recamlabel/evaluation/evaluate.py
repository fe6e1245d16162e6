"""Score the masks or the seeds of a run against true masks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.adapters.base import LabelledImage
from recamlabel.arrays import resize_maps
from recamlabel.classes import ClassTable
from recamlabel.data.catalog import Catalog, load_catalog
from recamlabel.data.id_lists import read_id_list
from recamlabel.errors import ConfigError, StoreError
from recamlabel.evaluation.confusion import ClassCounts, ConfusionMatrix, Scores
from recamlabel.evaluation.seeds import SeedSweep
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.progress import track
from recamlabel.storage.hdf5 import class_ids, open_store
from recamlabel.workspace import RunFolder

What = Literal["cam-seeds", "recam-seeds", "masks"]
WHAT: tuple[What, ...] = get_args(What)
WITH_TRUTH = "chosen with ground truth"
METRICS_SECTION = "evaluation"


@dataclass(frozen=True)
class EvaluationResult:
    """One evaluation: scores, what they are of, and how the threshold came about.

    Args:
        what: ``"cam-seeds"``, ``"recam-seeds"`` or ``"masks"``.
        split: The split that was scored, the name of the list of ids, or None for all images.
        classes: Class names with the background, in id order.
        scores: Fractions 0..1; :meth:`to_json` gives percent.
        counts: The pixel counts behind them.
        threshold: Background threshold of the seeds or masks; None where it is not known.
        threshold_origin: Who chose it.
        curve: ``(threshold, mIoU as a fraction)`` of the seeds; empty for masks.
        images: Images that were scored.
        images_without_truth: Images of the run (of the split) without a true mask.
        stage_key: Key of the stage that made what was scored.
        truth: The folder of the true masks.
        notes: What else a reader of the numbers must know.
        ids: The list of ids that was scored, or None.
    """

    what: What
    split: str | None
    classes: tuple[str, ...]
    scores: Scores
    counts: ClassCounts
    threshold: float | None
    threshold_origin: str
    curve: tuple[tuple[float, float], ...]
    images: int
    images_without_truth: int
    stage_key: str
    truth: Path
    notes: tuple[str, ...] = ()
    ids: Path | None = None

    @property
    def key(self) -> str:
        """Name of this result in ``metrics.json``: ``what`` or ``what/split``."""
        return self.what if self.split is None else f"{self.what}/{self.split}"

    @property
    def miou(self) -> float:
        """Mean IoU in percent."""
        return 100 * self.scores.miou

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values: scores in percent, null where there was nothing to measure."""
        scores = self.scores
        return {
            "what": self.what,
            "split": self.split,
            "ids": None if self.ids is None else str(self.ids),
            "unit": "percent",
            "miou": _percent(scores.miou),
            "pixel_accuracy": _percent(scores.pixel_accuracy),
            "coverage": _percent(scores.coverage),
            "miou_covered": _percent(scores.miou_covered),
            "pixel_accuracy_covered": _percent(scores.pixel_accuracy_covered),
            "threshold": self.threshold,
            "threshold_origin": self.threshold_origin,
            "images": self.images,
            "images_without_truth": self.images_without_truth,
            "pixels": int(self.counts.truth.sum()),
            "per_class": {name: self._class_json(index) for index, name in enumerate(self.classes)},
            "curve": [[threshold, _percent(miou)] for threshold, miou in self.curve],
            "stage_key": self.stage_key,
            "truth": str(self.truth),
            "notes": list(self.notes),
        }

    def _class_json(self, index: int) -> dict[str, float | int | None]:
        scores, counts = self.scores, self.counts
        return {
            "iou": _percent(scores.iou[index]),
            "precision": _percent(scores.precision[index]),
            "recall": _percent(scores.recall[index]),
            "truth_pixels": int(counts.truth[index]),
            "predicted_pixels": int(counts.predicted[index]),
        }


def evaluate_run(
    run: RunFolder,
    truth_dir: Path,
    what: What = "masks",
    split: str | None = None,
    truth_classes: Path | None = None,
    ids: Path | None = None,
) -> EvaluationResult:
    """Score a run against true masks, one image at a time.

    Args:
        run: A run whose maps (for seeds) or masks are finished.
        truth_dir: Folder of true masks; see :class:`~recamlabel.evaluation.truth.TruthFolder`.
        what: ``"masks"`` as they are, or the seeds of the CAM or ReCAM maps at their best threshold.
        split: Score the images of this split alone.
        truth_classes: Names file of masks with ids of their own.
        ids: Score the images that this text file names, one a line; its name stands for a split in the result.

    Raises:
        ConfigError: Unknown ``what`` or ``split``, or both ``split`` and ``ids``.
        StoreError: The stage is not finished, an image is missing in its file, or the true masks do not fit.
        DatasetError: The names file or the list of ids cannot be used.

    Example:
        >>> evaluate_run(RunFolder.open(Path("run")), Path("truth")).miou  # doctest: +SKIP
        64.01
    """
    if what not in WHAT:
        raise ConfigError(f"unknown {what!r}; what can be evaluated: {', '.join(WHAT)}")
    stage_key = run.key_of("masks" if what == "masks" else "maps")
    catalog = load_catalog(run.path / "dataset.json")
    images = images_of_split(catalog, split) if ids is None else _listed(catalog, ids, split)
    truth = TruthFolder(truth_dir, catalog.dataset.classes, truth_classes)
    matched = truth.match(image.id for image in images)
    score = _score_masks if what == "masks" else _score_seeds
    return replace(
        score(run, what, catalog, _Pairs(truth, matched, catalog.shapes, what)),
        split=split if ids is None else ids.name,
        ids=None if ids is None else ids.resolve(),
        images=len(matched),
        images_without_truth=len(images) - len(matched),
        stage_key=stage_key,
        truth=truth_dir.resolve(),
        notes=tuple(truth.notes),
    )


def images_of_split(catalog: Catalog, split: str | None) -> list[LabelledImage]:
    """The images of a split, or all for None. Raises ConfigError for a name that is not a split."""
    dataset = catalog.dataset
    if split is None:
        return list(dataset.images)
    if split not in dataset.splits:
        known = f"the splits are: {', '.join(dataset.splits)}" if dataset.splits else "the data set has no splits"
        raise ConfigError(f"unknown split {split!r}; {known}")
    return [image for image in dataset.images if image.split == split]


def _listed(catalog: Catalog, ids: Path, split: str | None) -> list[LabelledImage]:
    if split is not None:
        raise ConfigError(f"--split {split} and --ids {ids}: give one of the two")
    wanted = set(read_id_list(ids, [image.id for image in catalog.images]))
    return [image for image in catalog.images if image.id in wanted]


def record(run: RunFolder, result: EvaluationResult) -> None:
    """Write a result into ``metrics.json``, beside the results of other evaluations."""
    entries = {**run.metrics().get(METRICS_SECTION, {}), result.key: result.to_json()}
    run.update_metrics(METRICS_SECTION, entries)


@dataclass(frozen=True)
class _Pairs:
    """Iterates over image ids with their true masks, and shows the progress."""

    truth: TruthFolder
    matched: dict[str, Path]
    shapes: Mapping[str, tuple[int, int]]
    what: str

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.uint16]]]:
        with track(f"evaluate {self.what}", len(self.matched)) as advance:
            for image_id, path in self.matched.items():
                yield image_id, self.truth.read(path, self.shapes[image_id])
                advance()


def _score_masks(run: RunFolder, what: What, catalog: Catalog, pairs: _Pairs) -> EvaluationResult:
    table = catalog.dataset.classes
    confusion = ConfusionMatrix(len(table) + 1, table.ignore_id)
    with open_store(run.path / "masks.h5") as file:
        for image_id, truth in pairs:
            mask = stored(file, image_id)[()]
            if mask.shape != truth.shape:
                raise StoreError(
                    f"{file.filename}: mask of {image_id!r} has shape {mask.shape}, its image {truth.shape}; "
                    "run `recamlabel masks` again"
                )
            confusion.update(truth, mask)
    threshold = run.state.stages["masks"].get("threshold")
    origin = str(run.state.stages["masks"].get("threshold_origin", "as the masks were made, without ground truth"))
    return _result(what, table, confusion.counts(), threshold, origin)


def _score_seeds(run: RunFolder, what: What, catalog: Catalog, pairs: _Pairs) -> EvaluationResult:
    table = catalog.dataset.classes
    sweep = SeedSweep(len(table) + 1, table.ignore_id)
    group = what.removesuffix("-seeds")
    with open_store(run.path / "maps.h5") as file:
        for image_id, truth in pairs:
            maps = stored(file, f"{group}/{image_id}")
            height, width = truth.shape
            sweep.update(truth, resize_maps(maps[()], height, width), class_ids(maps))
    best = sweep.best()
    return _result(what, table, best.counts, best.threshold, WITH_TRUTH, best.curve)


def stored(file: h5py.File, path: str) -> h5py.Dataset:
    """One dataset of a run's file. Raises StoreError where it is missing."""
    item = file.get(path)
    if not isinstance(item, h5py.Dataset):
        raise StoreError(
            f"{file.filename}: nothing stored as {path!r}; run `recamlabel fit` again, it makes what is missing"
        )
    return item


def _result(
    what: What,
    table: ClassTable,
    counts: ClassCounts,
    threshold: float | None,
    origin: str,
    curve: tuple[tuple[float, float], ...] = (),
) -> EvaluationResult:
    """A result without the facts about the run, which the caller fills in."""
    names = tuple(table.name_of(index) for index in range(len(table) + 1))
    return EvaluationResult(what, None, names, counts.scores(), counts, threshold, origin, curve, 0, 0, "", Path())


def _percent(fraction: float) -> float | None:
    return None if math.isnan(fraction) else round(100 * float(fraction), 4)
