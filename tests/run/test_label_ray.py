"""``recamlabel label --engine ray``: a cluster of this machine's own, with two workers."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from helpers import TINY_SEGMENTER, arrays, free_port

from recamlabel.cli.main import run as run_cli
from recamlabel.errors import MissingExtraError, RecamlabelError
from recamlabel.run.label import ray_engine
from recamlabel.run.label.batch import Batch, Job, Labeller
from recamlabel.run.label.verb import Options, label

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ray():
    """A local cluster, as `label` finds it where one was started before; the test's own imports are its workers'."""
    ray = pytest.importorskip("ray", reason="Ray is not installed (extra cluster)")
    pytest.importorskip("ray.data", reason="Ray Data is not installed (extra cluster)")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    options = {"include_dashboard": False, "object_store_memory": ray_engine.STORE_BYTES, "log_to_driver": False}
    ray.init(address="local", num_cpus=2, **options)
    yield ray
    ray.shutdown()


def made(out: Path) -> dict:
    found: dict = {}
    for shard in sorted((out / "shards").glob("*.h5")):
        found |= arrays(shard)
    return found


@pytest.mark.slow
def test_two_workers_make_what_this_process_makes_and_stop_with_what_is_finished(ray, copy_run, tmp_path, capsys):
    data, run = copy_run(tmp_path, *TINY_SEGMENTER, "segmenter.predict.smooth=none")
    label(run.path, data, tmp_path / "here", Options(shard_images=2, workers=1, labels=False))
    good = (data / "images/7.png").read_bytes()
    (data / "images/7.png").write_bytes(b"no image")
    arguments = ["label", str(data), "--run", str(run.path), "--out", str(tmp_path / "out"), "--no-labels"]
    arguments += ["--engine", "ray", "--workers", "2", "--shard-images", "2"]
    arguments[arguments.index("--workers") + 1] = "1"
    assert run_cli(arguments) == 1
    told = capsys.readouterr().err
    assert "7.png: not an image" in told and "finished shards are kept" in told and "Traceback" not in told
    (data / "images/7.png").write_bytes(good)
    kept = len(list((tmp_path / "out/shards").glob("*.parquet")))
    arguments[arguments.index("--workers") + 1] = "2"
    assert run_cli(arguments) == 0
    assert kept == 3 and "3 of 4 shards are finished, skipped" in capsys.readouterr().err
    one, other = made(tmp_path / "here"), made(tmp_path / "out")
    assert one.keys() == other.keys()
    # Workers have one thread each and this process may have more, which round otherwise: ties of a network that has
    # learnt next to nothing.
    assert sum((one[name] != other[name]).mean() for name in one) / len(one) < 0.02


def test_a_worker_that_has_another_version_says_so(ray, tmp_path, monkeypatch):
    job = Job(tmp_path, False, identity={"recamlabel": "0.0.1"})
    with pytest.raises(RecamlabelError, match=r"worker .*: has recamlabel .*, the driver 0\.0\.1"):
        list(ray_engine._shards(job, [Batch(0, "", ())], 1))


def test_a_worker_that_dies_is_an_error_with_a_way_out(ray, tmp_path, monkeypatch):
    with pytest.raises(RecamlabelError, match="finished shards are kept, the same command again does the rest"):
        list(ray_engine._shards(Job(None, False), [Batch(0, "", ())], 1))  # type: ignore[arg-type]


def test_a_full_disk_of_a_worker_is_told_as_such(monkeypatch):
    def full(self, batch):
        raise OSError(28, "No space left on device", "/tmp/scratch")

    monkeypatch.setattr(Labeller, "__call__", full)
    sent = pickle.dumps((Job(Path("run"), False), Batch(0, "", ())))
    error = pickle.loads(ray_engine.Worker()({"batch": [sent]})["shard"][0])
    assert isinstance(error, OSError) and error.errno == 28 and "on worker" in str(error)


def test_without_ray_it_says_what_to_install(monkeypatch):
    def missing(name: str):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(ray_engine, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'recamlabel\[cluster\]', or use --engine local"):
        ray_engine.on_ray(None, None)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("somewhere", "expected HOST:PORT, ray://HOST:PORT or auto"),
        ("ray://127.0.0.1:{port}", "nothing answers there; .* without --ray-address one of this machine's own"),
    ],
)
def test_an_address_that_does_not_answer_is_refused_at_once(monkeypatch, address, text):
    monkeypatch.setattr(ray_engine, "import_module", lambda name: None)
    with pytest.raises(RecamlabelError, match=text):
        ray_engine.on_ray(None, address.format(port=free_port()))
