"""What ``fit`` says at the start of how long it takes, and how that is corrected as it goes; every clock is a fake."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from recamlabel.config import load_config
from recamlabel.core.progress import duration, track
from recamlabel.run import engine
from recamlabel.run.engine import scope_of
from recamlabel.run.fit import Hooks, check_settings, fit
from recamlabel.run.forecast import BELIEF, FARTHEST, Forecast, Pace, plan_lines
from recamlabel.run.intake import take_in
from recamlabel.run.speed import Stopwatch, measure_speed
from recamlabel.stages import GRAPH
from recamlabel.stages.cost import Cost, one_pass
from recamlabel.stages.graph import Planned, Scope, Stage
from recamlabel.stages.view import View
from recamlabel.storage.run_folder import RunFolder
from tests.core.test_progress import Clock
from tests.helpers import TINY, TINY_SEGMENTER, make_tiny_csv

LINES = [*TINY_SEGMENTER, "probe.enabled=false"]
# A crop of 64 pixels, four a step: three steps of the classifier, two of the segmenter and its decoder.
CROPS = 4 * 64**2 / 1e6


def config(*lines: str):
    return load_config(assignments=[*LINES, *lines])


def paced(**units: float) -> Hooks:
    return Hooks(pace=Pace(lambda view, wanted: Cost(**units), Clock()))


def plans(text: str) -> list[str]:
    return [line.removeprefix("plan: ") for line in text.splitlines() if line.startswith("plan: ")]


def scope_at(folder: Path, *lines: str) -> Scope:
    settings = check_settings(config(*lines))
    run = RunFolder.create(folder / "run")
    return scope_of(run, take_in(make_tiny_csv(folder), settings, None).catalog, settings)


def test_fit_says_its_stages_and_how_long_they_take(tmp_path, capsys):
    data = make_tiny_csv(tmp_path)
    fit(data, tmp_path / "run", config(), until="maps", hooks=paced(training=1000.0))
    (line,) = plans(capsys.readouterr().err)
    seconds = round(3 * CROPS * 1000)
    assert line == (
        f"5 stages, about {seconds} s in all by the speed of the first images: features 0 s, gate 0 s, "
        f"classifier {seconds} s, recam 0 s, maps 0 s"
    )
    # As if the classifier had taken twice as long: the segmenter will, and only what is left counts.
    run = RunFolder.open(tmp_path / "run")
    run.state.stages["classifier"]["seconds"] = 2.0 * seconds
    run.save()
    # Where the report will be is said before it is there.
    hooks = replace(paced(training=1000.0), page="report.html")
    fit(data, tmp_path / "run", config(), hooks=hooks)
    first, second = plans(capsys.readouterr().err)
    assert first.startswith("6 stages, about ") and "classifier" not in first and "segmenter 89 s" in first
    assert second == f"a first report as soon as there are masks, in about 0 s: {tmp_path / 'run' / 'report.html'}"
    fit(data, tmp_path / "run", config(), hooks=hooks)
    assert plans(capsys.readouterr().err) == []


def test_a_speed_that_cannot_be_measured_stops_nothing(tmp_path, capsys):
    def broken(view: View, wanted: Cost) -> Cost:
        raise RuntimeError("no idea")

    run = fit(make_tiny_csv(tmp_path), tmp_path / "run", config(), until="gate", hooks=Hooks(pace=Pace(broken)))
    assert plans(capsys.readouterr().err) == [] and run.stage_state("gate") == "finished"
    assert {"event": "speed", "error": "RuntimeError('no idea')"}.items() <= run.events()[0].items()


def test_rounds_count_as_often_as_they_are_done(tmp_path, capsys, monkeypatch):
    def stop(view: View, one: Planned) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "run_stage", stop)
    with pytest.raises(KeyboardInterrupt):
        fit(make_tiny_csv(tmp_path), tmp_path / "run", config("rounds=3"), hooks=paced(training=1e3))
    (line,) = plans(capsys.readouterr().err)
    seconds = round(3 * 2 * CROPS * 1.4 * 1000)
    assert " in 3 rounds, " in line and f"segmenter {duration(seconds)}" in line and "relabel 0 s" in line


def test_the_total_goes_down_and_bars_take_over(capsys):
    clock = Clock()
    speed = Cost(forward=1.0, fixed=1.0)
    steps = {(1, "maps"): Cost(forward=100.0), (1, "fine"): Cost(forward=50.0), (1, "quality"): Cost(fixed=10.0)}
    forecast = Forecast(speed, dict(steps), clock=clock)
    assert forecast.left() == 160.0 and forecast.left((1, "fine")) == 150.0
    for name, seconds in (("maps", 100.0), ("fine", 50.0), ("quality", 10.0)):
        with forecast.running((1, name)), track(name, 10, clock=clock) as advance:
            for _ in range(10):
                clock.now += seconds / 10
                advance()
    said = [
        int(count) * (60 if unit == "min" else 1)
        for count, unit in re.findall(r"(\d+) (s|min) to the end", capsys.readouterr().err)
    ]
    assert said[0] == 120 and said == sorted(said, reverse=True) and said[-1] == 0 and len(said) > 12


def test_a_stage_that_takes_longer_corrects_the_others_of_its_kind():
    clock = Clock()
    later = {(1, "maps"): Cost(forward=60.0), (1, "segmenter"): Cost(training=60.0)}
    forecast = Forecast(Cost(forward=1.0, training=1.0), {(1, "features"): Cost(forward=30.0), **later}, clock=clock)
    with forecast.running((1, "features")):
        clock.now += 90.0
    factor = (90 + BELIEF) / (30 + BELIEF)  # of all work, and the start of its own kind's
    assert forecast.seconds(later[1, "segmenter"]) == pytest.approx(60 * factor)
    assert forecast.seconds(later[1, "maps"]) == pytest.approx(60 * (90 + BELIEF * factor) / (30 + BELIEF))
    with forecast.running((1, "segmenter")):
        clock.now += 60.0
    assert forecast.seconds(Cost(training=60.0)) < 80 < 150 < forecast.seconds(later[1, "maps"])
    with forecast.running((1, "maps")):
        clock.now += 1e6
    assert forecast.seconds(Cost(forward=1.0)) == FARTHEST


def test_a_stage_of_several_bars_is_not_over_with_the_first(capsys):
    clock = Clock()
    forecast = Forecast(Cost(fixed=1.0), {(1, "probe"): Cost(fixed=100.0)}, clock=clock)
    with forecast.running((1, "probe")):
        with track("probe: sample", 2, more=True, clock=clock) as advance:
            clock.now += 20.0
            advance(2)
        with track("probe", 10, clock=clock) as advance:
            clock.now += 1.0
            advance()
            clock.now += 20.0
            advance(5)
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("0:00 left, 80 s to the end") and second.endswith("0:16 left, 16 s to the end")


def test_a_first_item_late_says_nothing_about_the_others(capsys):
    """Two processes start for twelve seconds: they are no rate."""
    clock = Clock()
    forecast = Forecast(Cost(fixed=1.0), {(1, "refine"): Cost(fixed=60.0)}, clock=clock)
    with forecast.running((1, "refine")), track("refine", 120, clock=clock) as advance:
        clock.now += 12.0
        advance()
    assert capsys.readouterr().err == "refine: 1/120 images, 60 s to the end\n"


def test_an_interrupted_stage_counts_what_it_did_itself(tmp_path, capsys):
    clock = Clock()

    def work(view: View) -> dict[str, Any]:
        with track("long", 10, start=8, clock=clock) as advance:
            clock.now += 20.0
            advance(2)
        return {}

    stage = Stage("long", 1, work, "")
    settings = check_settings(load_config(assignments=TINY))
    scope = Scope(settings, None)
    plan = engine.Plan(scope, tuple(engine.GRAPH.__class__([stage]).plan(scope)), {})
    forecast = Forecast(Cost(fixed=1.0), {(1, "long"): Cost(fixed=100.0), (1, "more"): Cost(fixed=50.0)}, clock=clock)
    view = View(RunFolder.create(tmp_path / "run"), None, settings, torch.device("cpu"))
    assert [one.name for one in engine.run_plan(view, plan, forecast=forecast)] == ["long"]
    # A fifth of the work in a fifth of the time: the machine is as fast as it was thought to be.
    assert forecast.left() == pytest.approx(50.0)
    assert RunFolder.open(tmp_path / "run").state.stages["long"]["resumed_at"] == 0.8


def test_every_stage_knows_its_work_and_a_strange_one_has_a_default(tmp_path):
    scope = scope_at(tmp_path, "refine.method=crf+random_walk", "probe.enabled=true", "rounds=2")
    catalog = replace(scope.catalog, shapes=dict.fromkeys(scope.catalog.shapes, (128, 160)))
    large = replace(scope, catalog=catalog)
    for stage in GRAPH:
        if stage.work is not None and stage.wanted(scope):
            assert sum(stage.cost(scope).values()) > 0, stage.name
            pairs = zip(stage.cost(large).values(), stage.cost(scope).values(), strict=True)
            assert all(one >= two for one, two in pairs), stage.name
    assert GRAPH.by_name["maps"].cost(large).forward == pytest.approx(4 * GRAPH.by_name["maps"].cost(scope).forward)
    assert (
        Stage("of a plug-in", 1, dict, "").cost(scope)
        == one_pass(scope)
        == Cost(forward=8 * 64 * 80 / 1e6, read=8 * 64 * 80 / 1e6)
    )


def test_the_speed_is_measured_and_chance_stays_as_it_was(tmp_path):
    scope = scope_at(tmp_path)
    view = View(RunFolder.open(tmp_path / "run"), scope.catalog, scope.config, torch.device("cpu"))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    speed = measure_speed(view, Cost(forward=1.0, training=1.0, refine=1.0))
    assert torch.equal(before, torch.get_rng_state())
    assert 0 < speed.forward < speed.training and speed.read > 0 and speed.fixed == 1
    assert speed.refine == 0  # refine.method=none
    only = measure_speed(view, Cost(forward=1.0))
    assert only.forward > 0 and only.training == 0


def test_a_slow_machine_is_not_asked_twice():
    clock = Clock()
    calls: list[float] = []

    def work(seconds: float) -> None:
        calls.append(seconds)
        clock.now += seconds

    watch = Stopwatch(torch.device("cpu"), clock)
    assert watch(lambda: work(5.0)) == pytest.approx(5.0) and len(calls) == 1
    pace = iter([1.0, 0.4])
    assert watch(lambda: work(next(pace))) == pytest.approx(0.4) and len(calls) == 3
    gpu = Stopwatch(torch.device("meta"), clock)  # any that is not the CPU
    pace = iter([20.0, 0.5])
    assert gpu(lambda: work(next(pace))) == pytest.approx(0.5)
    calls[3:] = []
    pace = iter([0.2, 0.01, 0.05, 0.02])  # the first warms up
    assert watch(lambda: work(next(pace))) == pytest.approx(0.02) and len(calls) == 7


def test_masks_that_an_earlier_call_made_get_their_page(tmp_path, capsys):
    data = make_tiny_csv(tmp_path)
    run = fit(data, tmp_path / "run", config(), until="masks")
    pages: list[Path] = []

    def page(folder: RunFolder) -> None:
        pages.append(folder.path)
        (folder.path / "report.html").touch()
        assert folder.stage_state("segmenter") == "not run"

    fit(data, run.path, config(), until="segmenter", hooks=replace(paced(), masks_made=page, page="report.html"))
    assert pages == [run.path]
    fit(data, run.path, config(), hooks=replace(paced(), masks_made=page, page="report.html"))
    assert pages == [run.path]


def test_nothing_to_do_has_no_plan():
    assert plan_lines(Forecast(Cost(), {}), "report.html") == []
