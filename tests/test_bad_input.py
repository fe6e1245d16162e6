"""``benchmarks/bad_input.py``: bad and odd inputs are refused or read, within bounds, and nothing else is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from helpers import load_script

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "bad_input.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(SCRIPT)


def test_a_part_of_the_corpus(tmp_path: Path) -> None:
    """In a process of its own: a fork of this one would have the threads of other tests' libraries, stopped."""
    command = [sys.executable, str(SCRIPT), "--every", "9", "--keep", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=500, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    total = next(line for line in done.stdout.splitlines() if line.startswith("| all |"))
    cases, expected, refused, read, *bad = (int(cell) for cell in total.split("|")[2:11])
    assert cases == expected == refused + read > 50 and bad[:5] == [0, 0, 0, 0, 0]


def test_every_group_is_large_and_every_case_has_a_name_of_its_own(script: ModuleType) -> None:
    cases = script.all_cases()
    assert len(cases) >= 200
    assert len({(case.group, case.name, *case.words) for case in cases}) == len(cases)
    assert {case.expected for case in cases} == {"read", "refused"}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        ({"verdict": "exit 70"}, "exit 70"),
        ({"verdict": "read"}, "read instead of refused"),
        ({"seconds": 11.0}, "over 10 s"),
        ({"above": 2e9}, "over 1 GB"),
        ({"outside": "open /etc/x"}, "outside"),
        ({"said": "Traceback (most recent call last): why"}, "traceback"),
        ({"said": "nothing"}, "does not say 'why'"),
        ({"said": "why \x1b[31m"}, "control characters ['\\x1b']"),
    ],
)
def test_what_is_a_fault(script: ModuleType, changes: dict[str, object], fault: str | None) -> None:
    case = script.Case("g", "n", "refused", "why")
    facts = {"verdict": "refused", "seconds": 1.0, "above": 0.0, "said": "said why", "outside": "", **changes}
    one = script.Outcome(case, **facts)
    assert list(script.faults_of(one)) == [fault] * (fault is not None)
    one.faults = list(script.faults_of(one))
    lines = script.table([one])
    assert lines[2].startswith(f"| g | 1 | {int(fault is None)} |") and lines[3].startswith("| all | 1 |")
    assert any(line.startswith("FAILED g: n") for line in lines) == (fault is not None)


WATCHED = """
import os, sys
sys.path.append({scripts!r})
from pathlib import Path
from bad_input import watch
watch(Path("in"), os.open("told", os.O_WRONLY | os.O_CREAT))
Path("in/a").write_text("x")
Path("b").write_text("x")
Path("in/../c").mkdir()
os.system("true")
open("told").close()
"""


def test_what_is_written_outside_is_seen(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    code = WATCHED.format(scripts=str(SCRIPT.parent))
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120)
    told = (tmp_path / "told").read_text().splitlines()
    assert [line.partition(" ")[0] for line in told] == ["open", "os.mkdir", "os.system"]
    assert told[0].endswith("/b") and told[1].endswith("/c")
