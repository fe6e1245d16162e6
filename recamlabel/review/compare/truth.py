"""Two runs against the same true masks: complete masks, what remains and coverage, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recamlabel.data.catalog import Catalog
from recamlabel.errors import StoreError
from recamlabel.evaluation.confusion import ConfusionMatrix, Fractions, Scores
from recamlabel.evaluation.id_order import IdOrder
from recamlabel.evaluation.resampling import Interval, Resampling
from recamlabel.evaluation.scoring import complete_masks, has_complete_masks
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.review.page.html import change, percent
from recamlabel.storage.run_folder import RunFolder

Mask = NDArray[np.integer]
Complete = Callable[[str, tuple[int, int]], Mask]


@dataclass(frozen=True)
class Measure:
    """One figure of both runs as fractions, and the 95 % interval of B − A over images drawn anew.

    The same images are drawn for both runs. ``interval`` is None for a single image.

    Example:
        >>> str(Measure("mIoU of what remains", 0.8644, 0.88, (-0.002, 0.031)))
        'mIoU of what remains 86.4 → 88.0 (+1.6, 95 % interval −0.2 to +3.1)'
    """

    name: str
    first: float
    second: float
    interval: Interval | None

    @property
    def values(self) -> str:
        """Both values in percent."""
        return " → ".join("–" if value != value else percent(100 * value) for value in (self.first, self.second))

    @property
    def change(self) -> str:
        """The difference with its interval; empty where there is nothing to subtract."""
        difference = 100 * (self.second - self.first)
        if difference != difference:
            return ""
        ends = "" if self.interval is None else f", 95 % interval {' to '.join(change(100 * v) for v in self.interval)}"
        return f"{change(difference)}{ends}"

    def __str__(self) -> str:
        return f"{self.name} {self.values}" + (f" ({self.change})" if self.change else "")


@dataclass(frozen=True)
class TruthScores:
    """Both runs against the same true masks.

    Withheld pixels are neither right nor wrong: the masks are scored without them, beside the share that is
    answered, and before anything was withheld. No single figure of these may be improved by withholding less or more.

    Args:
        images: Images that were scored.
        first, second: The masks of each run as they are left.
        complete: The same masks with nothing withheld; None where a run's scores are gone.
        measures: What is to be named together, complete masks first.
        notes: What else a reader must know.
        warning: Why the true masks' ids seem to stand for other classes; empty where they do not.
    """

    images: int
    first: Scores
    second: Scores
    complete: tuple[Scores, Scores] | None
    measures: tuple[Measure, ...]
    notes: tuple[str, ...]
    warning: str = ""

    def iou(self) -> tuple[Fractions, Fractions]:
        """IoU a class of each run: of the complete masks where there are some, of what remains elsewhere."""
        if self.complete is not None:
            return self.complete[0].iou, self.complete[1].iou
        return self.first.iou_covered, self.second.iou_covered


class TruthTally:
    """Collects the counts of two runs, image by image.

    Args:
        truth: The true masks.
        catalog: Images, labels and sizes.
        matched: The images that have a true mask.
        complete: What gives the complete masks of A and of B; empty where that cannot be had.
        images: How many images will be scored.
    """

    def __init__(
        self,
        truth: TruthFolder,
        catalog: Catalog,
        matched: Mapping[str, Path],
        complete: Sequence[Complete],
        images: int,
    ) -> None:
        table = catalog.dataset.classes
        self.truth, self.catalog, self.matched, self.complete = truth, catalog, matched, complete
        # Masks of A and B as they are left, then complete.
        self.confusions = [ConfusionMatrix(len(table) + 1, table.ignore_id) for _ in range(2 + len(complete))]
        self.resampling = Resampling(images, len(table) + 1, len(self.confusions))
        self.order = IdOrder(catalog)
        self.scored = 0

    @classmethod
    @contextmanager
    def of_runs(
        cls, truth: TruthFolder, runs: tuple[RunFolder, RunFolder], catalogs: tuple[Catalog, Catalog], common: list[str]
    ) -> Iterator[TruthTally]:
        """For two runs and their common images; their scores are open as long.

        Raises:
            StoreError: No true mask fits, or a run's scores are damaged.
        """
        one, two = catalogs
        matched = truth.match(common)
        scored = sum(one.shapes[name] == two.shapes[name] for name in matched)
        with ExitStack() as stack:
            known = all(has_complete_masks(run) for run in runs)
            complete = [stack.enter_context(complete_masks(run, truth.classes)) for run in runs if known]
            yield cls(truth, one, matched, complete, scored)

    def add(self, image_id: str, first: Mask, second: Mask) -> None:
        """Add the masks of A and B ``(H, W)`` of one image; nothing happens where it has no true mask."""
        if image_id not in self.matched:
            return
        true = self.truth.read(self.matched[image_id], self.catalog.shapes[image_id])
        if true.shape != first.shape:
            raise StoreError(
                f"mask of {image_id!r} has shape {first.shape} in both runs, its image {true.shape}; "
                "run `recamlabel masks` again"
            )
        shape = (true.shape[0], true.shape[1])
        masks = [first, second, *(whole(image_id, shape) for whole in self.complete)]
        counts = [confusion.update(true, mask) for confusion, mask in zip(self.confusions, masks, strict=True)]
        self.resampling.update(*counts)
        self.order.update(image_id, true)
        self.scored += 1

    def scores(self, compared: int) -> TruthScores:
        """The scores, with a note where fewer images were scored than ``compared``."""
        notes = list(self.truth.notes)
        if self.scored < compared:
            notes.append(f"{self.truth.folder} has no mask for {image_count(compared - self.scored)}: not scored")
        first, second, *whole = (confusion.scores() for confusion in self.confusions)
        return TruthScores(
            images=self.scored,
            first=first,
            second=second,
            complete=(whole[0], whole[1]) if whole else None,
            measures=tuple(self._measures([first, second, *whole])),
            notes=tuple(notes),
            warning=self.order.warning(self.truth),
        )

    def _measures(self, scores: Sequence[Scores]) -> Iterator[Measure]:
        left, whole = (0, 1), (2, 3)
        kinds = [("mIoU of the complete masks", "miou", whole)] if len(scores) > 2 else []
        kinds += [("mIoU of what remains", "miou_covered", left), ("coverage", "coverage", left)]
        drawn = [self.resampling.of(number) for number in range(len(scores))]
        for name, field, (a, b) in kinds:
            interval = self.resampling.interval(getattr(drawn[b], field) - getattr(drawn[a], field))
            yield Measure(name, getattr(scores[a], field), getattr(scores[b], field), interval)


def image_count(count: int) -> str:
    """``1 image``, ``2 images``."""
    return f"{count} image{'s' if count != 1 else ''}"
