from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recamlabel.core.pool import map_in_order
from recamlabel.errors import RecamlabelError

SCRIPT = """
import os, sys, time
from pathlib import Path
from recamlabel.core.pool import map_in_order

def work(folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(1)

if __name__ == "__main__":
    for _ in map_in_order(work, iter([sys.argv[1]] * 500), 2, "test"):
        pass
"""


def square(number: int) -> int:
    return number * number


def die(number: int) -> int:
    os._exit(3)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers):
    assert list(map_in_order(square, iter(range(20)), workers, "test")) == [(n, n * n) for n in range(20)]


def test_a_dead_worker_is_explained():
    with pytest.raises(RecamlabelError, match=r"test: a worker process died.*--set runtime\.workers=1"):
        list(map_in_order(die, iter([1]), 2, "test"))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
@pytest.mark.parametrize("kind", ["SIGKILL", "SIGINT"])
def test_workers_end_with_their_parent(tmp_path, kind):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    seen = tmp_path / "seen"
    seen.mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(seen)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(seen.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int(path.name) for path in seen.iterdir()]
    parent.send_signal(getattr(signal, kind))
    parent.wait(timeout=60)  # not the minutes that the waiting tasks would take
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(workers) == 2 and not any(map(alive, workers))
