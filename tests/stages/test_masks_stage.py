"""What the stage ``masks`` says about its level."""

from __future__ import annotations

import numpy as np
import pytest

from recamlabel.masks.calibrate import Calibration, LevelEvidence, calibrate
from recamlabel.stages.masks import Level, summary

PIXELS = {"background": 60, "ignored": 10, "thing": 30}


def evidence(blurred: float) -> LevelEvidence:
    """One label, whose regions hold all of the evidence at the lower level and half of it at the higher one."""
    kept, erased, area = (np.array([row]) for row in ([0.9, 0.5], [0.1, 0.5], [0.5, 0.25]))
    return LevelEvidence(np.array([0.3, 0.6]), kept, erased, area, np.array([0.9]), np.array([blurred]))


def said(chosen: Calibration, level: Level | None = None) -> str:
    return summary(level or Level(chosen.threshold, chosen.origin, free=True), chosen, PIXELS)


@pytest.mark.parametrize("nothing", [0.9, 0.8])
def test_a_level_that_nothing_is_known_about_is_called_the_default(nothing: float) -> None:
    assert said(calibrate(evidence(nothing))) == (
        "masks: background level 0.50 (the default, half of the peak, as the classifier's answers say nothing about "
        "regions); 10.0% of the pixels withheld"
    )


def test_a_chosen_level_has_its_interval() -> None:
    assert said(calibrate(evidence(0.1))) == (
        "masks: background level 0.30 (chosen without ground truth, by what the classifier goes by, 90 % interval "
        "0.30 to 0.30); 10.0% of the pixels withheld"
    )


def test_a_level_set_by_hand_stands_beside_the_chosen_one() -> None:
    assert said(calibrate(evidence(0.1)), Level(0.4, "set by hand", free=False)) == (
        "masks: background level 0.40 (set by hand; chosen without masks: 0.30); 10.0% of the pixels withheld"
    )
