"""Heads trained on stored features of a frozen backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from helpers import TINY, make_tiny_csv

from recamlabel.config import load_config
from recamlabel.models.backbones import Backbone
from recamlabel.models.networks import ClassifierNet
from recamlabel.run.fit import fit
from recamlabel.storage.hdf5 import leaf_paths
from recamlabel.training.cached import on_features

FROZEN = [*TINY, "backbone.frozen_stages=-1", "augment.views=2", "runtime.amp=false"]


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """``maps(*settings)``: the run folder, and its maps by name."""
    data = make_tiny_csv(tmp_path_factory.mktemp("data"))

    def run(*settings: str) -> tuple[Path, dict[str, np.ndarray]]:
        lines = [*FROZEN, *settings]
        out = fit(data, tmp_path_factory.mktemp("runs") / "run", load_config(assignments=lines), until="maps").path
        with h5py.File(out / "work/maps.h5") as file:
            return out, {name: file[name][()] for name in leaf_paths(file)}

    return run


def test_the_cache_changes_rounding_alone_whatever_it_has_room_for(maps, capsys) -> None:
    full, found = maps()
    with h5py.File(full / "work/crops.h5") as file:
        stored = list(leaf_paths(file["crops"]))
        size = file["crops"][stored[0]][()].nbytes
        assert file["crops"][stored[0]].shape[0] == 2, "each view of an image"
    capsys.readouterr()
    for room in (0, 2.5 * size / 1e9):
        out, others = maps(f"runtime.cache_gb={room:.12f}")
        with h5py.File(out / "work/crops.h5") as file:
            assert len(list(leaf_paths(file["crops"]))) == (2 if room else 0) if "crops" in file else not room
        assert f"has room for {2 if room else 0} of {len(stored)} images" in "".join(capsys.readouterr())
        assert found.keys() == others.keys()
        for name, values in found.items():
            # Convolutions of another number of images round otherwise.
            np.testing.assert_allclose(values.astype(float), others[name].astype(float), atol=2e-3)


def test_as_without_stored_features(maps) -> None:
    """More stages frozen than there are: the same frozen network, but each step looks at its crops itself."""
    out, found = maps()
    live, others = maps("backbone.frozen_stages=99")
    assert (out / "work/crops.h5").exists() and not (live / "work/crops.h5").exists()
    for name, values in found.items():
        # What is stored is rounded to half precision.
        np.testing.assert_allclose(values.astype(float), others[name].astype(float), atol=0.02)


def test_views_are_the_same_crops_in_turn() -> None:
    from recamlabel.adapters.base import LabelledImage
    from recamlabel.data.batches import Normalisation, TrainingBatches
    from recamlabel.data.config import AugmentConfig

    images = [LabelledImage(str(i), Path(str(i)), frozenset({"a"}), frozenset()) for i in range(3)]

    def visits(views: int, seed: int) -> list[Any]:
        labels = np.ones((3, 1), np.int8)
        augment = AugmentConfig(views=views)
        one = TrainingBatches(images, labels, 2, 6, augment, Normalisation((0.5,) * 3, (0.5,) * 3), seed)
        return [visit for step in range(6) for visit in one.visits(step)]

    # Seeds 4 and 5 are those of two stages of one run.
    drawn = [{(one.number, one.view, one.chance) for one in visits(2, seed)} for seed in (4, 5)]
    assert drawn[0] == drawn[1] and len(drawn[0]) == 6
    assert len({one.chance for one in visits(0, 4)}) == 12


def test_a_frozen_backbone_and_a_head_that_is_shared() -> None:
    backbone = Backbone("resnet18", 16, -1)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    net = ClassifierNet(backbone, 3)
    given = on_features(net)
    given.head.weight.data.fill_(2.0)
    assert net.head.weight.min() == 2.0
    features = backbone(torch.rand(1, 3, 64, 64))
    torch.testing.assert_close(given(features), net(torch.zeros(1, 3, 64, 64)) * 0 + given(features))
    assert list(given.state_dict()) == ["head.weight"], "no copy of the backbone in every checkpoint"
