"""True masks whose ids stand for other classes than those of the run: noticed by the images' labels.

A true mask that holds id 1 in images whose labels name class 2, and the other way round, has its ids in
another order. The labels decide, not the masks of the run, which may be as poor as they like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from recamlabel.data.catalog import Catalog
from recamlabel.evaluation.truth import TruthFolder

SHOWN = 4
# Another order is named only where it explains the labels well, and in many more images than the present one.
LEAST_IMAGES, LEAST_AGREEMENT, TIMES_BETTER, IMAGES_BETTER = 5, 0.65, 2, 4


@dataclass(frozen=True)
class OtherOrder:
    """Another order of the true masks' ids explains the labels much better.

    Args:
        classes: Id of the run -> the class that the true masks mean by it, for all 1..K.
        agree_before, agree_after: Images whose labels agree with their true mask in the classes that are confused,
            in the present order and in the other one.
        images: Images that were looked at.
        together: ``[j, k]``: images whose true mask holds id j + 1 and whose label names class k + 1.
    """

    classes: Mapping[int, int]
    agree_before: int
    agree_after: int
    images: int
    together: NDArray[np.int64]

    @property
    def moved(self) -> list[int]:
        """The ids that mean another class."""
        return [own for own, meant in self.classes.items() if own != meant]


class IdOrder:
    """Collects which ids the true masks hold, image by image.

    Args:
        catalog: Images and labels of the run.

    Example:
        >>> from recamlabel.adapters.base import Dataset, LabelledImage
        >>> from recamlabel.core.classes import ClassTable
        >>> from pathlib import Path
        >>> both = frozenset({"dent", "hole"})
        >>> sets = [("dent", 2), ("hole", 1)] * 3
        >>> images = [LabelledImage(str(n), Path(), frozenset({s}), both - {s}) for n, (s, _) in enumerate(sets)]
        >>> catalog = Catalog(Dataset(Path(), "csv", ClassTable(("dent", "hole")), tuple(images)), {}, {})
        >>> order = IdOrder(catalog)
        >>> for number, (_, held) in enumerate(sets):
        ...     order.update(str(number), np.array([[0, held]]))
        >>> order.other().classes
        {1: 2, 2: 1}
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._held: dict[str, NDArray[np.int8]] = {}

    def update(self, image_id: str, truth: NDArray[np.integer]) -> None:
        """Add the true mask ``(H, W)`` of one image, in the ids of the run as they are understood at present."""
        table = self.catalog.dataset.classes
        counts = np.bincount(truth.ravel(), minlength=table.ignore_id + 1)
        # 1 held, 0 not held, -1 unknown: what is not held may lie where the true mask says "ignore".
        missing = -1 if counts[table.ignore_id] else 0
        self._held[image_id] = np.where(counts[1 : len(table) + 1] > 0, 1, missing).astype(np.int8)

    def other(self) -> OtherOrder | None:
        """The order that explains the labels much better than the present one, or None."""
        images = [image for image in self.catalog.images if image.id in self._held]
        classes = len(self.catalog.dataset.classes)
        if len(images) < LEAST_IMAGES or classes < 2:
            return None
        held = np.stack([self._held[image.id] for image in images])
        labels = self.catalog.dataset.labels(images)
        # [j, k]: images whose label contradicts that id j is class k. Ties go to the order as it is.
        wrong = _met(held == 1, labels == 0) + _met(held == 0, labels == 1)
        _, meant = linear_sum_assignment(wrong * (classes + 1) - np.eye(classes, dtype=np.int64))
        moved = np.flatnonzero(meant != np.arange(classes))
        if not moved.size:
            return None
        before, after = (_contradictions(held[:, moved], labels[:, to]) for to in (moved, meant[moved]))
        if not _much_better(before, after, held[:, moved], labels[:, meant[moved]]):
            return None
        return OtherOrder(
            classes={own + 1: int(to) + 1 for own, to in enumerate(meant)},
            agree_before=int((before == 0).sum()),
            agree_after=int((after == 0).sum()),
            images=len(images),
            together=_met(held == 1, labels == 1),
        )

    def warning(self, truth: TruthFolder) -> str:
        """What a person must know, with the list of names to give; empty where nothing is wrong."""
        found = self.other()
        if found is None:
            return ""
        table = self.catalog.dataset.classes
        lines = []
        for own in found.moved[:SHOWN]:
            # Of each class: where it should be, and where it is.
            where = next(one for one, meant in found.classes.items() if meant == own)
            right, other = (int(found.together[class_id - 1, own - 1]) for class_id in (own, where))
            value, elsewhere = truth.value_of(own), truth.value_of(where)
            lines.append(
                f"of the images labelled {table.name_of(own)!r}, {right} hold id {value}, which is to mean it, "
                f"and {other} hold id {elsewhere}"
            )
        more = f"; {len(found.moved) - SHOWN} more" if len(found.moved) > SHOWN else ""
        names = "\n".join(f"  {name}" for name in truth.names_in(found.classes))
        return (
            f"{truth.folder}: the ids of these masks seem to stand for other classes than the run's. "
            f"For example, {'; '.join(lines)}{more}. In these classes {found.agree_before} of {found.images} images "
            f"agree with their labels; with the ids in the order below, {found.agree_after} do. Write it into a text "
            f"file, a name a line, and give it with --truth-classes:\n{names}"
        )


def _met(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.int64]:
    """``[j, k]``: images with the first in column j and the second in column k."""
    # Floats, which are exact here and multiplied many times as fast.
    return np.rint(first.T.astype(np.float64) @ second.astype(np.float64)).astype(np.int64)


def _contradictions(held: NDArray[np.int8], labels: NDArray[np.int8]) -> NDArray[np.int64]:
    """Contradictions of each image: known labels that its true mask denies."""
    wrong: NDArray[np.int64] = ((labels >= 0) & (held >= 0) & (held != labels)).sum(axis=1)
    return wrong


def _much_better(
    before: NDArray[np.int64], after: NDArray[np.int64], held: NDArray[np.int8], labels: NDArray[np.int8]
) -> bool:
    """Whether the other order is beyond doubt. Noise in the labels makes the best order a little better always."""
    better, worse = int((after < before).sum()), int((after > before).sum())
    known = (held >= 0) & (labels >= 0)
    either = int((known & ((held == 1) | (labels == 1))).sum())
    agreement = ((held == 1) & (labels == 1)).sum() / max(either, 1)
    return bool(
        better >= LEAST_IMAGES
        and better >= IMAGES_BETTER * worse
        and before.sum() >= TIMES_BETTER * after.sum()
        and agreement >= LEAST_AGREEMENT
    )
