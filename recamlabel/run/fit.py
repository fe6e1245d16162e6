"""The stages in order. They meet only through the run folder; each is skipped while its key holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recamlabel.adapters import ADAPTERS
from recamlabel.config import Config, config_from_tree
from recamlabel.core import ranks
from recamlabel.core.devices import pick_device
from recamlabel.core.progress import say
from recamlabel.data.catalog import CATALOG_FILE, load_catalog, save_catalog
from recamlabel.data.learnable import no_normal_reasons
from recamlabel.errors import ConfigError, RecamlabelError
from recamlabel.maps import get_variant
from recamlabel.maps.precomputed import file_identity
from recamlabel.masks.pngs import fix_pngs, match_png_mode
from recamlabel.masks.reviewed import REVIEW_FOLDER
from recamlabel.models.combine import check_combine
from recamlabel.models.segmenter import check_encoder
from recamlabel.models.weights import check_weights
from recamlabel.refine import learns_affinity, resolve_method, walks
from recamlabel.refine.config import RefineConfig
from recamlabel.refine.crf import check_backend
from recamlabel.refine.hed import hed_file
from recamlabel.refine.outlines.sam import GET, open_sam
from recamlabel.refine.saliency import SaliencyMaps
from recamlabel.run.engine import Plan, make_plan, run_plan, scope_of, to_do, view_of
from recamlabel.run.followers import dismissed, follow, refuse_small_batches
from recamlabel.run.forecast import REAL, Forecast, Pace, Step, make_forecast, plan_lines
from recamlabel.run.intake import Intake, refuse_place, take_in
from recamlabel.run.redo import Redo, what_is_redone
from recamlabel.run.rounds import install, kept_keys, kept_round, later_steps, open_round, restore_first, run_rounds
from recamlabel.stages import GRAPH, REPEATED
from recamlabel.stages.calibration import LEVELS_FILE
from recamlabel.stages.graph import Scope, Stage, flatten
from recamlabel.stages.plugins import shadowed_notes
from recamlabel.storage.atomic import remove_dead
from recamlabel.storage.places import SCORES_FILE, WORK
from recamlabel.storage.remote import as_url
from recamlabel.storage.run_folder import RunFolder, RunState, is_run


def _nothing(run: RunFolder) -> None: ...


@dataclass(frozen=True)
class Hooks:
    """What a caller of :func:`fit` wants to be asked and told.

    Args:
        agree: Asked once, after what differs was said, before a finished stage is done again; False stops.
        masks_made: Told as soon as there are masks, while the segmenter is still to come; it may fail.
        page: File in the run folder that it writes, which is said at the start.
        pace: How speed and time are measured.
    """

    agree: Callable[[], bool] = lambda: True
    masks_made: Callable[[RunFolder], None] = _nothing
    page: str = ""
    pace: Pace = REAL


def fit(source: Path, out: Path, config: Config, until: str | None = None, hooks: Hooks | None = None) -> RunFolder:
    """Labels to masks: run every stage that is not current yet.

    Where a launcher has started several processes, all of them call this, and the first decides and writes.

    Args:
        source: Label file or folder that an adapter reads.
        out: Run folder: new, empty, or an earlier run.
        config: All settings.
        until: Name of the last stage to run; None runs all.
        hooks: What the caller wants to be asked and told.

    Returns:
        The run folder, every stage up to ``until`` current.

    Raises:
        RecamlabelError: Anything that is the user's to fix; the run folder then holds every
            stage finished so far, and the same call continues.
    """
    with ranks.joined(config.runtime.device):
        if not ranks.is_first():
            return follow(out, config.runtime.device)
        with dismissed():
            return _fit(source, out, config, until, hooks or Hooks())


def _fit(source: Path, out: Path, config: Config, until: str | None, hooks: Hooks) -> RunFolder:
    config = check_settings(config)
    intake = _take_in(source, out, config)
    run = RunFolder.create(out)
    with run.lock():
        for folder in (run.path, *(run.path / name for name in (WORK, "weights", REVIEW_FOLDER))):
            remove_dead(folder)
        fix_pngs(run)
        plan = plan_run(run, intake, config)
        for line in (lines := what_is_redone(run, plan, intake.catalog, _origin(source)).lines()):
            say(line)
        if lines and not hooks.agree():
            raise RecamlabelError(f"{out}: nothing was changed; `recamlabel fit {out}` keeps the run's own settings")
        if not _shows_a_later_round(run, plan):
            restore_first(run)
        _record(run, intake, plan, source)
        match_png_mode(run)
        _run_all(run, plan, until, hooks)
    return run


def preview(source: Path, out: Path, config: Config) -> Redo:
    """What :func:`fit` would do with the same arguments; nothing is written. Raises as it does."""
    config = check_settings(config)
    intake = _take_in(source, out, config)
    run = RunFolder.open(out) if is_run(out) else RunFolder(out, RunState())
    return what_is_redone(run, plan_run(run, intake, config), intake.catalog, _origin(source))


def _take_in(source: Path, out: Path, config: Config) -> Intake:
    RunFolder.check_place(out)
    existing = RunFolder.open(out) if is_run(out) else None
    intake = take_in(source, config, existing)
    dataset = intake.catalog.dataset
    refuse_place(dataset.root, dataset.adapter, out)
    if config.maps.variant == "patchmemory" and (reasons := no_normal_reasons(dataset, config.data.train_splits)):
        raise ConfigError(f"{dataset.root}: {reasons[0]}")
    return intake


def plan_run(run: RunFolder, intake: Intake, config: Config) -> Plan:
    """What a run is to hold with these settings; where all rounds are done, the kept one's results."""
    plan = make_plan(replace(scope_of(run, intake.catalog, config), given={"dataset": intake.key}))
    kept = kept_keys(run, plan)
    return plan if kept is None else plan.without(REPEATED, kept)


