"""Stages ``classifier`` and ``recam``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recamlabel.adapters.base import LabelledImage
from recamlabel.core.progress import say, track
from recamlabel.data.passes import batches_by_shape, read_ahead
from recamlabel.gate.crossval import average_precision, canonical_order
from recamlabel.gate.head_start import logistic_head
from recamlabel.gate.verdicts import lucky_precision
from recamlabel.maps.stored import MapStore
from recamlabel.models.networks import ClassifierNet, RecamNet
from recamlabel.models.weights import load_backbone_weights
from recamlabel.stages.base import (
    CLASSIFIER_WEIGHTS,
    RECAM_WEIGHTS,
    StageContext,
    Verdict,
    load_classifier,
    make_batches,
    new_classifier,
    run_training,
    save_trained,
)
from recamlabel.stages.features import make_features, pooled, read_features
from recamlabel.training.objectives.classifier import ClassifierObjective
from recamlabel.training.objectives.recam import RecamObjective
from recamlabel.training.watch import TrainingFailedError, label_entropy

# Images that the trained classifier is asked about; a class's average precision is steady by then.
ASKED = 200
# Fewer images that were not trained on say less than those that were.
ENOUGH_HELD_OUT = 30
# A trained network may fall so far below a linear model on its own starting features.
TOLERANCE = 0.05
# With guessing at 0 and perfection at 1: a mean below the first with no class above the second is noise.
NOTHING, SOME = 0.05, 0.3
# With fewer images of either kind a random ranking is often good.
ENOUGH_TO_TELL = 10


def run_classifier(context: StageContext) -> Mapping[str, Any]:
    """Train the classifier from ImageNet weights, its head from where the gate's linear model ends."""
    config = context.config
    refuse_noise(context)
    torch.manual_seed(config.seed)
    net = new_classifier(context)
    load_backbone_weights(net.backbone, config.backbone.weights)
    images = context.catalog.training_images(config.data.train_splits)
    labels = context.catalog.dataset.labels(images)
    if config.classifier.head_init == "logistic":
        make_features(context)
        ids = [image.id for image in images]
        head = logistic_head(read_features(context, ids), labels, ids, config.gate.strength)
        net.head.weight.data.copy_(torch.from_numpy(head))
    batches = make_batches(context, config.classifier, net.backbone, offset=0)
    objective = ClassifierObjective(net, config.classifier)
    guess = label_entropy(labels)
    facts = run_training(
        context, objective, batches, config.classifier, guess, check=lambda: compare_with_gate(context, net)
    )
    if "ap" in facts:
        say(
            f"classifier: loss {facts.get('reached', math.nan):.3f} (guessing has {guess:.3f}), average precision "
            f"{facts['ap']:.2f} on {facts['ap_on']} (the gate's linear model: {facts['gate_ap']:.2f})"
        )
    save_trained(context, CLASSIFIER_WEIGHTS, net)
    return facts


def read_gate(context: StageContext) -> dict[str, Any]:
    """``gate.json``; empty where there is none, or where random features made it worthless."""
    path = context.run.path / "gate.json"
    if not path.is_file():
        return {}
    tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {} if tree.get("note") else tree


def refuse_noise(context: StageContext) -> None:
    """Stop before hours of training where no label has anything to do with its picture.

    Raises:
        TrainingFailedError: The gate's average precision of all classes is that of guessing.
    """
    judged = [one for one in read_gate(context).get("classes", ()) if one["ap"] is not None and one["chance"] < 1]
    if not judged or not _noise(judged):
        return
    gains = [_gain(one) for one in judged]
    best = judged[int(np.argmax(gains))]
    text = (
        "classifier: the labels look as if drawn at random: on held-out images a linear model recognises no class "
        f"better than a lucky guess (best: {best['name']!r}, average precision {best['ap']:.2f}, guessing has "
        f"{best['chance']:.2f}). Check that the rows of the label file belong to their images; objects of a few "
        "pixels may need larger inputs (--set maps.max_side=1280)"
    )
    if not context.config.runtime.force:
        raise TrainingFailedError(f"{text}. --force trains all the same")
    say(f"warning: {text}")


def _gain(one: Mapping[str, Any]) -> float:
    """Average precision of a class with guessing at 0 and perfection at 1."""
    return float((one["ap"] - one["chance"]) / (1 - one["chance"]))


