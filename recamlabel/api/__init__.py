"""The package as a library: the verbs as functions, a run as an object, and the steps on their own."""

from __future__ import annotations

from recamlabel.api.runs import MaskScore, Run, RunImage, open_run
from recamlabel.api.verbs import check, export, fit, label, predict, report, review
from recamlabel.api.with_truth import calibrate, evaluate

__all__ = [
    "MaskScore",
    "Run",
    "RunImage",
    "calibrate",
    "check",
    "evaluate",
    "export",
    "fit",
    "label",
    "open_run",
    "predict",
    "report",
    "review",
]
