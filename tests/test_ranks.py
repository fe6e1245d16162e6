"""Several processes at one run: the same results, and an end that is said when one of them is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import TINY, arrays, free_port

from recamlabel.config import load_config
from recamlabel.core import ranks
from recamlabel.core.devices import pick_device
from recamlabel.core.ranks import Place, place
from recamlabel.errors import ConfigError
from recamlabel.run.fit import check_settings, fit
from recamlabel.storage.hdf5 import ShardedWriter
from recamlabel.storage.run_folder import RunFolder

HERE = Path(__file__).parent


def environment(rank: int, port: int, world: int = 2) -> dict[str, str]:
    """As a launcher sets it."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
    return {**os.environ, **{name: str(value) for name, value in names.items()}, "MASTER_ADDR": "127.0.0.1"}


def start(arguments: list[str], world: int = 2) -> list[subprocess.Popen[str]]:
    """So many processes, without a launcher that ends them when one of them ends."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, *arguments], env=environment(rank, port, world), stderr=subprocess.PIPE, text=True
        )
        for rank in range(world)
    ]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What two processes say of the batches and files that they have made together."""
    folder = tmp_path_factory.mktemp("ranks")
    processes = start([str(HERE / "ranks_at_work.py"), str(folder)])
    ends = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(ends)
    return folder, [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", ["classifier", "recam", "affinity", "segmenter with CutMix", "segmenter with norms"])
def test_two_processes_have_the_gradients_of_the_whole_batch(told, name):
    for rank in told[1]:
        assert rank["difference"][name] < 2e-4
        alone, together = rank["alone"][name], rank["together"][name]
        assert alone.pop("norms") == 0
        assert together.pop("norms") == (1 if name == "segmenter with norms" else 0)
        assert together == pytest.approx(alone, rel=1e-4, abs=1e-6)


def test_what_processes_tell_each_other(told):
    first, second = told[1]
    assert [one["order"] for one in told[1]] == ["work", "work"]
    assert (first["slots"], second["slots"]) == ([0, 1], [2, 3, 4])
    assert (first["share"], second["share"]) == ([1, 3], [2])
    # What one does for all it does alone.
    assert first["first"] == second["first"] == [1, 1, 2, 3]
    assert (first["gathered"], second["gathered"]) == ([0, 1], [])
    assert first["merged"] == second["merged"] == 3
    assert first["workers"] == second["workers"] == [0, 1, 1, 2]
    assert first["previous"] == second["previous"] == 0.0


def test_each_writes_its_images_and_the_first_makes_one_file(told):
    folder, (first, second) = told
    assert sorted(first["wrote"] + second["wrote"]) == [f"image{number}" for number in range(6)]
    with h5py.File(folder / "made.h5") as file:
        makers = {name: int(item[0]) for name, item in file.items()}
    assert makers == {**dict.fromkeys(first["wrote"], 0), **dict.fromkeys(second["wrote"], 1)}
    assert not (folder / ".made.h5.parts").exists()


def test_parts_of_several_processes_are_gone_on_with_by_one(tmp_path, monkeypatch):
    """And those of one by several: a part is known by its place alone."""
    for number in range(2):
        monkeypatch.setattr(ranks, "rank", lambda number=number: number)
        writer = ShardedWriter(tmp_path / "maps.h5", "key", {})
        writer.add(f"image{number}", {f"image{number}": (np.zeros(3), {})})
        writer.flush()
    names = sorted(path.name[:12] for path in (tmp_path / ".maps.h5.parts" / "key").iterdir())
    assert names == ["000000-rank0", "000001-rank1"]
    writer = ShardedWriter(tmp_path / "maps.h5", "key", {})
    assert writer.done == {"image0", "image1"}
    writer.finish()
    assert arrays(tmp_path / "maps.h5").keys() == {"image0", "image1"}


def test_a_single_process_is_alone():
    assert place({}) == Place() == place({"WORLD_SIZE": "4"})
    assert ranks.world() == 1 and ranks.is_first() and not ranks.in_team()
    with ranks.joined("cpu"):
        assert not ranks.in_team()


def test_variables_that_are_no_numbers_are_refused():
    with pytest.raises(ConfigError, match="RANK='one'"):
        place({"RANK": "one", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"})


@pytest.fixture
def gpus(monkeypatch):
    """``gpus(count, local_rank, local_world)``: a machine with so many GPUs, on which this is one of the processes."""

    def set_up(count, local_rank, local_world):
        monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
        monkeypatch.setattr("torch.cuda.device_count", lambda: count)
        for name, value in environment(local_rank, 1, local_world).items():
            monkeypatch.setenv(name, value)

    return set_up


def test_each_process_has_the_gpu_of_its_number(gpus):
    gpus(2, 1, 2)
    assert str(pick_device("auto")) == str(pick_device("cuda")) == "cuda:1"
    assert str(pick_device("cpu")) == "cpu"


@pytest.mark.parametrize("local_rank", [0, 1])
@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_fewer_gpus_than_processes_are_refused_by_all_of_them(gpus, name, local_rank):
    gpus(1, local_rank, 2)
    with pytest.raises(ConfigError, match=r"2 processes on a machine with 1 GPU.*--nproc-per-node 1.*--device cpu"):
        pick_device(name)


def test_one_gpu_for_all_is_refused(gpus):
    gpus(2, 0, 2)
    with pytest.raises(ConfigError, match=r"'cuda:0' is one GPU, and 2 processes.*CUDA_VISIBLE_DEVICES"):
        pick_device("cuda:0")


def test_no_gpu_at_all_is_the_cpu(gpus):
    gpus(0, 1, 2)
    assert str(pick_device("auto")) == "cpu"


def test_a_batch_has_an_image_for_each_process_or_none_starts(gpus):
    gpus(0, 0, 4)
    with pytest.raises(ConfigError, match=r"recam.batch_size: a batch of 3 images.*4 processes.*--nproc-per-node 3"):
        check_settings(load_config(assignments=["recam.batch_size=3", "runtime.device=cpu"]))


def fit_arguments(source: Path, out: Path) -> list[str]:
    pairs = [part for setting in TINY for part in ("--set", setting)]
    return [str(HERE / "fit_quickly.py"), "fit", str(source), "--out", str(out), *pairs]


def test_a_killed_process_ends_the_other_and_one_goes_on_to_the_same_masks(tiny_csv, copy_run, tmp_path):
    out = tmp_path / "two"
    # Without a launcher that would end it: the other process has to notice by itself.
    processes = start(fit_arguments(tiny_csv, out))
    log, waited = out / "work/log.jsonl", time.monotonic() + 200
    while not (log.exists() and '"refine"' in log.read_text()) and time.monotonic() < waited:
        time.sleep(0.02)
    processes[1].kill()
    began = time.monotonic()
    text = processes[0].communicate(timeout=100)[1]
    assert time.monotonic() - began < 60
    processes[1].communicate()
    assert (processes[0].returncode, processes[1].returncode) == (1, -signal.SIGKILL), text
    assert "recamlabel: rank 0: " in text and "the same command continues" in text
    made = RunFolder.open(out).state.stages
    assert "probe" in made and "quality" not in made
    # The same command as a single process: what two have made is taken as it is.
    run = fit(tiny_csv, out, load_config(assignments=TINY))
    assert run.state.stages["probe"] == made["probe"]
    _, one = copy_run(tmp_path / "one", *TINY)
    masks, expected = arrays(out / "masks.h5"), arrays(one.path / "masks.h5")
    assert masks.keys() == expected.keys() and len([*(out / "masks").rglob("*.png")]) == len(masks)
    different = sum(int((masks[name] != expected[name]).sum()) for name in masks)
    assert different <= 1e-3 * sum(mask.size for mask in masks.values())


def test_other_verbs_are_refused(tmp_path):
    command = [sys.executable, "-m", "recamlabel", "status", str(tmp_path)]
    ended = subprocess.run(
        command,
        env=environment(1, 1),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert "`recamlabel status` is one process, and a launcher has started 2" in ended.stderr
