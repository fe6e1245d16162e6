"""A whole run on a vision transformer: every stage that looks through the backbone does so through a ViT."""

from __future__ import annotations

import json

import h5py
import numpy as np

from recamlabel.config import load_config
from recamlabel.run.fit import fit
from recamlabel.run.predict import open_predictor
from tests.helpers import TINY_SEGMENTER

LINES = [
    *(line for line in TINY_SEGMENTER if line != "refine.method=none"),
    "backbone.name=vit_tiny_patch16_224",
    "backbone.weights=none",
    "backbone.frozen_stages=10",
    "local.enabled=true",
    "local.folds=2",
    "refine.method=random_walk",
    "affinity.min_steps=2",
    "affinity.max_steps=2",
    "affinity.radius=3",
    "segmenter.method=dpt",
]


def test_every_stage_runs_on_a_vit(tiny_csv, tmp_path):
    run = fit(tiny_csv, tmp_path / "run", load_config(assignments=LINES))
    assert {"gate", "local", "probe", "affinity", "edges", "segmentation"} <= set(run.state.stages)
    with h5py.File(run.path / "work/maps.h5") as maps, h5py.File(run.path / "masks.h5") as masks:
        for number in range(8):
            found = maps[f"recam/images/{number}"][()]
            assert np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all()
            assert masks[f"images/{number}"].shape == (64, 80)
    assert {one["depth"] for one in json.loads((run.path / "work/scale.json").read_text())["tried"]} <= {
        "middle",
        "last",
    }
    probabilities = open_predictor(run.path, "cpu").probabilities([np.zeros((50, 70, 3), np.uint8)])
    assert probabilities.shape == (1, 3, 25, 35) and np.allclose(probabilities.sum(axis=1), 1, atol=1e-4)
