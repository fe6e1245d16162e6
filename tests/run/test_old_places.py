"""Runs of earlier versions had every file at their top: they are read, gone on with, and tidied where redone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers import TINY

import recamlabel
from recamlabel.cli.main import run as run_cli
from recamlabel.storage.run_folder import RunFolder

SETTINGS = (*TINY, "refine.method=none", "segmenter.enabled=false")
AT_THE_TOP = {"masks", "masks.h5", "quality.json", "report.html", "run.toml", "weights", "work", "metrics.json"}


@pytest.fixture
def old_run(copy_run, tmp_path: Path) -> Path:
    """A finished run as earlier versions left it."""
    _, run = copy_run(tmp_path, *SETTINGS)
    for path in (run.path / "work").iterdir():
        path.rename(run.path / path.name)
    (run.path / "work").rmdir()
    text = (run.path / "run.toml").read_text()
    (run.path / "run.toml").write_text(text.replace('"work/', '"'))
    return run.path


def test_a_new_run_has_what_a_person_uses_at_its_top(copy_run, tmp_path: Path) -> None:
    _, run = copy_run(tmp_path, *SETTINGS)
    top = {path.name for path in run.path.iterdir() if not path.name.startswith(".")}
    assert top <= AT_THE_TOP and {"masks", "masks.h5", "quality.json", "weights"} <= top
    assert {"maps.h5", "scores.h5", "dataset.json", "log.jsonl"} <= {
        path.name for path in (run.path / "work").iterdir()
    }


def test_an_old_one_is_read(old_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in old_run.rglob("*") if path.is_file()}
    folder = RunFolder.open(old_run)
    assert {folder.stage_state(name) for name in folder.state.stages} == {"finished"}
    assert folder.events() and folder.artifact("work/maps.h5") == old_run / "maps.h5"
    run = recamlabel.open_run(old_run)
    assert run["images/2"].maps("recam").keys() == {"red", "blue"} and run["images/2"].quality.score >= 0
    assert recamlabel.export(run, "voc", tmp_path / "voc").images == 8
    assert run_cli(["status", str(old_run), "--json"]) == 0
    assert {row["state"] for row in json.loads(capsys.readouterr().out)["stages"]} == {"finished"}
    after = {path: path.read_bytes() for path in old_run.rglob("*") if path.is_file()}
    assert {name: after[name] for name in before} == before, "reading changes nothing"


def test_an_old_one_goes_on_and_is_tidied_where_it_is_redone(old_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maps = (old_run / "maps.h5").read_bytes()
    assert run_cli(["fit", str(old_run)]) == 0
    assert "maps: up to date" in capsys.readouterr().err and (old_run / "maps.h5").read_bytes() == maps
    assert run_cli(["masks", str(old_run), "--threshold", "0.3"]) == 0
    assert run_cli(["fit", str(old_run), "--set", "maps.flip=false", "--yes"]) == 0
    assert not (old_run / "maps.h5").exists() and (old_run / "work" / "maps.h5").is_file()
    folder = RunFolder.open(old_run)
    assert {folder.stage_state(name) for name in folder.state.plan} == {"finished"}
    shutil.rmtree(old_run)
