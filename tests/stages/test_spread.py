"""Stage ``spread``: the maps that are refined come from it."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from helpers import TINY

from recamlabel.config import load_config
from recamlabel.run.fit import fit
from recamlabel.stages.spread import fewer_patches
from recamlabel.storage.hdf5 import leaf_paths


@pytest.mark.parametrize("more", [[], ["probe.enabled=false"]])
def test_maps_are_spread_and_all_else_stays(copy_run, tmp_path, more) -> None:
    data, run = copy_run(tmp_path, *TINY, until="maps")
    lines = [*TINY, *more, "refine.affinity=features"]
    out = fit(data, run.path, load_config(assignments=lines), until="refine").path
    before = out / ("work/maps.h5" if more else "work/fused.h5")
    with h5py.File(before) as old, h5py.File(out / "work/spread.h5") as new:
        assert set(new) == set(old)
        names = list(leaf_paths(old["recam"]))
        assert names == list(leaf_paths(new["recam"]))
        changed = 0
        for name in names:
            np.testing.assert_array_equal(old["cam"][name][()], new["cam"][name][()])
            one, other = old["recam"][name], new["recam"][name]
            assert list(one.attrs["class_ids"]) == list(other.attrs["class_ids"]) and one.shape == other.shape
            changed += not np.array_equal(one[()], other[()])
        assert changed, "patches of a random network are alike by some measure"


def test_large_inputs_have_fewer_patches() -> None:
    for size in ((4000, 3000), (100_000, 8), (17, 40_000)):
        found = fewer_patches(size, 16)
        assert -(-found[0] // 16) * -(-found[1] // 16) <= 4096 and min(found) >= 1
    assert fewer_patches((640, 640), 16) == (640, 640)
