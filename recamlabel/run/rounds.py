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
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recamlabel.config import Config
from recamlabel.core.progress import say
from recamlabel.data.catalog import CATALOG_FILE
from recamlabel.masks.calibrate import LevelEvidence
from recamlabel.masks.pngs import RECORD_FILE as PNG_RECORD
from recamlabel.masks.reviewed import MASKS_FILE
from recamlabel.run.engine import invalidate, run_stage
from recamlabel.run.plan import Stage, mask_stages
from recamlabel.stages import StageContext
from recamlabel.stages.base import CLASSIFIER_WEIGHTS, FUSED_FILE, MAPS_FILE
from recamlabel.stages.calibration import LEVELS_FILE
from recamlabel.stages.relabel import run_relabel
from recamlabel.stages.segment import SEGMENTER_WEIGHTS
from recamlabel.storage.atomic import swap_folder
from recamlabel.storage.run_folder import RunFolder, RunState, stage_key

ROUNDS_FOLDER = "rounds"
SECTION = "rounds"
# What differs from round to round, and the stages that make it.
FILES = ("scores.h5", LEVELS_FILE, "masks.h5", "masks", PNG_RECORD, SEGMENTER_WEIGHTS, "segmenter.h5", "quality.json")
STAGES = ("refine", "calibration", "masks", "segmenter", "segmentation", "quality")
MAPS = (MAPS_FILE, FUSED_FILE)
SHARED = (CATALOG_FILE, CLASSIFIER_WEIGHTS, "edges.h5", MASKS_FILE)


def kept_round(run: RunFolder) -> int:
    """The round whose files the run folder holds."""
    return int(run.state.stages.get("rounds", {}).get("kept", 1))


def rounds_current(run: RunFolder, config: Config, stages: Sequence[Stage]) -> bool:
    """Whether all rounds of these settings are done, and the kept one is in place."""
    return config.rounds > 1 and run.is_current("rounds", _key(config, stages))


def without_kept(stages: Sequence[Stage]) -> list[Stage]:
    """The stages whose outputs every round shares."""
    return [stage for stage in stages if stage.name not in STAGES]


def _key(config: Config, stages: Sequence[Stage]) -> str:
    """Key of the stage ``rounds``: the last stages of round 1, how many rounds, how they are fused."""
    own = {stage.name: stage.key for stage in stages if stage.name in STAGES}
    return stage_key("rounds", 1, [config.rounds, config.segmenter.relabel_weight], own)


def run_rounds(context: StageContext, stages: Sequence[Stage], reviewed: str = "") -> None:
    """Run rounds 2 to ``config.rounds``, then keep the best.

    Args:
        context: Of the run, which holds round 1, all its stages finished and the lock held.
        stages: Its plan.
        reviewed: Digest of the reviewed masks, where they are to be used.
    """
    first = {stage.name: stage.key for stage in stages}
    previous, facts = context, [_facts(context.run, 1)]
    for number in range(2, context.config.rounds + 1):
        say(f"round {number}")
        own = replace(context, run=open_round(context.run, number))
        with own.run.lock():
            own.run.state = replace(context.run.state, stages=own.run.state.stages)
            planned = _round_stages(own, context.run.path, previous, first, reviewed)
            invalidate(own.run, planned)
            for stage in planned:
                run_stage(own, stage)
        facts.append(_facts(own.run, number))
        previous = own
    best = max(facts, key=lambda row: (row["criterion"], row["quality"], -row["round"]))
    snapshot(context.run, open_round(context.run, 1))
    install(context.run, best["round"], key=_key(context.config, stages))
    context.run.update_metrics(SECTION, {"kept": best["round"], "rounds": facts})
    values = ", ".join(f"round {row['round']}: {row['criterion']:.4f}" for row in facts)
    say(f"rounds: round {best['round']} is kept by the criterion of the background level ({values})")


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
    joined = run.state.config.get("probe", {}).get("enabled", False)
    _link_all(run.path, folder, (*SHARED, MAPS_FILE) if joined else SHARED)
    return own


def _round_stages(
    own: StageContext, run: Path, previous: StageContext, first: dict[str, str], reviewed: str
) -> list[Stage]:
    """The stages of a later round; ``first`` has the keys of round 1's."""
    config, catalog = own.config, own.catalog
    below = {"maps": first.get("probe", first["maps"]), "segmentation": previous.run.key_of("segmentation")}
    relabel = stage_key("relabel", 1, [config.segmenter.relabel_weight, config.refine.source], below)
    training = catalog.fingerprint(catalog.training_images(config.data.train_splits))
    inputs = {"classifier": first["classifier"], "images": training}
    inputs |= {name: key for name, key in first.items() if name == "edges"}
    work = partial(run_relabel, first=run / own.maps_file, previous=previous)
    return [
        Stage("relabel", relabel, (own.maps_file,), work),
        *mask_stages(config, relabel, inputs, catalog.fingerprint(), reviewed),
    ]


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
    _link_all(run.path, own.path, (*FILES, *MAPS, "metrics.json"))
    if (run.path / "log.jsonl").exists():
        shutil.copyfile(run.path / "log.jsonl", own.path / "log.jsonl")  # appended to in place: no link
    own.state = replace(run.state, stages={name: fact for name, fact in run.state.stages.items() if name != "rounds"})
    own.save()


def install(run: RunFolder, number: int, key: str) -> None:
    """Put the files and records of a round in the run's place; the caller holds the lock."""
    # Until all is in place the record has no valid key: a killed process leaves a run that is restored.
    run.finish("rounds", "unfinished", 0.0, [], kept=number)
    own = open_round(run, number)
    _link_all(own.path, run.path, FILES)
    run.state.stages |= {name: own.state.stages[name] for name in STAGES if name in own.state.stages}
    known = own.metrics().get("threshold")
    if known:
        run.update_metrics("threshold", known)
    run.state.config = {**run.state.config, "masks": own.state.config.get("masks", {})}
    outputs = [name for name in FILES if name != PNG_RECORD]  # runs of an earlier version have no such record
    run.finish("rounds", key, 0.0, [*outputs, f"{ROUNDS_FOLDER}/{number}/run.toml"], kept=number)


def first_records(run: RunFolder) -> dict[str, dict[str, Any]]:
    """The stages that a run has finished once round 1 is back in its place (:func:`restore_first`)."""
    records = {name: record for name, record in run.state.stages.items() if name != "rounds"}
    if kept_round(run) == 1:
        return records
    folder = run.path / ROUNDS_FOLDER / "1"
    first = RunFolder.open(folder).state.stages if folder.is_dir() else {}
    shared = {name: record for name, record in records.items() if name not in STAGES}
    return shared | {name: first[name] for name in STAGES if name in first}


def restore_first(run: RunFolder) -> None:
    """Put round 1 back where another was kept, and forget the choice."""
    if "rounds" not in run.state.stages:
        return
    if kept_round(run) > 1:
        first = open_round(run, 1)
        _link_all(first.path, run.path, FILES)
        known = first.metrics().get("threshold")
        if known:
            run.update_metrics("threshold", known)
    run.state.stages = first_records(run)
    run.save()


def _link_all(source: Path, target: Path, names: Iterable[str]) -> None:
    for name in names:
        if (source / name).is_dir():
            _link_folder(source / name, target / name)
        elif (source / name).is_file():
            _link(source / name, target / name)


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