def _shows_a_later_round(run: RunFolder, plan: Plan) -> bool:
    """Whether the run holds a kept round's results, and is to hold them."""
    return "quality" not in plan.names


def _run_all(run: RunFolder, plan: Plan, until: str | None, hooks: Hooks) -> None:
    forecast = _forecast(run, plan, until, hooks)
    if _page_is_missing(run, plan, hooks):
        _tell(hooks.masks_made, run)
    for done in run_plan(view_of(run, plan), plan, until, forecast):
        if done.name == "masks" and plan.scope.config.segmenter.enabled:
            _tell(hooks.masks_made, run)
    if until in plan.names:
        return
    if _shows_a_later_round(run, plan):
        say(f"rounds: up to date, round {kept_round(run)} is kept")
    elif plan.scope.config.rounds > 1:
        run_rounds(run, plan, forecast)


def _forecast(run: RunFolder, plan: Plan, until: str | None, hooks: Hooks) -> Forecast | None:
    """Say what is to be done and how long that takes."""
    stale = {one.name for one in to_do(run, plan.up_to(until))}
    steps: dict[Step, Stage] = {(1, one.name): one.stage for one in plan.stages if one.name in stale}
    if plan.scope.config.rounds > 1 and until not in plan.names and not _shows_a_later_round(run, plan):
        steps |= later_steps(plan)
    current = [one for one in plan.stages if one.name not in stale]
    forecast = make_forecast(view_of(run, plan), plan.scope, steps, current, hooks.pace)
    page = str(run.path / hooks.page) if hooks.page else ""
    for line in plan_lines(forecast, page) if forecast else ():
        say(line)
    return forecast


def _page_is_missing(run: RunFolder, plan: Plan, hooks: Hooks) -> bool:
    """Whether an earlier call made the masks, but was stopped before there was a page to look at."""
    stale = {one.name for one in to_do(run, plan)}
    there = "masks" in plan.names and "masks" not in stale and not (run.path / hooks.page).exists()
    return bool(hooks.page) and there and "segmenter" in stale


