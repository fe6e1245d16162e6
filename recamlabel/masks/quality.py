"""Quality scores of masks, without truth, and the order in which a person should look at them.

``score = mean(parts)``; with a segmenter ``(3 score + support) / 4``; times the share of the labelled classes that
are there (docs/method.md, 7, has the table). A mask is doubted where its evidence is weak (it changes with the
background level, plain CAM draws it elsewhere, the probe does not support it), where much of it is withheld, where
the probe expects a low IoU of what is left, and where the segmenter that learnt from all masks does not support it.
The score is the plain mean of these four parts; nothing is fitted. Without a probe, the segmenter's support still
counts a quarter and the first two parts share the rest; without a segmenter, what is there counts the same. The score
foretells the IoU of the mask as it is left, with withheld pixels still to be drawn. A labelled class without a pixel
is a certain error, whatever else speaks for the mask: its score is 0, and that of the mask falls by its share of the
labels; a class that was kept at a level of its own only (:mod:`recamlabel.masks.rescue`) counts half. How well it
orders the masks is measured by ``benchmarks/quality.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recamlabel.core.classes import BACKGROUND_ID, ClassTable
from recamlabel.masks.rescue import KEPT_IDS
from recamlabel.storage.hdf5 import leaf_paths, open_store

MISSING_IDS = "missing_ids"
# Share of its score that a class keeps which the gate does not trust.
DISTRUST = 0.5


@dataclass(frozen=True)
class MaskQuality:
    """Scores of one mask, all in 0..1, 1 best.

    Attributes:
        score: Of the whole mask.
        classes: By class id, background 0 included.
        withheld: Share of its pixels that carry the ignore id.
        withheld_classes: By class id, the share of the class's pixels that were withheld.
        missing: Ids of labelled classes without a pixel.
        kept: Ids of labelled classes that have pixels at a level of their own only.
    """

    score: float
    classes: Mapping[int, float]
    withheld: float
    withheld_classes: Mapping[int, float]
    missing: tuple[int, ...] = ()
    kept: tuple[int, ...] = ()

    @classmethod
    def of_evidence(
        cls,
        classes: Mapping[int, float],
        withheld: float,
        withheld_classes: Mapping[int, float],
        expected: Mapping[int, float] | None = None,
        missing: tuple[int, ...] = (),
        kept: tuple[int, ...] = (),
    ) -> MaskQuality:
        """Before there is a segmenter: evidence, what is left of the mask, and its expected IoU count the same.

        Args:
            classes: By class id what speaks for the class, 0..1.
            withheld: Share of the mask's pixels.
            withheld_classes: By class id the share of the class's pixels.
            expected: By the same class ids the IoU that the probe expects, 0..1; None or empty without a probe.
            missing: Ids of labelled classes without a pixel.
            kept: Ids of labelled classes kept at a level of their own.

        Example:
            >>> quality = MaskQuality.of_evidence({0: 1.0, 3: 0.5}, 0.25, {3: 0.5})
            >>> quality.score, quality.classes, quality.withheld
            (0.75, {0: 1.0, 3: 0.5}, 0.25)
            >>> MaskQuality.of_evidence({0: 1.0, 3: 0.0}, 0.0, {}, missing=(3,)).score
            0.0
        """
        # What is kept at a level of its own is withheld from training, if not from the mask.
        left = {class_id: 0.0 if class_id in kept else 1 - withheld_classes.get(class_id, 0.0) for class_id in classes}
        parts = [classes, left]
        whole = [float(np.mean(list(classes.values()))), 1 - withheld]
        if expected:
            parts.append(expected)
            whole.append(float(np.mean(list(expected.values()))))
        scores = {class_id: sum(part[class_id] for part in parts) / len(parts) for class_id in classes}
        scores |= dict.fromkeys(missing, 0.0)
        score = sum(whole) / len(whole) * _share_there(scores, missing, kept)
        return cls(score, scores, withheld, withheld_classes, missing, kept)

    def attributes(self) -> dict[str, Any]:
        """As attributes of the mask's HDF5 dataset."""
        ids = sorted(self.classes)
        return {
            "quality": self.score,
            "withheld": self.withheld,
            "quality_ids": np.array(ids, dtype=np.int32),
            "class_quality": np.array([self.classes[class_id] for class_id in ids], dtype=np.float32),
            "class_withheld": np.array(
                [self.withheld_classes.get(class_id, 0.0) for class_id in ids], dtype=np.float32
            ),
            MISSING_IDS: np.array(self.missing, dtype=np.int32),
            KEPT_IDS: np.array(self.kept, dtype=np.int32),
        }

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> MaskQuality:
        """The inverse of :meth:`attributes`."""
        ids = [int(class_id) for class_id in attributes["quality_ids"]]
        return cls(
            float(attributes["quality"]),
            dict(zip(ids, map(float, attributes["class_quality"]), strict=True)),
            float(attributes["withheld"]),
            dict(zip(ids, map(float, attributes["class_withheld"]), strict=True)),
            *(tuple(int(class_id) for class_id in attributes.get(name, ())) for name in (MISSING_IDS, KEPT_IDS)),
        )

    def with_support(self, whole: float, classes: Mapping[int, float]) -> MaskQuality:
        """The segmenter's support as the fourth part: it counts a quarter.

        Args:
            whole: Mean probability that the segmenter gives to the mask's labels, 0..1.
            classes: The same by class id, over the pixels of the class.

        Example:
            >>> MaskQuality(0.5, {0: 0.5, 2: 0.4}, 0.0, {}).with_support(0.9, {0: 0.8, 2: 0.1}).score
            0.6
        """
        scores = {class_id: (3 * value + classes.get(class_id, value)) / 4 for class_id, value in self.classes.items()}
        scores |= dict.fromkeys(self.missing, 0.0)
        share = _share_there(scores, self.missing, self.kept)
        return replace(self, score=(3 * self.score + share * whole) / 4, classes=scores)

    def with_distrust(self, class_ids: Collection[int]) -> MaskQuality:
        """Half of the score of classes that the gate does not trust, and of the image's by their share of its labels.

        What image labels cannot teach looks as sure in a mask as what they can.

        Example:
            >>> doubted = MaskQuality(0.8, {0: 0.9, 2: 0.6, 5: 0.6}, 0.0, {}).with_distrust({5})
            >>> round(doubted.score, 2), doubted.classes[5], doubted.classes[2]
            (0.6, 0.3, 0.6)
        """
        labelled = [class_id for class_id in self.classes if class_id != BACKGROUND_ID]
        doubted = [class_id for class_id in labelled if class_id in class_ids]
        if not doubted:
            return self
        scores = {**self.classes, **{class_id: DISTRUST * self.classes[class_id] for class_id in doubted}}
        factor = 1 - (1 - DISTRUST) * len(doubted) / len(labelled)
        return replace(self, score=factor * self.score, classes=scores)

    def to_json(self, table: ClassTable) -> dict[str, Any]:
        """Plain JSON values with class names."""
        return {
            "score": round(self.score, 4),
            "withheld": round(self.withheld, 4),
            "classes": {table.name_of(class_id): round(value, 4) for class_id, value in self.classes.items()},
            "withheld_classes": {
                table.name_of(class_id): round(value, 4) for class_id, value in self.withheld_classes.items()
            },
            "missing": [table.name_of(class_id) for class_id in self.missing],
            "kept": [table.name_of(class_id) for class_id in self.kept],
        }


