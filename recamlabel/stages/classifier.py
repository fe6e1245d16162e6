"""Stage ``classifier``: the multi-label classifier whose weights make the class maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recamlabel.adapters.base import LabelledImage
from recamlabel.core.devices import Halving
from recamlabel.core.progress import say
from recamlabel.data.learnable import picture_reasons, untellable_reasons
from recamlabel.data.passes import image_pass
from recamlabel.gate.crossval import average_precision, canonical_order
from recamlabel.gate.head_start import logistic_head
from recamlabel.gate.verdicts import lucky_precision
from recamlabel.models.losses import rare_class_weights
from recamlabel.models.networks import ClassifierNet
from recamlabel.models.weights import load_backbone_weights
from recamlabel.stages.cost import Cost, crop_pixels, crops_read, one_pass, steps_of
from recamlabel.stages.crops import CACHED_STEP, cached, is_cached
from recamlabel.stages.features import pooled, read_features
from recamlabel.stages.gate import read_gate
from recamlabel.stages.graph import Scope, Stage
from recamlabel.stages.local import read_scale
from recamlabel.stages.networks import CLASSIFIER_WEIGHTS, new_classifier
from recamlabel.stages.training import Verdict, make_batches, run_training, save_trained
from recamlabel.stages.view import View
from recamlabel.training.objectives.classifier import ClassifierObjective
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


def run_classifier(view: View) -> Mapping[str, Any]:
    """Train the classifier from ImageNet weights, its head from where the gate's linear model ends."""
    config = view.config
    useless = refuse_noise(view) or nothing_to_tell(view)
    torch.manual_seed(config.seed)
    net = new_classifier(view)
    load_backbone_weights(net.backbone, config.backbone.weights)
    images = view.catalog.training_images(config.data.train_splits)
    labels = view.catalog.dataset.labels(images)
    if config.classifier.head_init == "logistic":
        ids = [image.id for image in images]
        with read_features(view, ids) as features:
            head = logistic_head(features, labels, ids, config.gate.strength)
        net.head.weight.data.copy_(torch.from_numpy(head))
    batches = make_batches(view, config.classifier, net.backbone, offset=0)
    weights = rare_class_weights(labels, config.classifier.rare_weight)
    taught, batches = cached(view, net, batches)
    objective = ClassifierObjective(taught, config.classifier, weights)
    guess = label_entropy(labels, weights)
    facts = run_training(view, objective, batches, config.classifier, guess, check=lambda: compare_with_gate(view, net))
    if "ap" in facts:
        say(
            f"classifier: loss {facts.get('reached', math.nan):.3f} (guessing has {guess:.3f}), average precision "
            f"{facts['ap']:.2f} on {facts['ap_on']} (the gate's linear model: {facts['gate_ap']:.2f})"
        )
    save_trained(view, CLASSIFIER_WEIGHTS, net)
    return {**facts, "useless": True} if useless else facts


def nothing_to_tell(view: View) -> bool:
    """Whether nothing can be learnt from the labels or the pictures as they are: only ``--force`` comes so far."""
    splits = view.config.data.train_splits
    return bool(picture_reasons(view.catalog) or untellable_reasons(view.catalog.dataset, splits))


def refuse_noise(view: View) -> bool:
    """Stop before hours of training where no label has anything to do with its picture.

    Returns:
        Whether that is so, and ``--force`` goes on all the same.

    Raises:
        TrainingFailedError: The gate's average precision of all classes is that of guessing.
    """
    judged = [one for one in read_gate(view.run).get("classes", ()) if one["ap"] is not None and one["chance"] < 1]
    if not judged or not _noise(judged):
        return False
    if (scale := read_scale(view)).get("admitted"):
        say(f"warning: classifier: the whole image tells nothing of the labels; local maps {scale['line']}")
        return False
    gains = [_gain(one) for one in judged]
    best = judged[int(np.argmax(gains))]
    luck = lucky_precision(best["positives"], best["negatives"]) if "positives" in best else 0.0
    lucky = f", and up to {luck:.2f} with luck" if luck else ""
    text = (
        "classifier: the labels look as if drawn at random: on held-out images a linear model recognises no class "
        f"better than a lucky guess (best: {best['name']!r}, average precision {best['ap']:.2f}, guessing has "
        f"{best['chance']:.2f}{lucky}). Check that the rows of the label file belong to their images; objects of a few "
        "pixels may need larger inputs (--set maps.max_side=1280)"
    )
    if not view.config.runtime.force:
        raise TrainingFailedError(f"{text}. --force trains all the same")
    say(f"warning: {text}")
    return True


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


