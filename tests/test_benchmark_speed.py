"""The benchmarks of speed run, and their figures are those of what they ran."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import TINY, TINY_SEGMENTER, load_script, make_tiny_csv

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


bf16 = load_script(BENCHMARKS / "bf16.py")
crf = load_script(BENCHMARKS / "crf.py")
gpu = load_script(BENCHMARKS / "gpu.py")
throughput = load_script(BENCHMARKS / "throughput.py")


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
    monkeypatch.setattr(sys, "argv", [*line, "--parts", "loops"])
    throughput.main()
    printed = capsys.readouterr().out
    rows = [row for row in printed.splitlines() if row.startswith("| 48 x 36 |")]
    assert len(rows) == 2 and printed.count("## ") == 2
    numbers = [float(number) for row in rows for number in re.findall(r"\d+\.\d+", row)]
    assert len(numbers) == 10 and min(numbers) > 0


def test_throughput_of_whole_stages_grows_with_the_images(monkeypatch, capsys):
    settings = [part for line in TINY for part in ("--set", line)]
    line = ["throughput", "--parts", "stages", "--images", "3", "6", "--steps", "2", *settings]
    monkeypatch.setattr(sys, "argv", line)
    throughput.main()
    rows = [row.strip("| ").split(" | ") for row in capsys.readouterr().out.splitlines() if row.startswith("| ")]
    assert [row[0] for row in rows if row[0] != "stage"][:3] == ["gate", "classifier", "recam"]
    for row in rows[1:]:
        few, many, growth = (float(cell) for cell in row[1:4])
        assert many > 0
        assert few == 0 or growth == pytest.approx(many / few, rel=0.5, abs=0.2)


def test_gpu_runs_on_a_cpu_too(copy_run, tmp_path, monkeypatch, capsys):
    data, run = copy_run(tmp_path, *TINY_SEGMENTER)
    (data / "masks").mkdir()
    for path in (tmp_path / "truth").iterdir():
        (data / "masks" / path.name).write_bytes(path.read_bytes())
    settings = [part for line in TINY_SEGMENTER if "device" not in line for part in ("--set", line)]
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--small", "--msrc", str(data), *settings])
    gpu.main()
    printed = capsys.readouterr().out
    for stage in ("classifier", "recam", "segmenter"):
        (row,) = [line for line in printed.splitlines() if line.startswith(f"| {stage} | 4 x 64 |")]
        speed, _, bare, ratio = (float(cell) for cell in row.split("|")[3:7])
        assert speed > 0 and bare > 0 and ratio == pytest.approx(speed / bare, rel=0.6)
    assert printed.count("\n| crf |") == 2 and "random walk" in printed
    assert re.search(r"^\| masks \| \d+\.\d \|$", printed, re.MULTILINE)
    assert gpu.agreement(run.path / "masks.h5", run.path / "masks.h5") == 1


def test_bf16_compares_both_on_the_same_networks(tmp_path, monkeypatch, capsys):
    data = make_tiny_csv(tmp_path)
    shutil.copytree(tmp_path / "truth", data / "masks")
    settings = [part for line in TINY for part in ("--set", line)]
    monkeypatch.setattr(sys, "argv", ["bf16", str(data), "--runs", str(tmp_path / "runs"), "--seeds", "0", *settings])
    bf16.main()
    rows = [row.strip("| ").split(" | ") for row in capsys.readouterr().out.splitlines() if row.startswith("| 0 ")]
    assert [row[1] for row in rows] == ["float32", "bf16"]
    assert rows[0][4] != "nan" and float(rows[0][4]) == pytest.approx(float(rows[1][4]), abs=3)
    weights = [(tmp_path / "runs" / f"seed0{end}" / "weights/recam.safetensors").read_bytes() for end in ("", "-bf16")]
    assert weights[0] == weights[1]
    some = bf16.part_of(data, tmp_path / "part", 3)
    assert len((some / "labels.csv").read_text().splitlines()) == 1 + 3 and len(list((some / "masks").iterdir())) == 3
