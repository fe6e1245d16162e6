"""Stage ``gate``: what the labels allow to be learnt, from pretrained features and no mask."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from recamlabel.core.progress import say
from recamlabel.gate.gate import assess
from recamlabel.stages.cost import Cost
from recamlabel.stages.features import read_features
from recamlabel.stages.graph import Scope, Stage
from recamlabel.stages.view import View
from recamlabel.storage.atomic import write_text
from recamlabel.storage.places import GATE_FILE
from recamlabel.storage.run_folder import RunFolder

METRICS_SECTION = "gate"
SHOWN = 20


def run_gate(view: View) -> Mapping[str, Any]:
    """Judge every class; write ``gate.json``, section ``gate`` of the metrics, and a line for each doubt.

    The features are those of the backbone with its *pretrained* weights, not of the trained
    classifier: that one has seen all labels, so a wrong label would look right to it.
    """
    config, catalog = view.config, view.catalog
    dataset = catalog.dataset
    chosen = {image.id for image in catalog.training_images(config.data.train_splits)}
    training = np.array([image.id in chosen for image in catalog.images], dtype=bool)
    ids = [image.id for image in catalog.images]
    random = config.backbone.weights == "none"
    labels, names = dataset.labels(), dataset.classes.names
    with read_features(view, ids) as features:
        gate = assess(features, labels, training, ids, names, config.gate, random_features=random)
    tree = {"stage_key": view.key, **gate.to_json()}
    write_text(view.run.path / GATE_FILE, json.dumps(tree, indent=1, ensure_ascii=False))
    view.run.update_metrics(METRICS_SECTION, tree, stage="gate")
    lines = gate.lines()
    for line in lines[:SHOWN]:
        say(f"gate: {line}")
    if len(lines) > SHOWN:
        say(f"gate: {len(lines) - SHOWN} more classes are not ok; report.html lists all")
    verdicts = [one.verdict for one in gate.classes]
    return {name.replace(" ", "_"): verdicts.count(name) for name in ("ok", "weak", "do not trust")} | {
        "doubtful_labels": len(gate.doubtful),
        "missing_labels": len(gate.missing),
    }


def read_gate(run: RunFolder, *, random_too: bool = False) -> dict[str, Any]:
    """``gate.json``; empty where there is none, or where random features made it worthless.

    Args:
        run: The run whose gate it is.
        random_too: Give what random features said all the same.
    """
    path = run.artifact(GATE_FILE)
    if path is None:
        return {}
    tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {} if tree.get("note") and not random_too else tree


def _cost(scope: Scope) -> Cost:
    # A linear model a class, of the pooled features of every image.
    return Cost(fixed=2e-4 * len(scope.catalog.images) * len(scope.catalog.dataset.classes))


STAGE = Stage(
    "gate",
    3,
    run_gate,
    "what the labels allow to be learnt",
    needs=("features",),
    reads=("gate", "backbone.weights", "data.train_splits"),
    makes=(GATE_FILE,),
    sections=(METRICS_SECTION,),
    facts=lambda scope: {"images": scope.images, "training": scope.training},
    cost=_cost,
)
