"""Re-activation is left out for a class whose maps it moves elsewhere."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import torch
from helpers import TINY

from recamlabel.config import load_config
from recamlabel.run.fit import fit
from recamlabel.stages import agreement
from recamlabel.stages.agreement import correlation
from recamlabel.stages.view import View
from recamlabel.storage.hdf5 import leaf_paths


def test_maps_that_say_the_same_agree_and_a_constant_says_nothing() -> None:
    ramp = torch.arange(6.0).reshape(2, 3)
    assert correlation(ramp, 3 * ramp + 1) == 1.0
    assert correlation(ramp, -ramp) == -1.0
    assert correlation(ramp, torch.ones(2, 3)) == 0.0


@pytest.mark.parametrize(("weak", "left_out"), [(2, 0), (1000, 1)])
def test_a_class_of_few_images_needs_more(copy_run, tmp_path, monkeypatch, weak, left_out) -> None:
    monkeypatch.setattr(agreement, "agreements", lambda view, *heads: [0.6] + [0.8] * (len(classes(view)) - 1))
    data, run = copy_run(tmp_path, *TINY, until="classifier")
    lines = [*TINY, "recam.min_agreement=0.5", "gate.min_positives=2", f"gate.weak_positives={weak}"]
    out = fit(data, run.path, load_config(assignments=lines), until="maps").path
    tree = json.loads((out / "work/recam.json").read_text())
    assert tree["left_out"] == list(tree["agreement"])[:left_out]


def classes(view: View) -> tuple[str, ...]:
    return view.catalog.dataset.classes.names


@pytest.mark.parametrize("least", [0.0, 1.0])
def test_left_out_everywhere_or_nowhere(copy_run, tmp_path, capsys, least) -> None:
    lines = [*TINY, "recam.combine=fc2", "recam.head_init=random", f"recam.min_agreement={least}"]
    data, run = copy_run(tmp_path, *TINY, until="classifier")
    out = fit(data, run.path, load_config(assignments=lines), until="maps").path
    tree = json.loads((out / "work/recam.json").read_text())
    names = list(tree["agreement"])
    assert tree["left_out"] == (names if least else [])
    with h5py.File(out / "work/maps.h5") as file:
        equal = [np.array_equal(file["cam"][name][()], file["recam"][name][()]) for name in leaf_paths(file["cam"])]
    # An image without a label has no map, and those are equal anyway.
    assert all(equal) if least else not all(equal)
    said = "".join(capsys.readouterr())
    assert said.count("recam: left out for") == (len(names) if least else 0)
    if least:
        assert f"recam: left out for {names[0]!r}: its maps agree with the classifier's by" in said
