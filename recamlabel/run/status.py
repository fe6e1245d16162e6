"""What a run holds, stage by stage: current, outdated (and why), or not run; what ``fit`` would do again.

Read from ``run.toml`` alone, and from the files that settings name: no network is loaded and no image opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from recamlabel.storage.digest import content_digest
from recamlabel.storage.outdated import other_packages, setting, why_outdated
from recamlabel.storage.run_folder import FINISHED, FREED, NOT_RUN, OUTDATED, RunFolder

# Facts of a result that are the content of a file, and the setting that names it.
FILES = {"weights": "backbone.weights", "encoder_weights": "segmenter.encoder_weights", "file": "maps.file"}


@dataclass(frozen=True)
class StageRow:
    """One stage of a run.

    Attributes:
        stage: Its name.
        state: As :meth:`RunFolder.stage_state` says; also ``outdated`` where a file that a setting names has changed.
        because: Why it is outdated; else empty.
        record: What is recorded of its result; empty where there is none.
        redone: Whether ``fit`` would do it again, or for the first time.
    """

    stage: str
    state: str
    because: str
    record: Mapping[str, Any]
    redone: bool

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the record's own fields beside ``stage``, ``state``, ``because`` and ``redone``."""
        own = {"stage": self.stage, "state": self.state, "because": self.because, "redone": self.redone}
        return {**self.record, **own}


def stage_rows(run: RunFolder) -> list[StageRow]:
    """The stages that the run's settings ask for, and those of which it has a result, in order."""
    planned = list(run.state.plan)
    names = [*planned, *(name for name in run.state.stages if name not in planned)]
    rows: dict[str, StageRow] = {}
    for name in names:
        state, record = run.stage_state(name), run.state.stages.get(name, {})
        because = why_outdated(run, name)
        if state in (FINISHED, FREED) and (changed := _changed(run, record, rows)):
            state, because = OUTDATED, changed
        # A later round's maps are made by the rounds, whose own row says so.
        redone = name in planned and name != "relabel" and state not in (FINISHED, FREED)
        rows[name] = StageRow(name, state, because, record, redone)
    return list(rows.values())


def _changed(run: RunFolder, record: Mapping[str, Any], above: Mapping[str, StageRow]) -> str:
    """Which file or package is another one than when a result was made from it, or than when one below was."""
    inputs = run.state.inputs.get(record["key"], {})
    below = (above[need].because for need in inputs.get("needs", {}) if need in above)
    facts = inputs.get("facts", {})
    return next(filter(None, chain(_other_files(run, facts), other_packages(facts), below)), "")


def _other_files(run: RunFolder, facts: Mapping[str, str]) -> Iterator[str]:
    for fact, key in FILES.items():
        path = Path(str(setting(run.state.config, key)))
        if fact in facts and path.is_file() and content_digest(path) != facts[fact]:
            yield f"{key}: {path} has other content"


def seconds_to_redo(rows: list[StageRow]) -> float:
    """How long the stages that ``fit`` would do again took the last time, in seconds."""
    return sum(float(row.record.get("seconds", 0.0)) for row in rows if row.redone and row.state != NOT_RUN)
