"""Which classes the re-activation is left out for: those whose maps it moves elsewhere.

Re-activation is to find more of what the classifier goes by. Of a class with few images the softmax head can learn
what else is in them instead, and its maps then have little to do with the classifier's own. So for each class the maps
of both are correlated, image by image, and where the mean is low the classifier's maps stay. No mask has a part in it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from recamlabel.adapters.base import LabelledImage
from recamlabel.core.devices import looking
from recamlabel.core.progress import say
from recamlabel.data.batches import Normalisation
from recamlabel.data.passes import image_pass
from recamlabel.gate.crossval import canonical_order
from recamlabel.models.backbones import Backbone
from recamlabel.models.cam import class_activation
from recamlabel.models.inputs import Pixels, input_size
from recamlabel.stages.view import View
from recamlabel.storage.atomic import write_text

RECAM_FILE = "recam.json"
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
    weight = learnt[1]["recam"].clone()
    values = agreements(view, plain, learnt) if least > 0 else [math.nan] * len(names)
    left_out = [number for number, value in enumerate(values) if value < least]
    for number in left_out:
        weight[number] = plain[1]["cam"][number]
        say(
            f"recam: left out for {names[number]!r}: its maps agree with the classifier's by {values[number]:.2f} "
            f"(correlation; {least:.2f} is asked for), so those stay"
        )
    tree = {
        "stage_key": view.key,
        "agreement": {
            name: None if math.isnan(one) else round(one, 4) for name, one in zip(names, values, strict=True)
        },
        "left_out": [names[number] for number in left_out],
    }
    write_text(view.run.path / RECAM_FILE, json.dumps(tree, indent=1, ensure_ascii=False))
    view.run.update_metrics(METRICS_SECTION, tree, stage="maps")
    return weight


def settled(view: View, learnt: Tensor, plain: Tensor) -> dict[str, Tensor]:
    """The head ``recam`` as stage ``maps`` settled it, for stages after it."""
    tree = json.loads((view.run.path / RECAM_FILE).read_text(encoding="utf-8"))
    weight, names = learnt.clone(), list(view.catalog.dataset.classes.names)
    for name in tree["left_out"]:
        weight[names.index(name)] = plain[names.index(name)]
    return {"recam": weight}


def agreements(view: View, plain: tuple[Backbone, Heads], learnt: tuple[Backbone, Heads]) -> list[float]:
    """By class the mean correlation of both maps over training images; NaN for a class without one."""
    names = view.catalog.dataset.classes.names
    sums = {name: [0.0, 0] for name in names}
    normalisation = Normalisation(plain[0].mean, plain[0].std)
    for group, pixels in image_pass(
        view.catalog, sample(view), "recam: check", view.batch_pixels, alike=view.alike(view.config.maps.max_side)
    ):
        size = input_size(pixels[0].shape, view.config.maps.max_side, view.device)
        inputs = Pixels(pixels, normalisation, view.device).at(*size).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), looking(view.device, view.config.runtime.amp):
            features = [plain[0](inputs).float()]
            features.append(features[0] if learnt[0] is plain[0] else learnt[0](inputs).float())
        maps = [
            class_activation(part, head)
            for part, head in zip(features, (plain[1]["cam"], learnt[1]["recam"]), strict=True)
        ]
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


def sample(view: View) -> Sequence[LabelledImage]:
    """Training images, until every class has enough of them, in an order that their ids alone decide."""
    images = view.catalog.training_images(view.config.data.train_splits)
    count: dict[str, int] = {}
    chosen = []
    for position in canonical_order([image.id for image in images]):
        image = images[position]
        if any(count.get(name, 0) < PER_CLASS for name in image.present):
            chosen.append(image)
            count |= {name: count.get(name, 0) + 1 for name in image.present}
    return chosen
