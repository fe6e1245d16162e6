"""Whether a training has learnt anything: its loss beside that of guessing.

A network that gives every image the same answer reaches the entropy of the labels and no less. A loss that stays
there is the mark of a dead network, whatever its accuracy says.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recamlabel.errors import RecamlabelError

WINDOW = 30
# Lower than guessing by this share counts as learnt. A schedule shorter than LONG may end a little above, and one
# shorter than JUDGED is no training to be judged.
MARGIN, SHORT_MARGIN, LONG, JUDGED = 0.02, -0.1, 100, 40
HOPELESS = 1.02


class TrainingFailedError(RecamlabelError):
    """A training that learnt nothing; the message says what was seen."""


@dataclass
class Watch:
    """Follows one figure of a training, and compares its last values with what guessing gives.

    Args:
        stage: Name of the stage, for messages.
        guess: The figure of guessing; None or 0 where there is nothing to guess.
        figure: Which of the logged figures.

    Example:
        >>> watch = Watch("classifier", guess=0.69)
        >>> for step in range(1, 101):
        ...     watch.see(step, 100, {"loss": 0.3})
        >>> watch.failure(100), watch.reached
        ('', 0.3)
    """

    stage: str
    guess: float | None
    figure: str = "loss"
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    @property
    def reached(self) -> float:
        """Mean of the figure over the last steps; NaN before the first."""
        return sum(self.recent) / len(self.recent) if self.recent else math.nan

    def see(self, done: int, steps: int, figures: Mapping[str, float]) -> None:
        """Take one step's figures.

        Raises:
            TrainingFailedError: After a third of the schedule (and 60 steps) the figure is still above that of
                guessing: the rest of the schedule would be spent on a dead network.
        """
        self.recent.append(figures[self.figure])
        early = max(2 * WINDOW, math.ceil(steps / 3))
        # A resumed training has to fill its window first: a few losses say nothing.
        full = len(self.recent) == WINDOW
        if self.guess and full and early <= done < steps and self.reached > HOPELESS * self.guess:
            raise TrainingFailedError(f"{self._seen()} after {done} of {steps} steps")

    def failure(self, steps: int) -> str:
        """Why the finished training is of no use; empty where it is."""
        margin = MARGIN if steps >= LONG else SHORT_MARGIN
        if not self.guess or steps < JUDGED or not self.recent or self.reached <= (1 - margin) * self.guess:
            return ""
        return f"{self._seen()} after all {steps} steps"

    def _seen(self) -> str:
        name = "loss" if self.figure == "loss" else f"{self.figure.removeprefix('loss_')} loss"
        return f"the {name} is {self.reached:.3f} where guessing has {self.guess:.3f}"


def label_entropy(labels: NDArray[np.integer], positive_weights: NDArray[np.floating] | None = None) -> float:
    """Binary cross-entropy of guessing every label by its class's share, as the classifier's loss counts it.

    ``sum_k n_k s_k H(w_k p_k / s_k) / sum_k n_k`` with ``n_k`` known labels, a share ``p_k`` of them present, each
    of weight ``w_k``, the sum of the weights ``s_k = w_k p_k + 1 - p_k``, and ``H(p) = -p log p - (1 - p) log(1 - p)``:
    the least that one answer for all images can have. Without weights ``sum_k n_k H(p_k) / sum_k n_k``.

    Args:
        labels: ``(N, K)`` in {1 present, 0 absent, -1 unknown}.
        positive_weights: ``(K,)`` weights of the present labels in the loss; None: 1 each.

    Returns:
        In nats; 0..log 2 without weights; 0 where no label is known.

    Example:
        >>> round(label_entropy(np.array([[1, 0], [0, 0]])), 4)  # log(2) / 2: the second class is never there
        0.3466
    """
    known, present = (labels >= 0).sum(axis=0), (labels == 1).sum(axis=0)
    share = present / np.maximum(known, 1)
    weighted = share if positive_weights is None else share * positive_weights
    parts = np.stack([weighted, 1 - share], axis=1)
    entropies = parts.sum(axis=1) * np.array([entropy(pair) for pair in parts.tolist()])
    return float((known * entropies).sum() / max(1, known.sum()))


def entropy(weights: Iterable[float]) -> float:
    """Entropy in nats of a distribution given by weights >= 0; 0 where all are 0.

    Example:
        >>> round(entropy([2, 2]), 4)
        0.6931
    """
    values = np.array([weight for weight in weights if weight > 0], dtype=np.float64)
    share = values / values.sum() if len(values) else values
    return float(-(share * np.log(share)).sum())
