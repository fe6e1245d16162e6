"""Which classes the re-activation is left out for: those whose maps it moves elsewhere.

Re-activation is to find more of what the classifier goes by. Of a class with few images the softmax head can learn
what else is in them instead, and its maps then have little to do with the classifier's own. So for each class the maps
of both are correlated, image by image, and where the mean is low the classifier's maps stay. What is low depends on the
number of images, as the softmax head of a few is the likelier to go astray. No mask has a part in it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from recamlabel.adapters.base import LabelledImage
from recamlabel.core.progress import say
from recamlabel.data.batches import Normalisation
from recamlabel.data.passes import image_pass
from recamlabel.gate.crossval import canonical_order
from recamlabel.models.backbones import Backbone
from recamlabel.models.cam import class_activation
from recamlabel.models.inputs import input_size, run_network
from recamlabel.stages.map_files import some_of_each
from recamlabel.stages.view import View
from recamlabel.storage.atomic import write_text
from recamlabel.storage.places import placed

RECAM_FILE = "work/recam.json"
METRICS_SECTION = "recam"
# Images of each class; a mean over so many is steady enough.
PER_CLASS = 12

Heads = Mapping[str, Tensor]


def settle(view: View, plain: tuple[Backbone, Heads], learnt: tuple[Backbone, Heads]) -> Tensor:
    """The weight of the re-activated maps, with the classifier's own rows for classes that it is left out for.

    Writes ``recam.json`` and says which classes these are.

    Args:
        view: Of the run.
        plain: The classifier's backbone and its head ``cam``.
        learnt: The re-activated network's backbone and its head ``recam``.

    Returns:
        ``(K, D)``.
    """
    names, least = view.catalog.dataset.classes.names, view.config.recam.min_agreement
    values = agreements(view, plain, learnt) if least > 0 else [math.nan] * len(names)
    by_name = dict(zip(names, values, strict=True))
    labels = view.catalog.dataset.labels(view.catalog.training_images(view.config.data.train_splits))
    asked = {
        name: asked_for(least, count, view.config.gate.weak_positives)
        for name, count in zip(names, (labels > 0).sum(axis=0).tolist(), strict=True)
    }
    left_out = [name for name, value in by_name.items() if value < asked[name]]
    for name in left_out:
        say(
            f"recam: left out for {name!r}: its maps agree with the classifier's by {by_name[name]:.2f} "
            f"(correlation; {asked[name]:.2f} is asked for), so those stay"
        )
    agreement = {name: None if math.isnan(value) else round(value, 4) for name, value in by_name.items()}
    tree = {"stage_key": view.key, "agreement": agreement, "left_out": left_out}
    write_text(view.run.path / RECAM_FILE, json.dumps(tree, indent=1, ensure_ascii=False))
    view.run.update_metrics(METRICS_SECTION, tree, stage="maps")
    return settled(view, learnt[1]["recam"], plain[1]["cam"])


def asked_for(least: float, images: int, weak: int) -> float:
    """The agreement that a class needs: halfway from ``least`` to 1 where it has fewer than ``weak`` training images.

    Args:
        least: ``recam.min_agreement``; 0 asks for nothing.
        images: Training images with the class.
        weak: ``gate.weak_positives``.

    Example:
        >>> asked_for(0.5, 40, 15), asked_for(0.5, 10, 15), asked_for(0.0, 10, 15)
        (0.5, 0.75, 0.0)
    """
    return (1 + least) / 2 if least > 0 and images < weak else least


def settled(view: View, learnt: Tensor, plain: Tensor) -> Tensor:
    """The weight ``(K, D)`` as ``recam.json`` has it: the classifier's rows for the classes that are left out."""
    tree = json.loads(placed(view.learnt.path / RECAM_FILE).read_text(encoding="utf-8"))
    kept = [view.catalog.dataset.classes.id_of(name) - 1 for name in tree["left_out"]]
    weight = learnt.clone()
    weight[kept] = plain[kept]
    return weight


def agreements(view: View, plain: tuple[Backbone, Heads], learnt: tuple[Backbone, Heads]) -> list[float]:
    """By class the mean correlation of both maps over training images; NaN for a class without one."""
    names = view.catalog.dataset.classes.names
    sums = {name: [0.0, 0] for name in names}
    normalisation = Normalisation(plain[0].mean, plain[0].std)
    side, shared = view.config.maps.max_side, learnt[0] is plain[0]
    images = some_of_each(_shuffled(view), PER_CLASS)
    for group, pixels in image_pass(view.catalog, images, "recam: check", view.batch_pixels, alike=view.alike(side)):
        ask = partial(
            run_network,
            images=pixels,
            size=input_size(pixels[0].shape, side, view.device),
            normalisation=normalisation,
            device=view.device,
            amp=view.config.runtime.amp,
        )
        features = ask(plain[0]).float()
        again = features if shared else ask(learnt[0]).float()
        maps = class_activation(features, plain[1]["cam"]), class_activation(again, learnt[1]["recam"])
        for row, image in enumerate(group):
            for name in image.present:
                number = names.index(name)
                sums[name][0] += correlation(maps[0][row, number], maps[1][row, number])
                sums[name][1] += 1
    return [total / count if count else math.nan for total, count in sums.values()]


def correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's correlation of two maps ``(h, w)``; 0 where one of them is constant.

    Example:
        >>> correlation(torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 1.0]]))
        -1.0
    """
    pair = torch.stack([one.flatten(), other.flatten()]).double()
    if bool((pair.amax(dim=1) == pair.amin(dim=1)).any()):
        return 0.0
    return round(float(torch.corrcoef(pair)[0, 1]), 6)


def _shuffled(view: View) -> list[LabelledImage]:
    """The training images in an order that their ids alone decide."""
    images = view.catalog.training_images(view.config.data.train_splits)
    return [images[position] for position in canonical_order([image.id for image in images])]