def compare_with_gate(view: View, net: ClassifierNet) -> Verdict:
    """The trained classifier's average precision beside that of the gate's linear model on the untrained features.

    On images that neither has seen, where there are enough; else on the training images, which the gate's
    model is asked about out of fold.
    """
    gate = {one["name"]: one for one in read_gate(view.run).get("classes", ())}
    catalog = view.catalog
    training = list(catalog.training_images(view.config.data.train_splits))
    training_ids = {image.id for image in training}
    held_out = [image for image in catalog.images if image.id not in training_ids and (image.present or image.absent)]
    figure, images = ("ap_held_out", held_out) if len(held_out) >= ENOUGH_HELD_OUT else ("ap", training)
    images = [images[position] for position in canonical_order([image.id for image in images])][:ASKED]
    if not gate:
        return Verdict()
    logits, labels = image_logits(view, net, images), catalog.dataset.labels(images)
    rows = []
    for number, name in enumerate(catalog.dataset.classes.names):
        targets = labels[:, number]
        one = average_precision(targets, logits[:, number]) if (targets == 0).any() else None
        other = gate.get(name, {}).get(figure)
        rows += (
            [] if one is None or other is None else [(one, other, float((targets == 1).sum() / (targets >= 0).sum()))]
        )
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


def image_logits(view: View, net: ClassifierNet, images: Sequence[LabelledImage]) -> NDArray[np.float64]:
    """Logits ``(N, K)`` of whole images, in their order; the network is left in training mode."""
    net.eval()
    pooled_by_id: dict[str, NDArray[np.float32]] = {}
    halving = Halving("classifier: check")
    for group, pixels in image_pass(
        view.catalog, images, "classifier: check", view.batch_pixels, alike=view.alike(view.config.maps.max_side)
    ):
        rows = chain.from_iterable(halving(partial(pooled, view, net.backbone), pixels))
        pooled_by_id |= {image.id: row for image, row in zip(group, rows, strict=True)}
    net.train()
    weight = net.head.weight.detach().float().cpu().numpy().astype(np.float64)
    pooled_rows = [pooled_by_id[image.id] for image in images]
    return np.stack(pooled_rows).astype(np.float64) @ weight.T if pooled_rows else np.zeros((0, len(weight)))


def _reads(scope: Scope) -> tuple[str, ...]:
    strength = ("gate.strength",) if scope.config.classifier.head_init == "logistic" else ()
    return ("backbone", "augment", "classifier", "seed", "data.train_splits", "maps.max_side", *strength)


def _cost(scope: Scope) -> Cost:
    schedule = scope.config.classifier
    check = one_pass(scope).times(min(1.0, ASKED / max(1, len(scope.catalog.images))))
    if is_cached(scope.config):
        return Cost(fixed=CACHED_STEP * steps_of(scope, schedule)) + check
    return Cost(training=crop_pixels(scope, schedule), read=crops_read(scope, schedule)) + check


STAGE = Stage(
    "classifier",
    3,
    run_classifier,
    "multi-label classifier",
    needs=("features", "crops"),
    peeks=("gate", "local"),
    reads=_reads,
    makes=(CLASSIFIER_WEIGHTS,),
    facts=lambda scope: {"training": scope.training, "weights": scope.weights},
    shared=True,
    cost=_cost,
)
