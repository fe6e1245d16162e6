"""Fixtures, and the environment every test runs in."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Set before torch is loaded: threads that sleep at barriers leave the cores to the other test process.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parent))

import pytest
from helpers import free_port, make_tiny_csv

from recamlabel.maps import local, probe

# Nine tenths of a tiny run's time: what is learnt is tested under tests/maps, which has the real number of steps.
REAL_STEPS = {(probe, "STEPS"): probe.STEPS, (local, "LEAST_STEPS"): local.LEAST_STEPS}
for module, name in REAL_STEPS:
    setattr(module, name, 10)


@pytest.fixture
def real_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fits of probe and local maps are as long as a user's."""
    for (module, name), steps in REAL_STEPS.items():
        monkeypatch.setattr(module, name, steps)


@pytest.fixture
def tiny_csv(tmp_path: Path) -> Path:
    """A data set of :func:`helpers.make_tiny_csv`."""
    return make_tiny_csv(tmp_path)


CopyRun = Callable[..., tuple[Path, Any]]


@pytest.fixture(scope="session")
def copy_run(tmp_path_factory: pytest.TempPathFactory) -> CopyRun:
    """``copy_run(folder, *settings, until=None)``: the tiny data set and its finished run in a folder of one's own.

    Each run is made once a process. The copy is ``folder/data``, ``folder/truth`` and ``folder/run``; its data set is
    read once more by the next ``fit``, as it lies elsewhere, and nothing else is done again.
    """
    made: dict[tuple[str, ...], Path] = {}

    def copy(folder: Path, *settings: str, until: str | None = None) -> tuple[Path, Any]:
        from recamlabel.config import load_config
        from recamlabel.run.fit import fit
        from recamlabel.storage.run_folder import RunFolder

        key = (*settings, until or "")
        if key not in made:
            base = tmp_path_factory.mktemp("made")
            fit(make_tiny_csv(base), base / "run", load_config(assignments=settings), until=until)
            made[key] = base
        shutil.copytree(made[key], folder, dirs_exist_ok=True)
        for name in ("work/dataset.json", "run.toml"):
            text = (folder / "run" / name).read_text(encoding="utf-8")
            (folder / "run" / name).write_text(text.replace(str(made[key]), str(folder)), encoding="utf-8")
        return folder / "data", RunFolder.open(folder / "run")

    return copy


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def fiftyone_database() -> str:
    """Start a MongoDB and point FiftyOne at it; skips where either is not installed."""
    spec = find_spec("fiftyone")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("FiftyOne is not installed (extra review)")
    server = Path(next(iter(spec.submodule_search_locations))) / "db/bin/mongod"
    if not server.is_file():
        pytest.skip(f"FiftyOne has no MongoDB ({server})")
    folder, port = Path(tempfile.mkdtemp(prefix="recamlabel-mongo-")), free_port()
    place = ["--dbpath", str(folder), "--logpath", str(folder / "log"), "--port", str(port)]
    command = [str(server), *place, "--bind_ip", "127.0.0.1", "--nounixsocket"]
    # The pipe ends with this process, however that ends: a worker of pytest-xdist may be killed before its exit hooks.
    keeper = '"$@" > /dev/null & read -r _; kill $!; wait $!'
    process = subprocess.Popen(["sh", "-c", keeper, "sh", *command], stdin=subprocess.PIPE)

    def stop() -> None:
        process.communicate(timeout=20)
        shutil.rmtree(folder, ignore_errors=True)

    # Registered before FiftyOne's own exit hook, so run after it: without a database that waits half a minute.
    atexit.register(stop)
    for _ in range(100):
        if _answers(port):
            break
        time.sleep(0.1)
    else:
        pytest.skip("the MongoDB of FiftyOne does not start here")
    uri = f"mongodb://127.0.0.1:{port}"
    os.environ |= {
        "FIFTYONE_DATABASE_URI": uri,
        "FIFTYONE_DATABASE_NAME": f"recamlabel-{os.getpid()}",
        "FIFTYONE_DATABASE_VALIDATION": "0",
        "FIFTYONE_DO_NOT_TRACK": "1",
        "FIFTYONE_SHOW_PROGRESS_BARS": "0",
        "FIFTYONE_APP_COLORSCALE": "jet",
    }
    return uri
