"""Verbs that are killed: benchmarks/kill_test.py in short, and that it would see what is wrong.

In processes of its own: it forks, which a process in which torch has started threads must not.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

KILL_TEST = Path(__file__).parents[2] / "benchmarks" / "kill_test.py"
VERBS = ("fit --with-review", "masks", "export voc", "export coco", "predict", "report", "calibrate", "review")
VERBS += ("evaluate", "convert", "init")
# As `init` was: what is killed half-way leaves half a table, which is never written over.
BROKEN = """
import contextlib, importlib, importlib.util, sys
spec = importlib.util.spec_from_file_location("kill_test", sys.argv[1])
sys.modules["kill_test"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
importlib.import_module("recamlabel.cli.init").replacing = contextlib.nullcontext
del sys.argv[1]
sys.exit(module.main())
"""


def kill(out: Path, *words: str, start: tuple[str, ...] = (str(KILL_TEST),)) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *start, "--out", str(out), *words], capture_output=True, text=True, timeout=900, check=False
    )


@pytest.mark.slow
def test_killed_verbs_end_as_if_nothing_had_happened(tmp_path: Path) -> None:
    found = kill(tmp_path / "kills", "--kills", "26", "--seed", "3", "--verbs", *VERBS)
    assert found.returncode == 0, found.stdout + found.stderr[-2000:]
    rows = [line.split("|") for line in found.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 13 + 1 and int(rows[-1][2]) >= 20
    assert [int(cell) for cell in rows[-1][6:9]] == [0, 0, 0]


def test_what_is_stuck_is_seen(tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text(BROKEN)
    found = kill(tmp_path / "kills", "--kills", "8", "--verbs", "init", start=(str(script), str(KILL_TEST)))
    assert found.returncode == 1, found.stdout + found.stderr[-2000:]
    assert "is there already, and is not written over" in found.stdout
