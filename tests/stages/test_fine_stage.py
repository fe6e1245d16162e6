"""The stage ``fine``: what it writes, who reads it, when it is there at all, how it goes on after a kill."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from recamlabel.errors import ConfigError
from recamlabel.run.fit import fit
from recamlabel.stages.fine import wants_fine
from tests.helpers import TINY, arrays, stop_after
from tests.stages.test_probe_stage import config

FINE = "probe.fine_sides=[96,128]"


@pytest.fixture(scope="module")
def finished(copy_run, tmp_path_factory):
    data, run = copy_run(tmp_path_factory.mktemp("fine"), *TINY, until="maps")
    return fit(data, run.path, config(FINE), until="probe")


def test_the_refined_source_alone_and_the_probe_joins_it(finished):
    maps, fine, fused = (arrays(finished.path / name) for name in ("work/maps.h5", "work/fine.h5", "work/fused.h5"))
    assert fine.keys() == {name for name in maps if name.startswith("recam/")}
    assert any(not np.array_equal(fine[name], maps[name]) for name in fine)
    with h5py.File(finished.path / "work/fine.h5") as one, h5py.File(finished.path / "work/maps.h5") as two:
        assert all(one[name].attrs["class_ids"].tolist() == two[name].attrs["class_ids"].tolist() for name in fine)
    for name, array in fine.items():
        assert array.shape == maps[name].shape
        probe = fused.get(name.replace("recam/", "probe/"))
        if probe is None:
            assert np.array_equal(fused[name], array)
        else:
            expected = (array.astype(np.float32) + probe.astype(np.float32)) / 2
            assert np.allclose(fused[name].astype(np.float32), expected, atol=2e-3)
        plain = name.replace("recam/", "cam/")
        assert np.array_equal(fused[plain], maps[plain])


def test_it_goes_on_after_a_kill_with_the_same_result(finished, copy_run, tmp_path, monkeypatch):
    data, run = copy_run(tmp_path, *TINY, until="maps")
    out = run.path
    stop_after(monkeypatch, "work/fine.h5", 4)
    with pytest.raises(KeyboardInterrupt):
        fit(data, out, config(FINE), until="fine")
    assert not (out / "work/fine.h5").exists()
    fit(data, out, config(FINE), until="fine")
    one, two = arrays(finished.path / "work/fine.h5"), arrays(out / "work/fine.h5")
    assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def test_plain_cam_can_be_the_source(copy_run, tmp_path):
    data, run = copy_run(tmp_path, *TINY, until="maps")
    fit(data, run.path, config(FINE, "refine.source=cam"), until="fine")
    assert {name.split("/")[0] for name in arrays(run.path / "work/fine.h5")} == {"cam"}


@pytest.mark.parametrize(
    "lines", [["probe.fine_sides=[]"], [FINE, "probe.enabled=false"], [FINE, "maps.variant=layercam"]]
)
def test_it_is_left_out(lines):
    assert wants_fine(config(FINE)) and not wants_fine(config(*lines))


def test_impossible_sides_are_refused():
    with pytest.raises(ConfigError, match=r"fine_sides must lie in 32\.\.4096, got \[0\]"):
        config("probe.fine_sides=[0]")
