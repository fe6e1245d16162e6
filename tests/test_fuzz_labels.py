"""``benchmarks/fuzz_labels.py``: damaged label files are read or refused, and what is not is kept."""

from __future__ import annotations

import random
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from helpers import load_script

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "fuzz_labels.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(SCRIPT)


@pytest.fixture
def fuzzer(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # The library `datasets` takes seconds to import, and writes.
    monkeypatch.setattr(script, "KINDS", [kind for kind in script.KINDS if kind.name != "hf saved"])
    counts = np.zeros(len(script.COUNTS) + 1, np.int64)
    return script.Fuzzer(tmp_path / "place", tmp_path / "found", random.Random(7), counts)


def told(script: ModuleType, fuzzer) -> dict[str, int]:
    return dict(zip(script.COUNTS, fuzzer.counts[:-1].tolist(), strict=True))


def test_valid_data_sets_are_read(script: ModuleType, tmp_path: Path) -> None:
    for number, kind in enumerate(script.KINDS):
        if kind.name != "hf saved":
            dataset = script.load_dataset(kind.build(tmp_path / str(number)), kind.adapter)
            assert len(dataset) > 1 and [str(one) for one in dataset.problems if one.fatal] == [], kind.name


def test_damaged_ones_are_read_or_refused(script: ModuleType, fuzzer, tmp_path: Path) -> None:
    for _ in range(600):
        fuzzer.once()
    counts = told(script, fuzzer)
    assert counts["executions"] == counts["read"] + counts["refused"] == 600
    assert counts["read"] > 150 and counts["refused"] > 150
    assert {path: path.read_bytes() for path in fuzzer.whole} == fuzzer.whole, "put back as they were"
    assert not (tmp_path / "found").exists()


def test_findings_are_counted_and_kept_once(
    script: ModuleType, fuzzer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(script, "load_dataset", fail)
    for _ in range(3):
        fuzzer.once()
    assert told(script, fuzzer)["foreign exceptions"] == 3
    (kept,) = (tmp_path / "found").iterdir()
    assert "KeyError: 'x'" in (kept / "error.txt").read_text() and (kept / "data").is_dir()
    monkeypatch.setattr(script, "load_dataset", lambda *_: time.sleep(5))
    monkeypatch.setattr(script, "LIMIT", 0.05)
    fuzzer.once()
    assert told(script, fuzzer)["over 10 s"] == 1
