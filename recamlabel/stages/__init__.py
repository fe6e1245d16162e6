"""The stages of a run, one file each; the order here is the order in which they are done."""

from __future__ import annotations

from recamlabel.stages import (
    affinity,
    calibration,
    cams,
    classifier,
    confidence,
    crops,
    edges,
    features,
    fine,
    gate,
    joined,
    local,
    maps,
    masks,
    probe,
    quality,
    recam,
    refine,
    relabel,
    saliency,
    seeds,
    segmentation,
    segmenter,
    spread,
)
from recamlabel.stages.graph import Graph, Stage

DATASET = Stage("dataset", 1, None, "labels, sizes and hashes of the images", makes=("work/dataset.json",))
ROUNDS = Stage(
    "rounds",
    2,
    None,
    "which round is kept",
    needs=("refine", "calibration", "masks", "segmenter", "segmentation", "quality"),
    reads=("rounds", "segmenter.relabel_weight"),
    sections=("rounds",),
    wanted=lambda scope: scope.config.rounds > 1,
)
GRAPH = Graph(
    (
        DATASET,
        features.STAGE,
        gate.STAGE,
        local.STAGE,
        crops.STAGE,
        classifier.STAGE,
        cams.STAGE,
        recam.STAGE,
        maps.STAGE,
        fine.STAGE,
        joined.STAGE,
        probe.STAGE,
        spread.STAGE,
        saliency.STAGE,
        seeds.STAGE,
        affinity.STAGE,
        edges.STAGE,
        relabel.STAGE,
        refine.STAGE,
        calibration.STAGE,
        masks.STAGE,
        segmenter.STAGE,
        segmentation.STAGE,
        quality.STAGE,
        ROUNDS,
        confidence.STAGE,
    )
)
# What every round does anew: all that stands on the maps that it makes.
REPEATED = tuple(name for name in GRAPH.below("relabel") if name not in ("relabel", "rounds"))
