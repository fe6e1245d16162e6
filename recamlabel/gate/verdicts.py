"""The verdict on one class: from its numbers of images, its company and how well it is recognised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recamlabel.data.learnable import ENOUGH_WITHOUT, HELP_APART
from recamlabel.gate.config import GateConfig

Verdict = Literal["ok", "weak", "do not trust"]
Relation = Literal["cannot be told apart", "never seen without"]
MANY_DOUBTFUL = 0.2
# Pairs of classes that share an image; a thousand labels in each of twenty images make so many.
_MOST_PAIRS = 20_000_000
_MANY_IMAGES, _RANKINGS, _LUCKY = 1000, 1000, 0.99


@dataclass(frozen=True)
class ClassGate:
    """What was found about one class.

    Args:
        name: The class.
        positives, negatives, unknown: Training images by their label of the class.
        ap: Cross-validated average precision in [0, 1]; None where it cannot be measured.
        ap_held_out: The same on the images outside the training splits; None where there are none with the class.
        chance: Average precision of guessing: the share of positives; None without a known label.
        doubtful, missing: Number of suspected labels, see :class:`Suspect`.
        verdict: Whether masks of the class deserve trust.
        reasons: Why not, one short sentence each; empty for ``ok``.
    """

    name: str
    positives: int
    negatives: int
    unknown: int
    ap: float | None
    ap_held_out: float | None
    chance: float | None
    doubtful: int
    missing: int
    verdict: Verdict
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """Two classes that come together, over the training images where both labels are known.

    Args:
        first, second: Class names. For ``never seen without``, ``first`` is the one that is bound.
        relation: ``cannot be told apart`` both ways, ``never seen without`` one way.
        share: Share of ``first``'s images that have ``second``.
        share_back: Share of ``second``'s images that have ``first``.
        together: Images with both.
    """

    first: str
    second: str
    relation: Relation
    share: float
    share_back: float
    together: int


def co_occurrence(labels: NDArray[np.int8], names: Sequence[str], together: float) -> tuple[Pair, ...]:
    """Pairs of classes of which one has the other in at least a share ``together`` of its images.

    Args:
        labels: ``(N, K)`` in {1, 0, -1}.
        names: K class names.
        together: Share in (0, 1].

    Returns:
        Pairs, both ways first, then by the number of images. Classes with a single image with both
        labels known are left out: one image says nothing.

    Example:
        >>> labels = np.array([[1, 1], [1, 1], [0, 1]], dtype=np.int8)
        >>> [(pair.first, pair.relation, pair.second) for pair in co_occurrence(labels, ["rail", "train"], 0.9)]
        [('rail', 'never seen without', 'train')]
    """
    found = _bound(labels, together)
    pairs = []
    for (first, second), (share, share_back, both) in found.items():
        mutual = (second, first) in found
        if mutual and names[first] > names[second]:
            continue
        relation: Relation = "cannot be told apart" if mutual else "never seen without"
        pairs.append(Pair(names[first], names[second], relation, share, share_back, both))
    return tuple(sorted(pairs, key=lambda pair: (pair.relation, -pair.together, pair.first, pair.second)))


def _bound(labels: NDArray[np.int8], together: float) -> dict[tuple[int, int], tuple[float, float, int]]:
    """By pair of classes of which the first's images have the second in a share ``together`` or more: that share, the
    share the other way round, and the number of images with both.

    Sparse, as most of ten thousand classes never meet. Images count whose labels of both are known, more than one.
    Where images have thousands of labels each, pairs would be millions that nobody reads: then there are none.
    """
    # scipy's sparse matrices take a moment to import.
    from scipy.sparse import csr_array

    present, unknown = csr_array(labels == 1, dtype=np.int64), csr_array(labels < 0, dtype=np.int64)
    if min(labels.shape[1] ** 2, int((present.sum(axis=1) ** 2).sum())) > _MOST_PAIRS:
        return {}
    own, both, without = present.sum(axis=0), (present.T @ present).tocoo(), (present.T @ unknown).tocsr()
    first, second = both.coords
    known, known_back = own[first] - without[first, second], own[second] - without[second, first]
    share, back = (np.where(all_ > 1, both.data / np.maximum(all_, 1), 0.0) for all_ in (known, known_back))
    chosen = np.flatnonzero((first != second) & (known > 1) & (share >= together))
    columns = (values[chosen].tolist() for values in (first, second, share, back, both.data))
    return {(one, other): (*shares, count) for one, other, *shares, count in zip(*columns, strict=True)}


def hard_to_tell_apart(labels: NDArray[np.int8], names: Sequence[str], together: float) -> list[str]:
    """One line for each pair of classes that nearly always come together; those that always do are said elsewhere.

    Args:
        labels: ``(N, K)`` in {1, 0, -1} of the training images.
        names: K class names.
        together: As :func:`co_occurrence` takes it.

    Example:
        >>> labels = np.array([[1, 1]] * 9 + [[1, 0], [0, 0]], dtype=np.int8)
        >>> hard_to_tell_apart(labels, ["shoes", "hair"], 0.9)[0][:67]
        'hair and shoes come together in 9 of the 10 training images that ha'
    """
    lines = []
    for pair in co_occurrence(labels, names, together):
        if pair.relation == "cannot be told apart" and pair.share + pair.share_back < 2:
            columns = [labels[:, list(names).index(name)] == 1 for name in (pair.first, pair.second)]
            either = int((columns[0] | columns[1]).sum())
            lines.append(
                f"{pair.first} and {pair.second} come together in {pair.together} of the {either} training images that "
                f"have either: image labels hardly tell them apart, and their masks deserve no trust; {HELP_APART}"
            )
    return lines


def above_chance(precision: float, labels: NDArray[np.int8]) -> float:
    """Average precision with guessing at 0 and perfection at 1, from the labels ``(N,)`` it was measured on."""
    chance = _chance(labels) or 0.0
    return (precision - chance) / (1 - chance) if chance < 1 else 0.0


@cache
def lucky_precision(positives: int, negatives: int) -> float:
    """Average precision that one random ranking in a hundred reaches: what labels drawn at random may look like.

    With few images guessing is often far above the share of positives. Simulated with 1,000 rankings;
    0 (no bound) from 1,000 images on, where luck is within a few hundredths of that share.

    Example:
        >>> 0.4 < lucky_precision(17, 43) < 0.55
        True
    """
    count = positives + negatives
    if not positives or not negatives or count >= _MANY_IMAGES:
        return 0.0
    order = np.random.default_rng(0).random((_RANKINGS, count)).argsort(axis=1)
    ranks = np.sort(order[:, :positives], axis=1)  # where the positives stand, from 0
    precision = (np.arange(1, positives + 1) / (ranks + 1)).mean(axis=1)
    return float(np.quantile(precision, _LUCKY))


def _chance(labels: NDArray[np.int8]) -> float | None:
    labelled = labels[labels >= 0]
    return float((labelled == 1).mean()) if labelled.size else None


def judge(
    name: str,
    labels: NDArray[np.int8],
    training: NDArray[np.bool_],
    *,
    precision: float | None,
    held_out: float | None = None,
    pairs: Sequence[Pair],
    suspects: tuple[int, int],
    config: GateConfig,
) -> ClassGate:
    """The verdict on one class.

    Args:
        name: The class.
        labels: ``(N,)`` its labels in {1, 0, -1}.
        training: ``(N,)`` images of the training splits.
        precision: Cross-validated average precision, None where there is none.
        held_out: Average precision on images outside the training splits, None where there is none.
        pairs: What :func:`co_occurrence` found, of all classes.
        suspects: Numbers of doubtful and of missing labels of the class.
        config: Limits.
    """
    training_labels = labels[training]
    positives, negatives, unknown = (int((training_labels == value).sum()) for value in (1, 0, -1))
    hard, soft = _reasons_of_counts(positives, negatives, unknown, config)
    for pair in pairs:
        if pair.relation == "cannot be told apart" and name in (pair.first, pair.second):
            other = pair.second if pair.first == name else pair.first
            hard.append(f"cannot be told apart from {other}: {HELP_APART}")
        elif pair.first == name:
            never = "never" if pair.share == 1 else "hardly ever"
            soft.append(f"{never} seen without {pair.second}, whose masks may take its pixels")
    chance = _chance(training_labels)
    if precision is not None and chance is not None:
        for more, to in zip(
            _reasons_of_precision(precision, chance, training_labels, config), (hard, soft), strict=True
        ):
            to += more
    if suspects[0] > MANY_DOUBTFUL * max((labels == 1).sum(), 1):
        soft.append(f"{suspects[0]} of its {(labels == 1).sum()} labels never fire")
    verdict: Verdict = "do not trust" if hard else "weak" if soft else "ok"
    return ClassGate(
        name,
        positives,
        negatives,
        unknown,
        precision,
        held_out,
        chance,
        *suspects,
        verdict=verdict,
        reasons=(*hard, *soft),
    )


def _reasons_of_precision(
    precision: float, chance: float, own: NDArray[np.int8], config: GateConfig
) -> tuple[list[str], list[str]]:
    """Reasons not to trust, and reasons to call it weak, that lie in how well the class is recognised."""
    text, gain = f"average precision {precision:.2f}, guessing has {chance:.2f}", above_chance(precision, own)
    luck = lucky_precision(int((own == 1).sum()), int((own == 0).sum()))
    if gain < config.min_ap:
        return [text], []
    if precision < luck:
        return [f"{text}, and up to {luck:.2f} with luck: no better than labels drawn at random"], []
    return [], [text] if gain < config.weak_ap else []


def _reasons_of_counts(positives: int, negatives: int, unknown: int, config: GateConfig) -> tuple[list[str], list[str]]:
    """Reasons not to trust, and reasons to call it weak, that lie in the numbers of images alone."""
    if not positives:
        known = "no training image has it" if negatives else "its label is unknown in every training image"
        return [known], []
    if not negatives:
        known = "every training image has it" if not unknown else "no training image is known to be without it"
        return [f"{known}, so nothing shows what it is not: add images without it ({ENOUGH_WITHOUT} or more)"], []
    hard, soft = [], []
    for count, kind in ((positives, "with"), (negatives, "without")):
        text = f"only {count} training image{'s' if count > 1 else ''} {kind} it"
        if count < config.min_positives:
            hard.append(f"{text}: too rare to learn" if kind == "with" else text)
        elif count < config.weak_positives:
            soft.append(text)
    return hard, soft
