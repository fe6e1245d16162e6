"""``data.background=false``: no seed, no relabelled map, no loss and no mask knows a background."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from recamlabel.adapters.base import LabelledImage
from recamlabel.config import load_config
from recamlabel.core.classes import ClassTable
from recamlabel.data.batches import Batch
from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.refine.seeds import SeedRule, build_seeds
from recamlabel.run.fit import fit
from recamlabel.segment.config import SegmenterConfig
from recamlabel.training.objectives.segmenter import SegmenterObjective
from tests.helpers import TINY_SEGMENTER, draw


class Kept(dict):
    """Stands for a writer and for a file of maps."""

    done: frozenset[str] = frozenset()

    def add(self, image_id, arrays):
        self[image_id] = arrays[image_id][0]

    def todo(self, images):
        return list(images)


def seeds_of(tmp_path: Path, background: bool) -> dict[str, list]:
    table = ClassTable(("a", "b"), background)
    images = []
    for name, present in (("one", {"a"}), ("none", set())):
        draw(tmp_path / f"{name}.png", [], 0, size=(1, 3))
        absent = frozenset({"a", "b"} - present)
        images.append(LabelledImage(name, tmp_path / f"{name}.png", frozenset(present), absent))
    (tmp_path / "work").mkdir(exist_ok=True)
    with h5py.File(tmp_path / "work/maps.h5", "w") as maps:
        maps.create_dataset("one", data=np.float16([[[0.1, 0.5, 0.9]]])).attrs["class_ids"] = [1]
        maps.create_dataset("none", data=np.zeros((0, 1, 3), np.float16)).attrs["class_ids"] = []
        kept = Kept()
        build_seeds(images, table, maps, SeedRule(0.7, 0.3, 64, None, 255), kept, lambda *a: None, 1)
    return {name: array.tolist() for name, array in kept.items()}


def test_seeds(tmp_path):
    assert seeds_of(tmp_path, True) == {"one": [[0, 255, 1]], "none": [[0, 0, 0]]}
    assert seeds_of(tmp_path, False) == {"one": [[255, 255, 1]], "none": [[255, 255, 255]]}


class Fixed(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, images):
        return self.logits


def test_the_segmenters_loss_knows_the_classes_alone():
    logits = [[[[9.0, 9.0]], [[0.0, 0.0]], [[0.0, 2.0]]]]  # all for the background, then the second class
    batch = Batch(torch.zeros(1, 3, 1, 2), torch.tensor([[1, 1]]), 0, torch.tensor([[[1, 0]]]), None, None)
    with_it = SegmenterObjective(Fixed(logits), SegmenterConfig(), 255, 10, background=True).loss(batch)[0]
    without = SegmenterObjective(Fixed(logits), SegmenterConfig(), 255, 10, background=False).loss(batch)[0]
    assert float(without) == pytest.approx(np.log(2))  # the pixel of id 0 takes no part: nothing has that id
    assert float(with_it) > 4


def test_correction_never_makes_background():
    config = SegmenterConfig(correction=0.5, correction_start=0.0)
    logits = [[[[9.0]], [[0.0]], [[3.0]]]]
    batch = Batch(torch.zeros(1, 3, 1, 1), torch.tensor([[1, 1]]), 5, torch.tensor([[[1]]]), None, None)
    loss, figures = SegmenterObjective(Fixed(logits), config, 255, 10, background=False).loss(batch)
    assert figures["corrected"] == 1 and figures["accuracy"] == 1 and float(loss) == pytest.approx(0.0486, abs=1e-3)


def test_two_rounds_end_to_end(tmp_path):
    rows = ["image,labels,split"]
    for number, names in enumerate((["red"], ["blue"], ["red", "blue"], ["red"], ["blue"])):
        draw(tmp_path / f"data/{number}.png", names, number)
        rows.append(f"{number}.png,{' '.join(names)},train")
    (tmp_path / "data/labels.csv").write_text("\n".join(rows))
    lines = [*TINY_SEGMENTER, "data.background=false", "rounds=2", "probe.enabled=false"]
    run = fit(tmp_path / "data", tmp_path / "run", load_config(assignments=lines))
    assert not load_catalog(run.path / CATALOG_FILE).dataset.classes.background
    for part in (".", "rounds/1", "rounds/2"):
        for file in ("masks.h5", "segmenter.h5"):
            with h5py.File(run.path / part / file) as masks:
                assert all(0 not in masks[str(number)][()] for number in range(5)), (part, file)
    # Fused with probabilities among the labels alone: where there is one label it has all of them.
    with h5py.File(run.path / "work/maps.h5") as first, h5py.File(run.path / "rounds/2/work/maps.h5") as second:
        expected = first["recam/0"][()].astype(np.float32) / 2 + 0.5
        assert np.allclose(second["recam/0"][()].astype(np.float32), expected, atol=2e-3)