def _share_there(classes: Mapping[int, float], missing: tuple[int, ...], kept: tuple[int, ...]) -> float:
    """Share of the labelled classes that are in the mask, those at a level of their own by half; 1 without labels."""
    labelled = sum(class_id != BACKGROUND_ID for class_id in classes)
    return 1 - (len(missing) + len(kept) / 2) / labelled if labelled else 1.0


def read_quality(run: Path) -> dict[str, MaskQuality]:
    """The scores that the masks stage stored with the masks, by image id.

    Raises:
        StoreError: The masks are not made yet.
    """
    with open_store(run / "masks.h5") as file:
        return {name: MaskQuality.from_attributes(file[name].attrs) for name in leaf_paths(file)}


def read_scores(run: Path) -> dict[str, float]:
    """Quality of every mask by image id, 0..1."""
    return {name: quality.score for name, quality in read_quality(run).items()}


def review_order(qualities: Mapping[str, MaskQuality]) -> list[str]:
    """Image ids, the most doubtful mask first; equal scores in the order given.

    Masks that lack a labelled class come before all others: they are certainly wrong.

    Example:
        >>> good, bad = (MaskQuality(score, {0: score}, 0.0, {}) for score in (0.9, 0.2))
        >>> review_order({"a": good, "b": bad})
        ['b', 'a']
    """
    return sorted(qualities, key=lambda name: (not qualities[name].missing, qualities[name].score))
