"""Further rounds: the segmenter's masks of one round are the start of the next.

Round 1 is the run itself. Round r >= 2 is a run folder of its own, ``RUN/rounds/<r>``: its class maps
are those of round 1 fused with the segmenter of the round before, restricted to each image's labels, and
everything after the maps is done again. The round with the largest calibration criterion
(:mod:`recamlabel.masks.criterion`) is kept: its files take the place of the run's, whose own stay in
``RUN/rounds/1``. No true mask has a part in it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recamlabel.core.progress import say
from recamlabel.data.catalog import CATALOG_FILE
from recamlabel.masks.calibrate import LevelEvidence
from recamlabel.masks.pngs import RECORD_FILE as PNG_RECORD
from recamlabel.masks.reviewed import MASKS_FILE
from recamlabel.run.engine import Plan, make_plan, run_plan, view_of
from recamlabel.run.forecast import Forecast, Step
from recamlabel.stages import GRAPH, REPEATED
from recamlabel.stages.calibration import LEVELS_FILE
from recamlabel.stages.edges import EDGES_FILE
from recamlabel.stages.graph import Stage
from recamlabel.stages.networks import CLASSIFIER_WEIGHTS
from recamlabel.storage.atomic import swap_folder
from recamlabel.storage.places import FUSED_FILE, MAPS_FILE, placed
from recamlabel.storage.run_folder import FINISHED, LOG_FILE, RunFolder, RunState

ROUNDS_FOLDER = "rounds"
SECTION = "rounds"
MAPS = (MAPS_FILE, FUSED_FILE)
SHARED = (CATALOG_FILE, CLASSIFIER_WEIGHTS, EDGES_FILE, MASKS_FILE)


def kept_round(run: RunFolder) -> int:
    """The round whose files the run folder holds."""
    return int(run.state.stages.get("rounds", {}).get("kept", 1))


def kept_keys(run: RunFolder, plan: Plan) -> dict[str, str] | None:
    """The keys of the kept round's results where all rounds of a plan are done; None where they are not."""
    record = run.state.stages.get("rounds")
    if plan.scope.config.rounds < 2 or record is None or record["key"] != plan.keys["rounds"]:
        return None
    folder = run.path / ROUNDS_FOLDER / str(record["kept"])
    if not all((run.path / name).exists() for name in (*record["outputs"], *record.get("installed", ()))):
        return None
    own = RunFolder.open(folder)
    if any(own.stage_state(name) != FINISHED for name in REPEATED if name in plan.names):
        return None
    return {name: own.key_of(name) for name in ("relabel", *REPEATED) if name in own.state.stages}


def run_rounds(run: RunFolder, plan: Plan, forecast: Forecast | None = None) -> None:
    """Run rounds 2 to ``config.rounds``, then keep the best.

    Args:
        run: Holds round 1, all its stages finished, and the lock.
        plan: Round 1's.
        forecast: Of all rounds.
    """
    previous, facts = run, [_facts(run, 1)]
    for number in range(2, plan.scope.config.rounds + 1):
        say(f"round {number}")
        own = open_round(run, number)
        with own.lock():
            later = _plan_round(plan, number, previous)
            own.state = replace(run.state, stages=own.state.stages, inputs=own.state.inputs, plan=later.keys_for(own))
            own.save()
            view = replace(view_of(own, later), first=run, previous=previous)
            for _ in run_plan(view, later, forecast=forecast):
                pass
        facts.append(_facts(own, number))
        previous = own
    best = max(facts, key=lambda row: (row["criterion"], row["quality"], -row["round"]))
    snapshot(run, open_round(run, 1))
    install(run, best["round"], key=plan.keys["rounds"], facts={"kept": best["round"], "rounds": facts})
    values = ", ".join(f"round {row['round']}: {row['criterion']:.4f}" for row in facts)
    say(f"rounds: round {best['round']} is kept by the criterion of the background level ({values})")


def later_steps(plan: Plan) -> dict[Step, Stage]:
    """The stages of all rounds after the first; which of them are done already is known only when they come."""
    scope = replace(plan.scope, round=2)
    names = [name for name in ("relabel", *REPEATED) if GRAPH.by_name[name].wanted(scope)]
    return {(number, name): GRAPH.by_name[name] for number in range(2, scope.config.rounds + 1) for name in names}


def _plan_round(plan: Plan, number: int, previous: RunFolder) -> Plan:
    """The plan of a later round: what stands on its maps; the rest is round 1's."""
    shared = {name: key for name, key in plan.keys.items() if name not in GRAPH.below("relabel")}
    before = previous.key_of("segmentation")
    return make_plan(replace(plan.scope, round=number, previous=before, given=shared))


def open_round(run: RunFolder, number: int) -> RunFolder:
    """The run folder of a round, made where it is missing, with what all rounds share in it."""
    return open_part(run, run.path / ROUNDS_FOLDER / str(number))


