"""The benchmarks of speed run, and their figures are those of what they ran."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def load(name: str) -> ModuleType:
    """The script as a module. Its folder must not come on `sys.path`: `import datasets` would find `datasets.py`."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


crf = load("crf")
throughput = load("throughput")


def test_crf_compares_both_backends(tmp_path, capsys, monkeypatch):
    pytest.importorskip("pydensecrf.densecrf")
    (tmp_path / "set" / "images").mkdir(parents=True)
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 60, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "set" / "images" / f"{number}.png")
    found = crf.compare(tmp_path / "set", 2, 3, 2, "cpu")
    assert found["images"] == 2 and found["least"] >= 99.9 and found["worst"] < 1e-3
    assert found["torch"] > 0 and found["pydensecrf"] > 0
    # Another backend's labels would be seen.
    monkeypatch.setattr(crf, "timed", lambda image, labels, config, device: (labels * (config.backend == "torch"), 1.0))
    assert crf.compare(tmp_path / "set", 2, 3, 2, "cpu")["least"] < 99


def test_throughput_prints_its_tables(monkeypatch, capsys):
    line = ["throughput", "--sizes", "48", "--classes", "2", "--rounds", "1", "--set", "classifier.batch_size=2"]
    monkeypatch.setattr(sys, "argv", line)
    throughput.main()
    printed = capsys.readouterr().out
    rows = [row for row in printed.splitlines() if row.startswith("| 48 x 36 |")]
    assert len(rows) == 2 and printed.count("## ") == 2
    numbers = [float(number) for row in rows for number in re.findall(r"\d+\.\d+", row)]
    assert len(numbers) == 10 and min(numbers) > 0