def _tell(masks_made: Callable[[RunFolder], None], run: RunFolder) -> None:
    """Hours of training are not lost for a page that can be written later."""
    try:
        masks_made(run)
    except Exception as error:
        run.log(event="masks_made", error=repr(error))
        say(f"note: no page to look at yet ({error}); fit goes on, and writes it at the end")


def _origin(source: Path) -> str:
    """What the run remembers as its source; ``fiftyone:NAME`` is no path."""
    return as_url(source) or str(source.resolve() if source.exists() else source)


def check_settings(config: Config) -> Config:
    """Refuse impossible settings before any work; resolve ``refine.method=auto`` for this machine."""
    if config.rounds > 1 and not config.segmenter.enabled:
        raise ConfigError(
            f"rounds={config.rounds}: a second round starts from the segmenter; set segmenter.enabled=true, or rounds=1"
        )
    # Room by room, the last of the pipeline first.
    method = resolve_method(config.refine.method)
    resolved = config.refine.model_copy(update={"method": method})
    _check_edges(resolved)
    _check_snap(resolved)
    if learns_affinity(resolved) and not config.affinity.pairs_fit(config.augment.crop_size):
        raise ConfigError(
            f"affinity.radius: {config.affinity.radius} is too large for training crops of "
            f"{config.augment.crop_size} pixels; no pair fits in. Lower it or raise augment.crop_size"
        )
    check_backend(config.refine.crf)
    check_backend(config.segmenter.predict.crf)
    get_variant(config.maps.variant)
    for line in shadowed_notes(dict(flatten(config.model_dump()))):
        say(f"note: {line}")
    file_identity(config.maps)
    if config.refine.saliency:
        SaliencyMaps(Path(config.refine.saliency), [])
    if config.segmenter.enabled:
        check_encoder(config.segmenter, config.backbone)
    check_weights(config.backbone.name, config.backbone.weights)
    check_combine(config.recam.combine)
    pick_device(config.runtime.device)
    config = config.model_copy(update={"refine": resolved})
    refuse_small_batches(config)
    return config


def _check_edges(refine: RefineConfig) -> None:
    """HED is for a random walk, and has its weights from a package."""
    if refine.edges == "hed":
        if not walks(refine.method):
            raise ConfigError(
                f"refine.edges=hed: these are boundaries for a random walk, and refine.method is {refine.method!r}; "
                "set refine.method=random_walk or crf+random_walk, or leave refine.edges at 'affinity'"
            )
        hed_file()


def _check_snap(refine: RefineConfig) -> None:
    """SAM's files are the user's: they are opened before any work."""
    if refine.snap == "sam":
        if not refine.sam:
            raise ConfigError(
                f"refine.snap=sam: refine.sam does not say where SAM's files are; --sam DIR does both; {GET}"
            )
        open_sam(Path(refine.sam))


def _record(run: RunFolder, intake: Intake, plan: Plan, source: Path) -> None:
    """Write down what this run is made from; from here on other results are outdated."""
    catalog = intake.catalog
    run.state.plan = plan.keys_for(run)
    if intake.anew:
        save_catalog(run.path / CATALOG_FILE, catalog)
        images, left_out = len(catalog.images), list(intake.left_out)
        run.finish("dataset", intake.key, 0.0, [CATALOG_FILE], images=images, left_out=left_out)
    run.state.config = plan.scope.config.model_dump(mode="json")
    run.state.dataset = {
        "source": _origin(source),
        "adapter": catalog.dataset.adapter,
        "adapter_package": ADAPTERS.origin(catalog.dataset.adapter) or None,
        "fingerprint": catalog.fingerprint(),
        "images": len(catalog.images),
        "classes": list(catalog.dataset.classes.names),
    }
    run.save()


