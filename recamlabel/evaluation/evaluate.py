"""Score the masks or the seeds of a run against true masks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recamlabel.adapters.base import LabelledImage
from recamlabel.core.registry import check_choice
from recamlabel.data.catalog import CATALOG_FILE, Catalog, load_catalog
from recamlabel.data.id_lists import read_id_list
from recamlabel.errors import ConfigError
from recamlabel.evaluation.confusion import ClassCounts, Scores
from recamlabel.evaluation.id_order import IdOrder
from recamlabel.evaluation.resampling import Interval, Resampling, Values
from recamlabel.evaluation.scoring import SCORERS, STAGE_OF, WHAT, Pairs, What, made_key
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.storage.outdated import outdated_note
from recamlabel.storage.run_folder import RunFolder, has_background

METRICS_SECTION = "evaluation"


@dataclass(frozen=True)
class EvaluationResult:
    """One evaluation: scores, what they are of, and how the threshold came about.

    Args:
        what: A name of ``WHAT``.
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
        intervals: 95 % intervals, as fractions, of ``miou``, ``miou_covered`` and ``coverage`` when the images are
            drawn anew; empty for maps, whose level is chosen anew with every drawing, and for a single image.
        warning: Why the true masks' ids seem to stand for other classes; empty where they do not.
        drawn: The mIoU of each drawing of the images, as fractions, the same images for all runs; None for maps.
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
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    warning: str = ""
    drawn: Values | None = None

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
            "intervals": {name: [_percent(end) for end in ends] for name, ends in self.intervals.items()},
            "stage_key": self.stage_key,
            "truth": str(self.truth),
            "notes": list(self.notes),
            "warning": self.warning,
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
        what: ``"masks"`` as they are (withheld pixels count as missed), ``"complete-masks"``: the same
            before any pixel was withheld, ``"reviewed"``: a reviewer's mask where there is one,
            ``"segmenter"``: the segmenter's own, or the seeds of the CAM or ReCAM maps or the refined
            scores at their best threshold.
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
    check_choice("--what", what, WHAT)
    stage_key = made_key(run, what)
    catalog = load_catalog(run.path / CATALOG_FILE, has_background(run))
    images = images_of_split(catalog, split) if ids is None else _listed(catalog, ids, split)
    truth = TruthFolder(truth_dir, catalog.dataset.classes, truth_classes)
    matched = truth.match(image.id for image in images)
    order = IdOrder(catalog)
    outcome = SCORERS[what](run, catalog, Pairs(truth, matched, catalog.shapes, what, order))
    table = catalog.dataset.classes
    return EvaluationResult(
        what,
        scores=outcome.counts.scores(),
        classes=tuple(table.name_of(index) for index in range(len(table) + 1)),
        counts=outcome.counts,
        threshold=outcome.threshold,
        threshold_origin=outcome.origin,
        curve=outcome.curve,
        split=split if ids is None else ids.name,
        ids=None if ids is None else ids.resolve(),
        images=len(matched),
        images_without_truth=len(images) - len(matched),
        stage_key=stage_key,
        truth=truth_dir.resolve(),
        notes=(*truth.notes, *filter(None, [outdated_note(run, STAGE_OF[what])])),
        intervals=_intervals(outcome.resampling),
        warning=order.warning(truth),
        drawn=outcome.resampling.of(0).miou if outcome.resampling else None,
    )


def _intervals(resampling: Resampling | None) -> dict[str, Interval]:
    if resampling is None:
        return {}
    drawn = resampling.of(0)
    intervals = {name: resampling.interval(getattr(drawn, name)) for name in ("miou", "miou_covered", "coverage")}
    return {name: interval for name, interval in intervals.items() if interval is not None}


def images_of_split(catalog: Catalog, split: str | None) -> list[LabelledImage]:
    """The images of a split, or all for None. Raises ConfigError for a name that is not a split."""
    dataset = catalog.dataset
    if split is None:
        return list(dataset.images)
    if not dataset.splits:
        raise ConfigError(f"--split {split}: the data set has no splits")
    check_choice("--split", split, dataset.splits, "split")
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


def _percent(fraction: float) -> float | None:
    return None if math.isnan(fraction) else round(100 * float(fraction), 4)
