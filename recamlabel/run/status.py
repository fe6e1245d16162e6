"""What a run holds, stage by stage: current, outdated (and why), or not run; what ``fit`` would do again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from recamlabel.config import config_from_tree
from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.errors import RecamlabelError
from recamlabel.run.engine import Plan, make_plan, scope_of
from recamlabel.run.rounds import kept_keys
from recamlabel.stages import GRAPH, REPEATED
from recamlabel.storage.outdated import why_outdated
from recamlabel.storage.run_folder import FINISHED, FREED, NOT_RUN, RunFolder


@dataclass(frozen=True)
class StageRow:
    """One stage of a run.

    Attributes:
        stage: Its name.
        state: As :meth:`RunFolder.stage_state` says.
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
    """The stages that the run's settings ask for, and those of which it has a result, in order.

    What files the settings name (weights, maps) is looked at as it is now.
    """
    found = RunFolder(run.path, replace(run.state, plan=_plan_now(run)))
    asked = {name for name in found.state.plan if not GRAPH.by_name[name].on_demand or name in ("dataset", "rounds")}
    rows = []
    for name in GRAPH.names:
        if name not in asked and name not in found.state.stages:
            continue
        state = found.stage_state(name)
        redone = name in asked and state not in (FINISHED, FREED)
        rows.append(StageRow(name, state, why_outdated(found, name), found.state.stages.get(name, {}), redone))
    return rows


def _plan_now(run: RunFolder) -> dict[str, str]:
    """The planned keys with everything that the settings point to as it is now; those of the last ``fit`` if not."""
    planned = run.state.plan
    if not planned or "dataset" not in run.state.stages:
        return dict(planned)
    try:
        plan = _plan(run)
        kept = kept_keys(run, plan)
    except (RecamlabelError, OSError):
        return dict(planned)
    return dict((plan if kept is None else plan.without(REPEATED, kept)).keys)


def _plan(run: RunFolder) -> Plan:
    catalog = load_catalog(run.path / CATALOG_FILE)
    config = config_from_tree(run.state.config, origin=str(run.path / "run.toml"))
    scope = scope_of(run, catalog, config)
    return make_plan(replace(scope, given={"dataset": run.state.stages["dataset"]["key"]}))


def seconds_to_redo(rows: list[StageRow]) -> float:
    """How long the stages that ``fit`` would do again took the last time, in seconds."""
    return sum(float(row.record.get("seconds", 0.0)) for row in rows if row.redone and row.state != NOT_RUN)
