"""The work of each stage: read the inputs from the run folder, call the library, write the outputs."""

from __future__ import annotations

from recamlabel.stages.affinity import run_affinity, run_edges
from recamlabel.stages.base import StageContext
from recamlabel.stages.calibration import run_calibration
from recamlabel.stages.classify import run_classifier, run_recam
from recamlabel.stages.fine import run_fine
from recamlabel.stages.gate import run_gate
from recamlabel.stages.maps import run_cams, run_maps
from recamlabel.stages.masks import run_masks, run_quality, run_refine
from recamlabel.stages.probe import run_probe
from recamlabel.stages.segment import run_segmentation, run_segmenter

__all__ = [
    "StageContext",
    "run_affinity",
    "run_calibration",
    "run_cams",
    "run_classifier",
    "run_edges",
    "run_fine",
    "run_gate",
    "run_maps",
    "run_masks",
    "run_probe",
    "run_quality",
    "run_recam",
    "run_refine",
    "run_segmentation",
    "run_segmenter",
]