def open_part(run: RunFolder, folder: Path) -> RunFolder:
    """A run folder inside a run, made where it is missing, with what all rounds share in it."""
    folder.mkdir(parents=True, exist_ok=True)
    own = RunFolder.open(folder) if (folder / "run.toml").exists() else RunFolder(folder, RunState())
    if not own.state.config:
        own.state = replace(run.state, stages={})
        own.save()
    # Where the rounds' own maps have another name, those of the networks are the same for all.
    fused = run.state.config.get("probe", {}).get("enabled", False)
    _link_all(run.path, folder, (*SHARED, MAPS_FILE) if fused else SHARED)
    return own


def _facts(run: RunFolder, number: int) -> dict[str, Any]:
    """What is known about a round without true masks."""
    return {"round": number, **mask_facts(run)}


def mask_facts(run: RunFolder) -> dict[str, Any]:
    """Level, criterion, withheld share and mean quality of a run's masks; no true mask has a part in it."""
    evidence = LevelEvidence.load(run.path / LEVELS_FILE)
    masks = run.state.stages["masks"]
    pixels = masks["pixels"]
    return {
        "criterion": round(float(np.interp(masks["threshold"], evidence.levels, evidence.criterion())), 5),
        "threshold": masks["threshold"],
        "withheld": round(pixels["ignored"] / max(1, sum(pixels.values())), 4),
        "quality": run.state.stages["quality"]["mean"],
    }


def snapshot(run: RunFolder, own: RunFolder) -> None:
    """Keep a run's masks and what they came from in a folder of their own, a run that every command can open."""
    results = [file for name in REPEATED for file in run.state.stages.get(name, {}).get("outputs", ())]
    _link_all(run.path, own.path, (*results, PNG_RECORD, *MAPS, "metrics.json"))
    if (log := placed(run.path / LOG_FILE)).exists():
        (own.path / LOG_FILE).parent.mkdir(exist_ok=True)
        shutil.copyfile(log, own.path / LOG_FILE)  # appended to in place: no link
    own.state = replace(run.state, stages={name: fact for name, fact in run.state.stages.items() if name != "rounds"})
    own.save()


def install(run: RunFolder, number: int, key: str, facts: Mapping[str, Any] | None = None) -> None:
    """Put the files and records of a round in the run's place, and what is said of the rounds; the caller locks."""
    # Until all is in place the record has no valid key: a killed process leaves a run that `fit` restores. The key that
    # it is to have is beside it, for `masks` goes on where it was.
    run.finish("rounds", "unfinished", 0.0, [], kept=number, installs=key)
    own = open_round(run, number)
    files = _take_results(run, own)
    run.state.config = {**run.state.config, "masks": own.state.config.get("masks", {})}
    # Before the record, after which nothing is done any more.
    if facts:
        run.update_metrics(SECTION, facts, stage="rounds")
    run.finish("rounds", key, 0.0, [f"{ROUNDS_FOLDER}/{number}/run.toml"], kept=number, installed=files)


def restore_first(run: RunFolder) -> None:
    """Put round 1 back where another was kept, and forget the choice."""
    if "rounds" not in run.state.stages:
        return
    folder = run.path / ROUNDS_FOLDER / "1"
    if kept_round(run) > 1 and folder.is_dir():
        _take_results(run, RunFolder.open(folder))
    # What is kept of round 1 is to say nothing of a choice that is forgotten.
    run.drop_metrics(SECTION)
    del run.state.stages["rounds"]
    run.save()


def _take_results(run: RunFolder, own: RunFolder) -> list[str]:
    """The results of a round, with their records, keys and metrics, in the run's place; returns their files."""
    records = {name: own.state.stages[name] for name in REPEATED if name in own.state.stages}
    files = [file for record in records.values() for file in record["outputs"]]
    _link_all(own.path, run.path, [*files, PNG_RECORD])
    run.state.stages |= records
    run.state.inputs |= own.state.inputs
    # The maps of a later round stay in its own folder, but its results say that they stand on them.
    keys = {name: own.state.stages[name]["key"] for name in ("relabel", *records) if name in own.state.stages}
    run.state.plan |= {name: own.state.plan.get(name, key) for name, key in keys.items()}
    for name in records:
        for section in GRAPH.by_name[name].sections:
            if section in own.metrics():
                run.update_metrics(section, own.section(section), stage=name)
    return files


def _link_all(source: Path, target: Path, names: Iterable[str]) -> None:
    for name in names:
        place = placed(source / name)
        if place.is_dir():
            _link_folder(place, target / name)
        elif place.is_file():
            _link(place, target / name)


def _link(source: Path, target: Path) -> None:
    """A second name for a file; its content is never changed in place, only replaced. A copy where links fail."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.link")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    # os.replace does nothing where both names are the same file already, and leaves the temporary one.
    temporary.replace(target)
    temporary.unlink(missing_ok=True)


def _link_folder(source: Path, target: Path) -> None:
    fresh = target.with_name(f".{target.name}.link")
    shutil.rmtree(fresh, ignore_errors=True)
    for path in source.rglob("*"):
        if path.is_file():
            _link(path, fresh / path.relative_to(source))
    fresh.mkdir(parents=True, exist_ok=True)
    swap_folder(fresh, target)
