from __future__ import annotations

import subprocess
import sys

import pytest

from recamlabel.errors import StoreError
from recamlabel.storage.run_folder import RunFolder


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
    with pytest.raises(StoreError, match="run format 99, this version reads 1 and 2"):
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


def test_a_result_is_current_under_its_planned_key_alone(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    (run.path / "masks.h5").write_bytes(b"x")
    run.finish("masks", "at 0.4", 1, ["masks.h5"])
    for planned, state in (("at 0.4", "finished"), ("at 0.5", "outdated"), ("at 0.4", "finished")):
        run.state.plan = {"masks": planned}
        assert run.stage_state("masks") == state
        assert run.artifact("masks.h5") == (run.path / "masks.h5" if state == "finished" else None)
    run.state.plan = {"refine": "x"}  # a stage that the settings no longer have
    assert run.stage_state("masks") == "outdated"
    with pytest.raises(StoreError, match="stage 'masks' is outdated; run `recamlabel fit` again"):
        run.key_of("masks")
    assert run.key_of("masks", outdated=True) == "at 0.4"
    with pytest.raises(
        StoreError, match=r"masks.h5: of stage 'masks', which is outdated; `recamlabel fit .*` makes it"
    ):
        run.need("masks.h5")
    with pytest.raises(StoreError, match=r"maps\.h5: not there yet"):
        run.need("maps.h5")


def test_a_cache_that_was_removed_is_no_gap(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.finish("features", "k", 1, ["features.h5"], cache=True)
    assert run.stage_state("features") == "freed" and run.artifact("features.h5") is None


def test_sections_follow_the_stage_that_made_them(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.state.plan = {"masks": "a"}
    run.finish("masks", "a", 1, [])
    run.update_metrics("threshold", {"used": 0.4}, stage="masks")
    run.update_metrics("old", {"used": 0.4})
    assert run.section("threshold") == {"used": 0.4} == run.section("old")
    run.state.plan = {"masks": "b"}
    assert run.section("threshold") == {} and run.section("old") == {"used": 0.4}
    assert run.section("none") == {}


def test_only_what_results_stand_on_is_remembered(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.finish("maps", "m1", 1, [], inputs={"settings": {"maps.flip": True}})
    run.finish("masks", "k1", 1, [], inputs={"needs": {"maps": "m1"}})
    run.finish("maps", "m2", 1, [], inputs={"settings": {"maps.flip": False}})
    assert set(RunFolder.open(run.path).state.inputs) == {"m1", "m2", "k1"}  # masks still stand on m1
    run.finish("masks", "k2", 1, [], inputs={"needs": {"maps": "m2"}})
    assert set(RunFolder.open(run.path).state.inputs) == {"m2", "k2"}
