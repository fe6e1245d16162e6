"""Running the stages of a plan in a run folder; each is skipped while its result is current."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version

from recamlabel import __version__
from recamlabel.config import Config
from recamlabel.core.allocator import freed_memory_kept
from recamlabel.core.devices import pick_device
from recamlabel.core.memory import peak_megabytes, reset_peak
from recamlabel.core.progress import say
from recamlabel.data.catalog import Catalog
from recamlabel.errors import StoreError
from recamlabel.masks.reviewed import ReviewFolder
from recamlabel.run.followers import do_stage
from recamlabel.run.forecast import Forecast
from recamlabel.stages import GRAPH
from recamlabel.stages.graph import Planned, Scope
from recamlabel.stages.plugins import plugin_versions
from recamlabel.stages.view import View
from recamlabel.storage.run_folder import FINISHED, RunFolder

PACKAGES = ("torch", "torchvision", "timm", "numpy", "h5py", "pillow", "scikit-learn")


@dataclass(frozen=True)
class Plan:
    """What a run is to hold, and what it is made from.

    Attributes:
        scope: What the keys are hashes of.
        stages: The stages to run, in order.
        keys: The planned key of every stage, those on demand included.
    """

    scope: Scope
    stages: tuple[Planned, ...]
    keys: Mapping[str, str]

    def keys_for(self, run: RunFolder) -> dict[str, str]:
        """The keys that ``run.toml`` has of the plan: without those of stages on demand that nobody asked for."""
        records = run.state.stages
        return {name: key for name, key in self.keys.items() if name in records or not GRAPH.by_name[name].on_demand}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the stages to run."""
        return tuple(one.name for one in self.stages)

    def up_to(self, last: str | None) -> Plan:
        """The plan's stages up to one; all of them where it is None or not in the plan."""
        end = self.names.index(last) + 1 if last in self.names else len(self.stages)
        return replace(self, stages=self.stages[:end])

    def without(self, names: Sequence[str], keys: Mapping[str, str]) -> Plan:
        """The plan with some stages left alone, which are to have these keys."""
        return replace(
            self, stages=tuple(one for one in self.stages if one.name not in names), keys={**self.keys, **keys}
        )


def make_plan(scope: Scope) -> Plan:
    """All stages that the settings ask for, with their keys."""
    on_demand = [stage.name for stage in GRAPH if stage.on_demand]
    planned = GRAPH.plan(scope, on_demand)
    keys = {**scope.given, **{one.name: one.key for one in planned}}
    run = tuple(one for one in planned if one.stage.work is not None and not one.stage.on_demand)
    return Plan(scope, run, keys)


def scope_of(run: RunFolder, catalog: Catalog, config: Config) -> Scope:
    """What the plan of a run is made from: its settings, its images, and its review where that is to be used."""
    if not config.review.use:
        return Scope(config, catalog)
    review = ReviewFolder(run.path)
    kinds = review.kinds()
    if not kinds:
        return Scope(config, catalog)
    settled = sum(kinds.get(image.id) in {"accepted", "painted"} for image in catalog.images if image.present)
    return Scope(config, catalog, review.digest(), settled)


def view_of(run: RunFolder, plan: Plan) -> View:
    """What the stages of a plan see of a run."""
    scope = plan.scope
    device = pick_device(scope.config.runtime.device)
    return View(run, scope.catalog, scope.config, device, planned=(*plan.keys,), reviewed=bool(scope.reviewed))


def to_do(run: RunFolder, plan: Plan) -> Iterator[Planned]:
    """The stages that are not current under a plan; of caches only those that one of these needs."""
    planned = RunFolder(run.path, replace(run.state, plan=dict(plan.keys)))
    needed: set[str] = set()
    stale = []
    for one in reversed(plan.stages):
        current = planned.stage_state(one.name) == FINISHED
        if not current and (one.name in needed or not one.stage.cache):
            stale.append(one)
            needed |= set(one.inputs["needs"])
    yield from reversed(stale)


def run_stage(view: View, one: Planned) -> None:
    """Do a stage's work and record it."""
    run, stage = view.run, one.stage
    run.begin(stage.name)
    run.log(stage=stage.name, event="start", key=one.key)
    began = time.monotonic()
    reset_peak()
    with freed_memory_kept(view.device):
        facts = do_stage(stage, replace(view, stage=stage.name, key=one.key, declared=one.declared))
    seconds = time.monotonic() - began
    absent = [name for name in one.makes if not (run.path / name).exists()]
    if absent:
        raise StoreError(
            f"{run.path}: stage '{stage.name}' ended without {', '.join(absent)}, which it is to make; that is a "
            "defect of the stage, and nothing of it is recorded"
        )
    made_with = {**versions(), **plugin_versions(one.inputs["facts"])}
    more = {**facts, "peak_mb": round(peak_megabytes(), 0), "versions": made_with}
    run.state.versions = versions()
    run.finish(stage.name, one.key, seconds, one.makes, one.inputs, **({"cache": True} if stage.cache else {}), **more)
    run.log(stage=stage.name, event="finish", key=one.key, seconds=round(seconds, 2))
    say(f"{stage.name}: done in {seconds:.1f} s")


def run_plan(view: View, plan: Plan, until: str | None = None, forecast: Forecast | None = None) -> Iterator[Planned]:
    """Run what is not current, one stage at each step of the iteration; says what is skipped.

    Args:
        view: Of the run, as :func:`view_of` gives it.
        plan: What the run is to hold.
        until: Name of the last stage; None: all.
        forecast: Of the whole run.
    """
    plan = plan.up_to(until)
    wanted = {one.name for one in to_do(view.run, plan)}
    for one in plan.stages:
        if one.name in wanted:
            _run_timed(view, one, forecast, plan.scope.round)
            yield one
            continue
        if forecast:
            forecast.skip((plan.scope.round, one.name))
        if one.name in view.run.state.stages:
            say(f"{one.name}: up to date, skipped")


def _run_timed(view: View, one: Planned, forecast: Forecast | None, number: int) -> None:
    """Run a stage of a round; the forecast learns how long it took."""
    if forecast is None:
        run_stage(view, one)
        return
    with forecast.running((number, one.name)):
        run_stage(view, one)
    if forecast.resumed:
        # The seconds on record are those of the rest alone.
        view.run.state.stages[one.name]["resumed_at"] = round(forecast.resumed, 4)
        view.run.save()


def make_on_demand(run: RunFolder, catalog: Catalog, config: Config, name: str) -> bool:
    """Make the result of a stage that no ``fit`` makes, unless it is there.

    Args:
        run: The run.
        catalog: Its images.
        config: Its settings.
        name: The stage.

    Returns:
        False where a stage below is not finished: nothing is made then.
    """
    given = {below: key for below, key in run.current_keys().items() if below != name}
    stage = GRAPH.by_name[name]
    if any(run.stage_state(need) != FINISHED for need in stage.needs):
        return False
    scope = replace(scope_of(run, catalog, config), given=given)
    one = next(one for one in GRAPH.plan(scope, [name]) if one.name == name)
    if run.state.plan:
        run.state.plan[name] = one.key
    if not run.is_current(name, one.key):
        run_stage(view_of(run, Plan(scope, (one,), {**given, name: one.key})), one)
    return True


@cache
def versions() -> dict[str, str]:
    """The packages that results depend on."""
    packages = {name: version(name) for name in PACKAGES}
    return {"recamlabel": __version__, "python": platform.python_version(), **packages}
