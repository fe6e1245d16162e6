"""The background level from a few known masks, with an interval: the one place where a level is chosen with truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from recamlabel.core.arrays import from_uint8, resize_maps
from recamlabel.core.progress import say, track
from recamlabel.data.catalog import CATALOG_FILE, Catalog, load_catalog
from recamlabel.errors import ConfigError, StoreError
from recamlabel.evaluation.id_order import IdOrder
from recamlabel.evaluation.seeds import THRESHOLDS, SeedSweep
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.masks.calibrate import best_level
from recamlabel.refine import refiner_of
from recamlabel.storage.hdf5 import class_ids, open_store
from recamlabel.storage.places import SCORES_FILE
from recamlabel.storage.run_folder import RunFolder, has_background

RESAMPLES = 200
LOOKED_AT = 200


@dataclass(frozen=True)
class KnownLevel:
    """A background level chosen with known masks.

    Attributes:
        threshold: In (0, 1).
        interval: 5th and 95th percentile of the best level when the images are drawn anew.
        images: Ids of the images whose masks were used.
        curve: ``(level, mIoU as a fraction)``, the mean over the resamples.
    """

    threshold: float
    interval: tuple[float, float]
    images: tuple[str, ...]
    curve: tuple[tuple[float, float], ...]

    @property
    def origin(self) -> str:
        """How it was chosen, in words."""
        low, high = self.interval
        return f"chosen with {len(self.images)} known masks, 90 % interval {low:.2f} to {high:.2f}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "threshold": self.threshold,
            "interval": list(self.interval),
            "images": list(self.images),
            "miou": [[level, round(100 * value, 3)] for level, value in self.curve],
            "origin": self.origin,
        }


def known_level(
    scores: h5py.File,
    masks: Iterable[tuple[str, NDArray[np.integer]]],
    levels: Sequence[float],
    n_classes: int,
    ignore_id: int,
    seed: int = 0,
) -> KnownLevel:
    """The level with the best mean mIoU over images drawn anew with replacement.

    With few images the mean over resamples is steadier than the plain mIoU, which jumps with one image.

    Args:
        scores: The open ``scores.h5``.
        masks: Image ids with their known masks ``(H, W)``.
        levels: Candidates, ascending, multiples of 0.01.
        n_classes: With the background.
        ignore_id: Mask value without a label.
        seed: Of the resampling.

    Raises:
        StoreError: No mask, or an image without scores.
    """
    index = [int(np.argmin(np.abs(THRESHOLDS - level))) for level in levels]
    names, counts = [], []
    for name, mask in masks:
        item = scores.get(f"scores/{name}")
        if item is None:
            raise StoreError(f"{scores.filename}: no scores of image {name!r}; run `recamlabel fit` again")
        sweep = SeedSweep(n_classes, ignore_id)
        sweep.update(mask, resize_maps(from_uint8(item[()]), mask.shape[0], mask.shape[1]), class_ids(item))
        every = sweep.counts()
        counts.append([(every[at].hits, every[at].predicted, every[at].truth) for at in index])
        names.append(name)
    if not names:
        raise StoreError("no known mask to calibrate with")
    table = np.array(counts, dtype=np.float64)  # (images, levels, 3, classes)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    curves = np.array([_miou(np.tensordot(draw, table, axes=(0, 0))) for draw in draws])
    values = np.asarray(levels, dtype=np.float64)
    low, high = np.quantile([best_level(values, curve) for curve in curves], [0.05, 0.95])
    mean = curves.mean(axis=0)
    curve = tuple(zip(map(float, levels), map(float, mean), strict=True))
    return KnownLevel(best_level(values, mean), (round(float(low), 2), round(float(high), 2)), tuple(names), curve)


def _miou(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(levels,)`` from ``(levels, 3, classes)`` hits, predicted, truth; classes without a pixel are left out."""
    hits, predicted, truth = counts[:, 0], counts[:, 1], counts[:, 2]
    union = truth + predicted - hits
    iou = np.where(union > 0, hits / np.maximum(union, 1), np.nan)
    result: NDArray[np.float64] = np.nanmean(iou, axis=1)
    return result


def candidates(run: RunFolder) -> list[float]:
    """Levels that differ in this run: the CRF's, or 0.05, 0.06, … 0.95."""
    refine = run.state.config.get("refine", {})
    if refiner_of(str(refine.get("method", "none"))).stepped:
        return [float(level) for level in refine["levels"]]
    return [round(0.01 * step, 2) for step in range(5, 96)]


def calibrate_with_truth(
    run: RunFolder, truth_dir: Path, count: int = 20, seed: int = 0, truth_classes: Path | None = None
) -> KnownLevel:
    """Choose the level of a run with the true masks of ``count`` images, drawn at random.

    Args:
        run: Its scores are finished.
        truth_dir: Folder of true masks; may hold more than are used, or just a few.
        count: Images to use, those with a label alone; all if there are fewer.
        seed: Of the drawing.
        truth_classes: Names file of true masks with ids of their own.

    Raises:
        ConfigError: ``count`` below 2.
        StoreError: Scores not finished, no true mask of a labelled image, or true masks whose ids seem to stand for
            other classes.

    Example:
        >>> calibrate_with_truth(RunFolder.open(Path("run")), Path("masks")).threshold  # doctest: +SKIP
        0.35
    """
    if count < 2:
        raise ConfigError(f"--n {count}: expected at least 2 images, one says nothing about the others")
    run.key_of("refine")
    catalog = load_catalog(run.path / CATALOG_FILE, has_background(run))
    table = catalog.dataset.classes
    truth = TruthFolder(truth_dir, table, truth_classes)
    matched = truth.match(image.id for image in catalog.images if image.present)
    drawn = np.random.default_rng(seed).permutation(len(matched))[:count]
    chosen = [list(matched)[at] for at in sorted(drawn)]
    check_order(truth, catalog, matched, chosen, stated=truth_classes is not None)
    with open_store(run.path / SCORES_FILE) as scores, track("calibrate", len(chosen)) as advance:

        def masks() -> Iterable[tuple[str, NDArray[np.integer]]]:
            for name in chosen:
                yield name, truth.read(matched[name], catalog.shapes[name])
                advance()

        return known_level(scores, masks(), candidates(run), len(table) + 1, table.ignore_id, seed)


def check_order(
    truth: TruthFolder, catalog: Catalog, matched: Mapping[str, Path], chosen: Sequence[str], *, stated: bool
) -> None:
    """Refuse true masks whose ids seem to stand for other classes: no level chosen with them is worth anything.

    Args:
        truth: The folder.
        catalog: The run's images.
        matched: Image ids with the files of their true masks.
        chosen: The images whose masks are to be used; of the others as many are looked at as make 200.
        stated: The order of the ids was given by hand; then it is only warned.

    Raises:
        StoreError: The ids seem to be in another order, which was not given by hand.
    """
    order = IdOrder(catalog)
    others = [name for name in matched if name not in set(chosen)]
    for name in [*chosen, *others[: max(0, LOOKED_AT - len(chosen))]]:
        order.update(name, truth.read(matched[name], catalog.shapes[name]))
    warning = order.warning(truth)
    if warning and not stated:
        raise StoreError(
            f"{warning}\nNothing was changed. If the ids are right as they are (and the labels wrong), give their "
            "names in their own order with --truth-classes"
        )
    if warning:
        say(f"WARNING: {warning}")
