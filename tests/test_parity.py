"""The parity benchmark: the golden files agree, and what differs is found."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

GOLDEN = Path(__file__).parent / "golden"
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "parity.py"

Run = Callable[..., int]


@pytest.fixture
def parity(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("parity", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "parity", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(parity: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(*files: Path) -> int:
        monkeypatch.setattr(sys, "argv", ["parity.py", *map(str, files)])
        code: int = parity.main()
        return code

    return call


def golden(number: int = 1) -> dict[str, Any]:
    with np.load(GOLDEN / f"parity_{number}.npz") as archive:
        return dict(archive)


def test_our_numbers_are_the_published_numbers(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(GOLDEN / "parity_1.npz", GOLDEN / "parity_2.npz") == 0
    printed = capsys.readouterr().out
    assert printed.count("22 of 22 outputs agree") == 2
    assert "FAIL" not in printed


@pytest.mark.parametrize("number", [1, 2])
def test_all_but_the_crf(number: int, run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "part.npz", **{key: value for key, value in golden(number).items() if "crf" not in key})
    assert run(tmp_path / "part.npz") == 0


@pytest.mark.parametrize(
    "key", ["logits", "grad_fc1", "sce_accuracy", "irn_affinity", "irn_loss_dp_fg", "rw_out", "recam_raw"]
)
@pytest.mark.parametrize("change", [2e-4, float("nan")])
def test_a_difference_fails(key: str, change: float, run: Run, tmp_path: Path) -> None:
    wrong = {name: value for name, value in golden().items() if "crf" not in name}
    wrong[key] = wrong[key] + np.float32(change)
    np.savez(tmp_path / "wrong.npz", **wrong)
    assert run(GOLDEN / "parity_1.npz", tmp_path / "wrong.npz") == 1


def test_a_label_that_differs_fails(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {name: value for name, value in golden().items() if "crf" in name or name == "ir_label"}
    wrong["ir_label"][0, 0] ^= 1
    np.savez(tmp_path / "wrong.npz", **wrong)
    assert run(tmp_path / "wrong.npz") == 1
    assert "1 of 4800 labels differ" in capsys.readouterr().out


def test_another_shape_fails(run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "wrong.npz", **{**golden(), "logits": golden()["logits"][:1]})
    assert run(tmp_path / "wrong.npz") == 1


def test_the_order_of_offsets_is_the_files(run: Run, tmp_path: Path) -> None:
    turned = {name: value for name, value in golden().items() if name.startswith("irn")}
    turned["irn_search_dst"] = turned["irn_search_dst"][::-1]
    turned["irn_affinity"] = turned["irn_affinity"][:, ::-1]
    np.savez(tmp_path / "turned.npz", **turned)
    assert run(tmp_path / "turned.npz") == 0


def test_missing_groups_are_skipped_aloud(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "walk.npz", **{name: value for name, value in golden().items() if name.startswith("rw")})
    assert run(tmp_path / "walk.npz") == 0
    assert "classifier: skipped, the file has no features, fc1" in capsys.readouterr().out


def test_a_file_that_compares_nothing_or_cannot_be_read_is_an_error(run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "empty.npz", other=np.zeros(1))
    assert run(tmp_path / "empty.npz") == 2
    assert run(tmp_path / "none.npz") == 2
    for content in (b"not an archive", (GOLDEN / "parity_1.npz").read_bytes()[:5000]):
        (tmp_path / "broken.npz").write_bytes(content)
        assert run(tmp_path / "broken.npz") == 2