def render(
    path: Path,
    threshold: float | str | None = None,
    ignore: float | str | None = None,
    known: Mapping[str, Any] | None = None,
) -> RunFolder:
    """Render the masks of a finished run with other settings, from its stored scores.

    Args:
        path: The run folder.
        threshold: Background level or ``"auto"``; None leaves it as it is.
        ignore: ``"auto"``, ``"none"`` or a share; None leaves it as it is.
        known: How ``threshold`` was chosen with known masks, for the record.

    Raises:
        StoreError: Not a run, or its ``refine`` stage is not finished.
        ConfigError: A setting that is not possible.
    """
    run = RunFolder.open(path)
    with run.lock():
        fix_pngs(run)
        _render(run, threshold, ignore, known)
    return run


def _render(
    run: RunFolder, threshold: float | str | None, ignore: float | str | None, known: Mapping[str, Any] | None
) -> None:
    """As :func:`render`; the lock is held."""
    chosen = {name: value for name, value in (("threshold", threshold), ("ignore", ignore)) if value is not None}
    tree = {**run.state.config, "masks": {**run.state.config.get("masks", {}), **chosen}}
    config = config_from_tree(tree, origin=str(run.path / "run.toml"))
    for name in ("refine", "calibration"):
        run.key_of(name)
    catalog = load_catalog(run.path / CATALOG_FILE, config.data.background)
    scope = scope_of(run, catalog, config)
    kept = kept_round(run)
    if kept == 1:
        _render_here(run, scope, known)
        return
    # Rendered there, where the maps are that its masks were made from.
    record, own = run.state.stages["rounds"], open_round(run, kept)
    key = str(record.get("installs", record["key"]))
    with own.lock():
        _render_here(own, scope, known)
    install(run, kept, key)
    # The choice was made at other masks: it is outdated with these, and current again back at those.
    shared = {name: key for name, key in run.current_keys().items() if name not in GRAPH.below("relabel")}
    run.state.plan |= {"rounds": make_plan(replace(scope, given=shared)).keys["rounds"]}
    run.save()


def _render_here(run: RunFolder, scope: Scope, known: Mapping[str, Any] | None) -> None:
    """The masks of the very files that lie in ``run``."""
    for file in (SCORES_FILE, LEVELS_FILE):
        run.need(file)
    if not run.state.plan:
        _adopt(run, scope)
    below = GRAPH.below("masks")
    given = {name: key for name, key in run.current_keys().items() if name not in below}
    plan = make_plan(replace(scope, given=given))
    run.state.plan = {**run.state.plan, **{name: key for name, key in plan.keys.items() if name in below}}
    run.state.config = scope.config.model_dump(mode="json")
    run.save()
    view = replace(view_of(run, plan), device=pick_device("cpu"))
    for _ in run_plan(view, replace(plan, stages=tuple(one for one in plan.stages if one.name == "masks"))):
        pass
    if known:
        run.state.stages["masks"]["threshold_origin"] = known["origin"]
        run.save()
        section = {**run.section("threshold"), "used_origin": known["origin"], "known": dict(known)}
        run.update_metrics("threshold", section, stage="masks")


def _adopt(run: RunFolder, scope: Scope) -> None:
    """Give a run of format 1 a plan: its results as they are, and keys of this version to what stands on its masks.

    Otherwise its segmenter would be lost with the first rendering at another level. Above the masks its keys stay,
    which no plan of this version has: the next ``fit`` builds on none of them.
    """
    records, below = run.state.stages, GRAPH.below("masks")
    stands = [name for name in below if name in records and _stands(records, name)]
    config = config_from_tree(run.state.config, origin=str(run.path / "run.toml"))
    given = {name: record["key"] for name, record in records.items() if name not in below}
    plan = make_plan(replace(scope, config=config, given=given))
    for one in plan.stages:
        if one.name in stands:
            records[one.name]["key"] = one.key
            run.state.inputs[one.key] = dict(one.inputs)
    run.state.plan = {**given, **{name: key for name, key in plan.keys.items() if name in below}}


def _stands(records: Mapping[str, Any], name: str) -> bool:
    """Whether a record of format 1 is of the masks that are there: in that format ``inputs`` had keys by stage."""
    return all(records.get(need, {}).get("key") == key for need, key in records[name].get("inputs", {}).items())
