"""A second round: what is kept, what comes back, what is done again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from recamlabel.cli.main import run as command
from recamlabel.config import load_config
from recamlabel.errors import ConfigError
from recamlabel.masks.reviewed import Decision, ReviewFolder
from recamlabel.review.page.rounds_pages import _other_round
from recamlabel.run import rounds
from recamlabel.run.fit import fit
from recamlabel.stages import REPEATED
from recamlabel.storage.run_folder import RunFolder
from tests.helpers import TINY_SEGMENTER, make_tiny_csv

ROUND = ["relabel", "refine", "calibration", "masks", "segmenter", "segmentation", "quality"]


def config(count: int = 2, *lines: str):
    return load_config(assignments=[*TINY_SEGMENTER, f"rounds={count}", *lines])


def ran(capsys) -> list[str]:
    return [line.split(":")[0] for line in capsys.readouterr().err.splitlines() if ": done in" in line]


def masks(folder: Path) -> dict[str, np.ndarray]:
    with h5py.File(folder / "masks.h5") as file:
        return {f"images/{number}": file[f"images/{number}"][()] for number in range(8)}


def same(one: Path, two: Path) -> bool:
    first, second = masks(one), masks(two)
    return all(np.array_equal(first[name], second[name]) for name in first)


@pytest.fixture
def prefer_second(monkeypatch):
    """Two steps of training decide nothing: let the second round be the better one."""
    plain = rounds._facts
    monkeypatch.setattr(rounds, "_facts", lambda run, number: {**plain(run, number), "criterion": float(number)})


@pytest.fixture
def first_round(copy_run, tmp_path):
    """The data set, and a run after one round."""
    data, run = copy_run(tmp_path, *TINY_SEGMENTER)
    return data, run.path


def test_the_better_round_takes_the_place_of_the_run(first_round, capsys, prefer_second):
    data, out = first_round
    ran(capsys)
    run = fit(data, out, config())
    assert ran(capsys) == ROUND
    found = run.metrics()["rounds"]
    assert found["kept"] == 2 and [row["round"] for row in found["rounds"]] == [1, 2]
    assert {"threshold", "withheld", "quality"} <= set(found["rounds"][0])
    assert same(out, out / "rounds/2") and not same(out, out / "rounds/1")
    assert (out / "masks/images/0.png").read_bytes() == (out / "rounds/2/masks/images/0.png").read_bytes()
    for name in ("1", "2"):
        part = RunFolder.open(out / "rounds" / name)
        assert {part.stage_state(stage) for stage in REPEATED} == {"finished"}
    assert run.key_of("masks") == RunFolder.open(out / "rounds/2").key_of("masks")

    fit(data, out, config())
    assert ran(capsys) == [] and same(out, out / "rounds/2")
    fit(data, out, config(1))
    assert ran(capsys) == [] and same(out, out / "rounds/1") and "rounds" not in RunFolder.open(out).state.stages
    first, second, now = (RunFolder.open(out / part).metrics()["threshold"] for part in ("rounds/1", "rounds/2", "."))
    assert now == first != second
    fit(data, out, config())
    assert ran(capsys) == [] and same(out, out / "rounds/2")


def test_the_first_round_stays_where_it_is_better(first_round, monkeypatch):
    plain = rounds._facts
    monkeypatch.setattr(rounds, "_facts", lambda run, number: {**plain(run, number), "criterion": -float(number)})
    run = fit(*first_round, config())
    assert run.metrics()["rounds"]["kept"] == 1 and same(run.path, run.path / "rounds/1")


def test_a_kill_while_the_files_are_put_in_place_loses_nothing(first_round, capsys, monkeypatch, prefer_second):
    data, out = first_round
    plain = rounds._link

    def dying(source: Path, target: Path) -> None:
        if target == out / "segmenter.h5":
            raise KeyboardInterrupt
        plain(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(rounds, "_link", dying)
        with pytest.raises(KeyboardInterrupt):
            fit(data, out, config())
    assert same(out, out / "rounds/2")  # half in place
    ran(capsys)
    fit(data, out, config(1))
    assert ran(capsys) == [] and same(out, out / "rounds/1")
    fit(data, out, config())
    assert ran(capsys) == [] and same(out, out / "rounds/2")


def test_another_level_is_rendered_from_the_round_that_is_kept(first_round, capsys, prefer_second):
    data, out = first_round
    fit(data, out, config())
    before = masks(out)
    assert command(["masks", str(out), "--threshold", "0.2", "--ignore", "none"]) == 0
    assert same(out, out / "rounds/2") and not same(out, out / "rounds/1")
    assert RunFolder.open(out).state.stages["masks"]["threshold"] == 0.2
    assert not any((mask == 255).any() for mask in masks(out).values())
    states = [RunFolder.open(out).stage_state(name) for name in ("segmenter", "quality", "rounds")]
    assert states == ["outdated"] * 3
    assert command(["masks", str(out), "--threshold", "auto", "--ignore", "auto"]) == 0
    assert all(np.array_equal(before[name], mask) for name, mask in masks(out).items())
    capsys.readouterr()
    fit(data, out, config())
    text = capsys.readouterr().err
    assert "rounds: up to date, round 2 is kept" in text and ": done in" not in text


def test_a_file_that_both_rounds_share_and_that_is_gone_is_made_again(tmp_path, capsys, prefer_second):
    data, out = make_tiny_csv(tmp_path), tmp_path / "run"
    fit(data, out, config())
    (out / "weights/recam.safetensors").unlink()
    ran(capsys)
    fit(data, out, config())
    run = RunFolder.open(out)
    assert "recam" in ran(capsys) and {run.stage_state(name) for name in (*REPEATED, "rounds")} == {"finished"}
    assert same(out, out / "rounds/2")


def test_the_report_shows_both_rounds(first_round, capsys):
    data, out = first_round
    lines = [part for line in TINY_SEGMENTER for part in ("--set", line)]
    assert command(["fit", str(data), "--out", str(out), "--rounds", "2", *lines]) == 0
    page = (out / "report.html").read_text()
    assert "Each round starts from the segmenter" in page and 'href="rounds.html"' in page
    assert (out / "rounds.html").read_text().count("<img") >= 4
    assert command(["fit", str(data), "--out", str(out), *lines]) == 0
    assert not (out / "rounds.html").exists() and "rounds.html" not in (out / "report.html").read_text()


def test_rounds_need_a_segmenter(tmp_path):
    with pytest.raises(ConfigError, match="rounds=2: a second round starts from the segmenter"):
        fit(make_tiny_csv(tmp_path), tmp_path / "run", config(2, "segmenter.enabled=false"))
    assert not (tmp_path / "run").exists()


def test_without_the_probe_a_round_has_maps_of_its_own(tmp_path):
    out = tmp_path / "run"
    fit(make_tiny_csv(tmp_path), out, config(2, "probe.enabled=false"))
    with h5py.File(out / "work/maps.h5") as first, h5py.File(out / "rounds/2/work/maps.h5") as second:
        assert not np.array_equal(first["recam/images/2"][()], second["recam/images/2"][()])


def test_fused_maps_are_the_mean_of_maps_and_probabilities(first_round):
    data, out = first_round
    fit(data, out, config())
    with h5py.File(out / "work/fused.h5") as first, h5py.File(out / "rounds/2/work/fused.h5") as second:
        for name in ("images/2", "images/3"):
            assert first[f"recam/{name}"].shape == second[f"recam/{name}"].shape
            assert np.array_equal(first[f"cam/{name}"][()], second[f"cam/{name}"][()])
        change = second["recam/images/2"][()].astype(float) - first["recam/images/2"][()].astype(float) / 2
        assert change.min() >= -1e-3 and change.max() <= 0.5 + 1e-3 and change.max() > 0
    assert (out / "rounds/2/work/maps.h5").samefile(out / "work/maps.h5")


@pytest.mark.parametrize(("rounds_", "kept", "shown"), [(2, 1, 2), (2, 2, 2), (3, 3, 3), (3, 2, 2), (3, 1, 3)])
def test_the_page_of_rounds_shows_the_kept_one_beside_the_first(tmp_path, rounds_, kept, shown):
    run = RunFolder.create(tmp_path / "run")
    run.state.config = {"rounds": rounds_}
    run.finish("rounds", "k", 0.0, [], kept=kept)
    assert _other_round(run) == shown


def test_a_kill_while_another_level_is_put_in_place_keeps_the_choice(first_round, capsys, monkeypatch, prefer_second):
    data, out = first_round
    fit(data, out, config())
    plain = rounds._link

    def dying(source: Path, target: Path) -> None:
        if target == out / "work/masks.json":
            raise KeyboardInterrupt
        plain(source, target)

    level = ["masks", str(out), "--threshold", "0.2"]
    with monkeypatch.context() as patch:
        patch.setattr(rounds, "_link", dying)
        assert command(level) == 130
    assert command(level) == 0 and command(["masks", str(out), "--threshold", "auto"]) == 0
    capsys.readouterr()
    fit(data, out, config())
    text = capsys.readouterr().err
    assert "rounds: up to date, round 2 is kept" in text and ": done in" not in text


def test_a_kill_once_a_round_is_in_place_leaves_what_is_said_of_it(first_round, monkeypatch, prefer_second):
    data, out = first_round
    plain = rounds.install

    def dying(*words: Any, **options: Any) -> None:
        plain(*words, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rounds, "install", dying)
        with pytest.raises(KeyboardInterrupt):
            fit(data, out, config())
    assert fit(data, out, config()).section("rounds")["kept"] == 2


def test_a_later_round_that_is_kept_goes_on_with_its_review(first_round, prefer_second):
    data, out = first_round
    fit(data, out, config())
    name, mask = next(iter(masks(out).items()))
    ReviewFolder(out).add([Decision(name, "accepted")], {name: mask}, 255)
    assert command(["fit", str(out), "--with-review"]) == 0
    assert RunFolder.open(out).left() in ([], ["relabel"])
