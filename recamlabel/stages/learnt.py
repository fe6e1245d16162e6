"""What the stages ``local`` and ``probe`` have learnt, kept for images that come after the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from recamlabel.adapters.base import LabelledImage
from recamlabel.errors import StoreError
from recamlabel.maps.local import CrossFittedHeads, Projection
from recamlabel.maps.probe import CrossFittedProbe
from recamlabel.models.weights import read_weights, save_tensors
from recamlabel.stages.local_choice import Tried
from recamlabel.stages.view import View
from recamlabel.storage.places import FUSED_FILE, LOCAL_FILE

PROBE_WEIGHTS, LOCAL_WEIGHTS = "weights/probe.safetensors", "weights/local.safetensors"
# The file of a stage that `fit` makes again where it is deleted: then it keeps what it learns, too.
MADE_WITH = {PROBE_WEIGHTS: FUSED_FILE, LOCAL_WEIGHTS: LOCAL_FILE}


def save_probe(view: View, probe: CrossFittedProbe | None, folds: Mapping[str, int]) -> None:
    """Keep the probe and the fold of each image that it was fitted to; None: there were too few images for one."""
    tensors = {} if probe is None else {name: getattr(probe, name) for name in _tensors(CrossFittedProbe)}
    facts = {"folds": dict(folds), "background": probe is None or probe.background}
    _save(view.run.path / PROBE_WEIGHTS, view, tensors, facts)


def load_probe(view: View) -> tuple[CrossFittedProbe | None, dict[str, int]]:
    """What :func:`save_probe` kept, on the view's device."""
    tensors, facts = _load(view, PROBE_WEIGHTS)
    probe = CrossFittedProbe(**tensors, background=facts["background"]).to(view.device) if tensors else None
    return probe, facts["folds"]


def save_heads(view: View, chosen: Tried | None) -> None:
    """Keep the local heads that the maps are made with; None: they take no part."""
    tensors: dict[str, Tensor] = {}
    facts: dict[str, Any] = {}
    if chosen is not None:
        tensors = {name: getattr(chosen.projection, name) for name in _tensors(Projection)}
        tensors |= {"weight": chosen.heads.weight, "bias": chosen.heads.bias}
        facts = {"side": chosen.side, "depth": chosen.depth, "share": chosen.share, "folds": dict(chosen.folds)}
    _save(view.run.path / LOCAL_WEIGHTS, view, tensors, facts)


def load_heads(view: View) -> Tried | None:
    """What :func:`save_heads` kept, without the average precisions."""
    tensors, facts = _load(view, LOCAL_WEIGHTS)
    if not tensors:
        return None
    heads = CrossFittedHeads(tensors["weight"], tensors["bias"], facts["share"])
    projection = Projection(**{name: tensors[name] for name in _tensors(Projection)})
    return Tried(facts["side"], facts["depth"], facts["share"], projection, heads, [], facts["folds"])


def fold_of(view: View, folds: Mapping[str, int], image: LabelledImage) -> int | None:
    """The fold of an image whose head has not seen it; None for one that nothing was fitted to.

    Images of another data set are known again by the content of their files: a head that has seen an image says less
    about it than one that has not.
    """
    if view.origin is None:
        return folds.get(image.id)
    known, content = view.origin.catalog.hashes, view.catalog.hashes[image.id]
    if known.get(image.id) == content:
        return folds.get(image.id)
    by_content = view.once("ids by content", lambda: {digest: name for name, digest in known.items()})
    return folds.get(by_content.get(content, ""))


def _tensors(kind: type) -> list[str]:
    return [one.name for one in fields(kind) if one.type in ("Tensor", Tensor)]


def _save(path: Path, view: View, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    # A file of no tensor is none that every reader takes.
    kept = tensors or {"nothing": torch.zeros(1)}
    save_tensors(path, kept, {"stage_key": view.key, "facts": json.dumps(facts, ensure_ascii=False)})


def _load(view: View, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    path = view.learnt.path / name
    if not path.is_file():
        raise StoreError(
            f"{path}: no such file: the run was made by a version that did not keep what this stage learns; delete "
            f"{view.learnt.path / MADE_WITH[name]} and run `recamlabel fit {view.learnt.path}`, which makes both "
            "(nothing else is done again)"
        )
    tensors = read_weights(path)
    with safetensors.safe_open(path, "pt") as file:
        facts: dict[str, Any] = json.loads(file.metadata()["facts"])
    return ({} if "nothing" in tensors else tensors), facts
