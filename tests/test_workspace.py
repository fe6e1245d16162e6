from __future__ import annotations

import subprocess
import sys

import pytest

from recamlabel.errors import StoreError
from recamlabel.storage.run_folder import RunFolder, stage_key


def test_key_depends_on_everything():
    base = stage_key("maps", 1, {"a": 1}, {"recam": "x"})
    assert base == stage_key("maps", 1, {"a": 1}, {"recam": "x"})
    others = [
        stage_key("masks", 1, {"a": 1}, {"recam": "x"}),
        stage_key("maps", 2, {"a": 1}, {"recam": "x"}),
        stage_key("maps", 1, {"a": 2}, {"recam": "x"}),
        stage_key("maps", 1, {"a": 1}, {"recam": "y"}),
    ]
    assert len({base, *others}) == 5


def test_finish_is_remembered_until_an_output_goes(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    (run.path / "maps.h5").write_bytes(b"x")
    run.finish("maps", "k", 1.5, ["maps.h5"], method="none")
    again = RunFolder.open(run.path)
    assert again.is_current("maps", "k") and not again.is_current("maps", "other")
    assert again.stage_state("maps") == "finished" and again.stage_state("masks") == "not run"
    assert again.state.stages["maps"]["method"] == "none"
    (run.path / "maps.h5").unlink()
    assert not again.is_current("maps", "k") and again.stage_state("maps") == "incomplete"


def test_begin_forgets_before_the_work_starts(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.finish("masks", "k", 1, [])
    run.begin("masks")
    assert not RunFolder.open(run.path).is_current("masks", "k")


def test_refuses_what_is_not_a_run(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match="not empty and not a run folder"):
        RunFolder.create(tmp_path)
    with pytest.raises(StoreError, match="a file; --out needs a folder"):
        RunFolder.create(tmp_path / "thesis.txt")
    with pytest.raises(StoreError, match="no such run folder"):
        RunFolder.open(tmp_path / "none")
    with pytest.raises(StoreError, match=r"not a run folder \(no run.toml\)"):
        RunFolder.open(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.txt"]


def test_damaged_and_foreign_run_files(tmp_path):
    (tmp_path / "run.toml").write_text("format = 99\n")
    with pytest.raises(StoreError, match="run format 99, this version reads 1"):
        RunFolder.open(tmp_path)
    (tmp_path / "run.toml").write_text("= broken")
    with pytest.raises(StoreError, match="cannot be read"):
        RunFolder.open(tmp_path)


def test_second_process_is_refused_at_once(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    code = (
        "import sys; from pathlib import Path; from recamlabel.storage.run_folder import RunFolder\n"
        "with RunFolder.open(Path(sys.argv[1])).lock(): pass"
    )
    with run.lock():
        other = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, check=False)
    assert other.returncode == 1 and "another recamlabel process is working on this run" in other.stderr
    assert subprocess.run([sys.executable, "-c", code, str(run.path)], check=False).returncode == 0


def test_log_lines_survive_a_torn_one(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.log(stage="maps", event="start")
    with (run.path / "log.jsonl").open("a") as handle:
        handle.write('{"torn')
    assert [event["stage"] for event in run.events()] == ["maps"]


def test_metrics_sections_are_kept_apart(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.update_metrics("a", {"x": 1})
    run.update_metrics("b", {"y": 2})
    run.update_metrics("a", {"x": 3})
    assert run.metrics() == {"a": {"x": 3}, "b": {"y": 2}}
