"""The gate: what the labels allow to be learnt, said before any mask is trusted.

Everything here comes from image-level labels and fixed features. No mask and no true mask is
read, so the verdicts are available for data that nobody has ever segmented.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recamlabel.gate.config import GateConfig
from recamlabel.gate.crossval import Features, Probabilities, average_precision, out_of_fold
from recamlabel.gate.verdicts import ClassGate, Pair, above_chance, co_occurrence, judge

# Without it half the wrong labels of a well-learnt class would lie just beyond the mean. With 30 labels
# added and 30 removed on MSRC-17, it finds 29 instead of 25 of the added ones for a third more lines to read.
MARGIN = 0.05
RANDOM_NOTE = "backbone.weights=none: the features are random, so these verdicts are not to be used"


@dataclass(frozen=True)
class Suspect:
    """A label that does not go with the image.

    Args:
        image: Image id.
        name: The class.
        probability: Out-of-fold probability of the class.
        typical: What it is compared with: the mean probability of the class's absent images for a
            doubtful label, of its present images for a missing one.
    """

    image: str
    name: str
    probability: float
    typical: float


@dataclass(frozen=True)
class Gate:
    """All findings.

    Args:
        classes: One entry a class, in id order.
        pairs: Classes that come together, the worst first.
        doubtful: Present labels that never fire (probable label noise), the most certain first.
        missing: Absent labels that fire (probably forgotten), the most certain first.
        images: Images with at least one known label.
        note: A warning about the whole; empty where there is none.
    """

    classes: tuple[ClassGate, ...]
    pairs: tuple[Pair, ...]
    doubtful: tuple[Suspect, ...]
    missing: tuple[Suspect, ...]
    images: int
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values; fractions stay fractions."""
        tree: dict[str, Any] = _rounded(asdict(self))
        return tree

    def lines(self) -> list[str]:
        """One line for every class that is not ok; the warning about the whole instead, where there is one."""
        if self.note:
            return [self.note]
        return [f"{one.name}: {one.verdict}: {'; '.join(one.reasons)}" for one in self.classes if one.verdict != "ok"]


def assess(
    features: Features,
    labels: NDArray[np.int8],
    training: NDArray[np.bool_],
    ids: Sequence[str],
    names: Sequence[str],
    config: GateConfig,
    *,
    random_features: bool = False,
) -> Gate:
    """Judge every class of a data set from features and labels alone.

    The features are to come from a network with its *pretrained* weights. Those of the trained
    classifier would not do: it has seen every label, so that a wrong label would look right and a
    rare class learnt. The price is that a linear model on fixed, pooled features knows less than
    a network trained on the data: a low average precision is a reason to look, not a proof that
    the class cannot be learnt. Near-duplicates (video frames) in different folds make it too high.

    A present label is doubtful where its out-of-fold probability is at most the mean of the class's
    absent images; an absent one is probably missing where it is at least the mean of the present
    images, both with a small margin (after confident learning: Northcutt, Jiang and Chuang, JAIR
    2021). Neither is listed for a
    class whose average precision is below ``min_ap``, where the lists would be noise.

    Args:
        features: ``(N, D)``.
        labels: ``(N, K)`` in {1, 0, -1}; unknown labels (-1) take no part.
        training: ``(N,)`` images of the training splits: counts, co-occurrence and average
            precision are theirs. Suspected labels are listed for all images.
        ids: N image ids.
        names: K class names.
        config: Folds and limits.
        random_features: The backbone had no weights; the result then carries a warning.

    Returns:
        The findings; neither the order of the images nor that of the classes changes them.

    Raises:
        ValueError: Shapes that do not belong together.

    Example:
        >>> labels = np.array([[1, 1], [1, 1], [0, 0], [0, 0]], dtype=np.int8)
        >>> found = assess(np.eye(4), labels, np.ones(4, bool), list("abcd"), ["rail", "train"], GateConfig())
        >>> found.pairs[0].relation, found.classes[0].verdict
        ('cannot be told apart', 'do not trust')
    """
    count, classes = len(ids), len(names)
    if features.shape[:1] != (count,) or labels.shape != (count, classes) or training.shape != (count,):
        raise ValueError(
            f"expected features ({count}, D), labels ({count}, {classes}) and training ({count},), "
            f"got {features.shape}, {labels.shape} and {training.shape}"
        )
    probabilities = out_of_fold(features, labels, training, ids, config.folds, config.strength)
    precisions, elsewhere = (
        [average_precision(labels[rows, number], probabilities[rows, number]) for number in range(classes)]
        for rows in (training, ~training)
    )
    pairs = co_occurrence(labels[training], names, config.together)
    doubtful, missing = _suspects(labels, probabilities, training, precisions, ids, names, config)
    tallies = [Counter(one.name for one in listed) for listed in (doubtful, missing)]
    judged = tuple(
        judge(
            name,
            labels[:, number],
            training,
            precision=precisions[number],
            held_out=elsewhere[number],
            pairs=pairs,
            suspects=(tallies[0][name], tallies[1][name]),
            config=config,
        )
        for number, name in enumerate(names)
    )
    note = RANDOM_NOTE if random_features else ""
    return Gate(judged, pairs, doubtful, missing, int((labels >= 0).any(axis=1).sum()), note)


def _suspects(
    labels: NDArray[np.int8],
    probabilities: Probabilities,
    training: NDArray[np.bool_],
    precisions: Sequence[float | None],
    ids: Sequence[str],
    names: Sequence[str],
    config: GateConfig,
) -> tuple[tuple[Suspect, ...], tuple[Suspect, ...]]:
    """Doubtful and missing labels; the means they are measured against are the training images'."""
    by_kind: tuple[list[Suspect], list[Suspect]] = ([], [])
    for column_index, name in enumerate(names):
        labels_of_class, column = labels[:, column_index], probabilities[:, column_index]
        precision = precisions[column_index]
        if precision is None or above_chance(precision, labels_of_class[training]) < config.min_ap:
            continue
        # Sorted: a sum of floats depends on the order, and the images' order must not matter.
        absent, present = (float(np.sort(column[training & (labels_of_class == value)]).mean()) for value in (0, 1))
        margin = MARGIN * (present - absent)
        chosen = (
            ((labels_of_class == 1) & (column <= absent + margin), absent),
            ((labels_of_class == 0) & (column >= present - margin), present),
        )
        for suspects, (rows, typical) in zip(by_kind, chosen, strict=True):
            suspects += [Suspect(ids[int(row)], name, float(column[row]), typical) for row in np.flatnonzero(rows)]
    # Ratios: rare classes have small probabilities all over, and would come last by differences.
    doubtful = sorted(by_kind[0], key=lambda one: (one.probability / one.typical, one.image, one.name))
    missing = sorted(by_kind[1], key=lambda one: ((1 - one.probability) / (1 - one.typical), one.image, one.name))
    return tuple(doubtful), tuple(missing)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
