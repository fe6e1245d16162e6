"""One of two processes: computes whole batches alone, then its part of them with the other, and says how they differ.

Started by ``tests/test_ranks.py`` with the variables that a launcher sets. ``python ranks_at_work.py FOLDER`` writes
``FOLDER/<rank>.json``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recamlabel.core import ranks
from recamlabel.data.batches import Batch
from recamlabel.models.backbones import Backbone
from recamlabel.models.layers.folded_norm import fold_norms
from recamlabel.models.layers.shared_norm import shared_norms
from recamlabel.models.networks import AffinityFeatures, ClassifierNet, RecamNet
from recamlabel.models.segmenter import Segmenter
from recamlabel.refine.config import AffinityConfig
from recamlabel.segment.config import SegmenterConfig
from recamlabel.storage.hdf5 import ShardedWriter
from recamlabel.training.config import ClassifierConfig, RecamConfig
from recamlabel.training.loop import Objective
from recamlabel.training.objectives.affinity import AffinityObjective
from recamlabel.training.objectives.classifier import ClassifierObjective
from recamlabel.training.objectives.recam import RecamObjective
from recamlabel.training.objectives.segmenter import SegmenterObjective
from recamlabel.training.reduced import share_gradients

SIDE, IMAGES = 32, 5  # two for the first process, three for the second


def backbone() -> Backbone:
    torch.manual_seed(0)
    return Backbone("resnet10t")


def whole() -> Batch:
    """Labels and pixels of which the two parts know very different numbers."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(IMAGES, 3, SIDE, SIDE, generator=generator)
    labels = torch.tensor([[1, -1], [-1, -1], [1, 0], [0, 1], [1, 1]], dtype=torch.int8)
    seeds = torch.randint(0, 3, (IMAGES, SIDE // 8, SIDE // 8), generator=generator).int()
    seeds = seeds.repeat_interleave(8, 1).repeat_interleave(8, 2)
    seeds[0, 4:] = 255
    weights = torch.tensor([0.1, 1.0, 0.5, 1.0, 2.0])
    return Batch(images, labels, 3, seeds, None, weights, most_labels=2)


def objectives() -> dict[str, Callable[[], Objective]]:
    def recam() -> Objective:
        config = RecamConfig(backbone_lr_factor=0.1, head_init="random")
        net = RecamNet(ClassifierNet(backbone(), 2), config, True)
        return RecamObjective(net, config, np.array([2.0, 1.0]), np.array([1.0, 3.0, 1.0], dtype=np.float32))

    def segmenter(method: str, cutmix: float) -> Objective:
        net = Segmenter(method, backbone(), 2)
        return SegmenterObjective(net, SegmenterConfig(method=method, cutmix=cutmix), 255, 10, background=True)

    return {
        "classifier": lambda: ClassifierObjective(ClassifierNet(backbone(), 2), ClassifierConfig()),
        "recam": recam,
        "affinity": lambda: AffinityObjective(AffinityFeatures(backbone()), AffinityConfig(radius=3), 255),
        "segmenter with CutMix": lambda: segmenter("deeplabv2", 1.0),
        "segmenter with norms": lambda: segmenter("linear", 0.0),
    }


def step(make: Callable[[], Objective], batch: Batch) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Figures, and gradients and statistics after one backward pass."""
    torch.manual_seed(2)
    objective = make()
    objective.module.train()
    fold_norms(objective.module)
    torch.manual_seed(3)
    with shared_norms(objective.module) as norms:
        loss, figures = objective.loss(batch)
        loss.backward()
    named = {"loss": loss.detach(), **{name: value.detach() for name, value in figures.items()}}
    figures = share_gradients(objective.module, named)
    state = {name: one.grad.clone() for name, one in objective.module.named_parameters() if one.grad is not None}
    state |= {name: value.clone() for name, value in objective.module.named_buffers() if "running" in name}
    return {**{name: float(value) for name, value in figures.items()}, "norms": float(norms)}, state


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference, as a share of the largest value of its tensor."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max() / one[name].abs().max().clamp(min=1e-4)) for name in one)


def write_together(folder: Path) -> list[str]:
    """A file of which each process makes a part; one image was there before."""

    class Image:
        def __init__(self, number: int) -> None:
            self.id = f"image{number}"

    with ShardedWriter(folder / "made.h5", "key", {}, shard_size=1) as writer:
        mine = writer.todo([Image(number) for number in range(6)])
        for image in mine:
            writer.add(image.id, {image.id: (np.array([ranks.rank()]), {})})
        writer.finish()
    return [image.id for image in mine]


def main(folder: Path) -> None:
    batch = whole()
    made = objectives()
    alone = {name: step(make, batch) for name, make in made.items()}
    told: dict[str, Any] = {"alone": {name: figures for name, (figures, _) in alone.items()}}
    with ranks.joined("cpu"), ranks.together("work" if ranks.is_first() else None) as order:
        own = ranks.slots(IMAGES)
        cut = slice(own.start, own.stop)
        part = replace(batch.map(lambda tensor: tensor[cut]), slots=cut, total=IMAGES)
        together = {name: step(make, part) for name, make in made.items()}
        told["together"] = {name: figures for name, (figures, _) in together.items()}
        told["difference"] = {name: difference(alone[name][1], together[name][1]) for name in made}
        told |= {"order": order, "slots": [*own], "share": ranks.share([1, 2, 3]), "world": ranks.world()}
        told["first"] = ranks.of_first(lambda: [ranks.world(), *ranks.share([1, 2, 3])])
        told["gathered"] = ranks.gathered(ranks.rank())
        told["merged"] = ranks.merged(ranks.rank() + 1, sum)
        told["workers"] = [ranks.portion(number) for number in (0, 1, 2, 5)]
        told["previous"] = float(ranks.previous_row(part.images)[0, 0, 0, 0] - batch.images[own.start - 1, 0, 0, 0])
        told["wrote"] = write_together(folder)
    (folder / f"{ranks.place().rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