def _noise(judged: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no class is better than a lucky random ranking; of few images, whether all are near guessing."""
    sizes = [(one, one["positives"], one["negatives"]) for one in judged if "positives" in one]
    enough = [(one["ap"], lucky_precision(*counts)) for one, *counts in sizes if min(counts) >= ENOUGH_TO_TELL]
    if enough and any(luck for _, luck in enough):
        return all(ap <= luck for ap, luck in enough)
    gains = [_gain(one) for one in judged]
    return max(gains) < SOME and float(np.mean(gains)) < NOTHING


def compare_with_gate(context: StageContext, net: ClassifierNet) -> Verdict:
    """The trained classifier's average precision beside that of the gate's linear model on the untrained features.

    On images that neither has seen, where there are enough; else on the training images, which the gate's
    model is asked about out of fold.
    """
    gate = {one["name"]: one for one in read_gate(context).get("classes", ())}
    catalog = context.catalog
    training = list(catalog.training_images(context.config.data.train_splits))
    known = {image.id for image in training}
    held_out = [image for image in catalog.images if image.id not in known and (image.present or image.absent)]
    figure, images = ("ap_held_out", held_out) if len(held_out) >= ENOUGH_HELD_OUT else ("ap", training)
    images = [images[place] for place in canonical_order([image.id for image in images])][:ASKED]
    if not gate:
        return Verdict()
    logits, labels = image_logits(context, net, images), catalog.dataset.labels(images)
    rows = []
    for number, name in enumerate(catalog.dataset.classes.names):
        own = labels[:, number]
        one = average_precision(own, logits[:, number]) if (own == 0).any() else None
        other = gate.get(name, {}).get(figure)
        rows += [] if one is None or other is None else [(one, other, float((own == 1).sum() / (own >= 0).sum()))]
    if not rows:
        return Verdict()
    ap, limit, chance = (float(np.mean(column)) for column in zip(*rows, strict=True))
    where = f"{len(images)} {'held-out' if figure == 'ap_held_out' else 'training'} images"
    failure = ""
    if ap < limit - TOLERANCE:
        failure = (
            f"its average precision on {where} is {ap:.2f} where a linear model before any training has {limit:.2f}"
        )
    # Nearer to guessing than to what was there at the start: dead, not merely overfitted.
    dead = ap - chance < (limit - chance) / 2
    return Verdict(failure, {"ap": round(ap, 4), "gate_ap": round(limit, 4), "ap_on": where}, dead)


def image_logits(context: StageContext, net: ClassifierNet, images: Sequence[LabelledImage]) -> NDArray[np.float64]:
    """Logits ``(N, K)`` of whole images, in their order; the network is left in training mode."""
    net.eval()
    found: dict[str, NDArray[np.float32]] = {}
    groups = batches_by_shape(context.catalog, list(images), context.batch_pixels)
    with track("classifier: check", len(images)) as advance:
        for group, pixels in read_ahead(groups, 2):
            for image, row in zip(group, pooled(context, net.backbone, pixels), strict=True):
                found[image.id] = row
            advance(len(group))
    net.train()
    weight = net.head.weight.detach().float().cpu().numpy().astype(np.float64)
    rows = [found[image.id] for image in images]
    return np.stack(rows).astype(np.float64) @ weight.T if rows else np.zeros((0, len(weight)))


def run_recam(context: StageContext) -> Mapping[str, Any]:
    """Re-activate from the converged classifier; its masks are the maps of ``maps.variant``.

    Plain CAM is computed on every training crop, as published; the maps of other variants are read
    from ``cams.h5`` and cut like the crop.
    """
    torch.manual_seed(context.config.seed + 1)
    net = RecamNet(load_classifier(context), context.config.recam, context.config.data.background)
    plain = context.config.maps.variant == "cam"
    masks = None if plain else MapStore(context.run.path / "cams.h5", len(context.catalog.dataset.classes))
    batches = make_batches(context, context.config.recam, net.classifier.backbone, offset=1, masks=masks)
    objective = RecamObjective(net, context.config.recam)
    # Of equally likely classes, which is what the softmax head starts from; fewer of them where not all compete.
    rivals = net.head.weight.shape[0] if context.config.recam.competing == "all" else 0
    guess = math.log(rivals) if rivals > 1 else None
    facts = run_training(context, objective, batches, context.config.recam, guess, "loss_sce")
    save_trained(context, RECAM_WEIGHTS, net)
    return facts
