"""The verbs that are given true masks."""

from __future__ import annotations

from pathlib import Path

from recamlabel.api.runs import Run
from recamlabel.api.verbs import PathLike, maybe, path_of
from recamlabel.evaluation.calibration import KnownLevel, calibrate_with_truth
from recamlabel.evaluation.evaluate import EvaluationResult, evaluate_run, record
from recamlabel.evaluation.scoring import What
from recamlabel.storage.run_folder import RunFolder


def evaluate(
    run: PathLike | Run,
    truth: PathLike,
    what: What = "masks",
    *,
    split: str | None = None,
    ids: PathLike | None = None,
    truth_classes: PathLike | None = None,
) -> EvaluationResult:
    """Score a run against true masks and keep the result in ``metrics.json``; the same as ``recamlabel evaluate``.

    Args:
        run: A run whose maps (for seeds) or masks are finished.
        truth: Folder of true index masks (PNG), named as the images are.
        what: ``"masks"``, ``"complete-masks"``, ``"reviewed"``, ``"segmenter"``, ``"cam-seeds"``, ``"recam-seeds"`` …
        split: Score the images of this split alone.
        ids: Score the images that this text file names, one a line.
        truth_classes: Names file of masks with ids of their own.

    Returns:
        ``result.miou`` in percent, ``result.scores`` class by class, ``result.intervals``, ``result.to_json()``.

    Raises:
        RecamlabelError: Unknown ``what`` or ``split``, masks that do not fit, a stage that is not finished.
    """
    folder = RunFolder.open(path_of(run))
    with folder.lock():
        result = evaluate_run(folder, Path(truth), what, split, maybe(truth_classes), maybe(ids))
        record(folder, result)
    return result


def calibrate(
    run: PathLike | Run,
    truth: PathLike,
    n: int = 20,
    *,
    seed: int = 0,
    truth_classes: PathLike | None = None,
    dry_run: bool = False,
) -> KnownLevel:
    """Choose the background level with some true masks and render the masks anew; as ``recamlabel calibrate``.

    Args:
        run: A run with masks.
        truth: Folder of true index masks (PNG), named as the images; a few do.
        n: True masks to use, at least 2.
        seed: Which ones are drawn.
        truth_classes: Names file of masks with ids of their own.
        dry_run: Leave the masks as they are.

    Returns:
        The level with its interval: ``level.threshold``, ``level.interval``.
    """
    from recamlabel.run.fit import render

    path = path_of(run)
    level = calibrate_with_truth(RunFolder.open(path), Path(truth), n, seed, maybe(truth_classes))
    if not dry_run:
        render(path, level.threshold, known=level.to_json())
    return level
