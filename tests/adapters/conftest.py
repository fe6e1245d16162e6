"""A FiftyOne database of the tests' own: FiftyOne would attach to any that runs already."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import pytest


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
    folder, port = Path(tempfile.mkdtemp(prefix="recamlabel-mongo-")), _free_port()
    place = ["--dbpath", str(folder), "--logpath", str(folder / "log"), "--port", str(port)]
    process = subprocess.Popen([server, *place, "--bind_ip", "127.0.0.1", "--nounixsocket"], stdout=subprocess.DEVNULL)

    def stop() -> None:
        process.terminate()
        process.wait(timeout=20)
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
    }
    return uri
