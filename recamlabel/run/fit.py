"""The stages in order. They meet only through the run folder; each is skipped while its key holds."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from recamlabel import __version__
from recamlabel.config import Config, config_from_tree
from recamlabel.core.devices import pick_device
from recamlabel.core.progress import say
from recamlabel.data.catalog import CATALOG_FILE, load_catalog, save_catalog
from recamlabel.errors import ConfigError, RecamlabelError
from recamlabel.maps import get_variant
from recamlabel.maps.precomputed import file_identity
from recamlabel.masks.pngs import mend_pngs
from recamlabel.masks.reviewed import ReviewFolder
from recamlabel.models.combine import check_combine
from recamlabel.models.segmenter import check_segmenter
from recamlabel.models.weights import check_reachable, weights_identity
from recamlabel.refine import resolve_method, walks
from recamlabel.run.engine import forgotten, invalidate, run_stage
from recamlabel.run.intake import Intake, refuse_place, take_in
from recamlabel.run.plan import Stage, masks_stage, plan
from recamlabel.run.redo import Redo, what_is_redone
from recamlabel.run.rounds import (
    first_records,
    install,
    kept_round,
    open_round,
    restore_first,
    rounds_current,
    run_rounds,
    without_kept,
)
from recamlabel.stages import StageContext
from recamlabel.storage.run_folder import INDEPENDENT_STAGES, RUN_FILE, STANDS_ON, RunFolder, RunState


def _nothing(run: RunFolder) -> None: ...


@dataclass(frozen=True)
class Hooks:
    """What a caller of :func:`fit` wants to be asked and told.

    Args:
        agree: Asked once, after what differs was said, before a finished stage is done again; False stops.
        masks_made: Told as soon as there are masks, while the segmenter is still to come; it may fail.
    """

    agree: Callable[[], bool] = lambda: True
    masks_made: Callable[[RunFolder], None] = _nothing


def fit(source: Path, out: Path, config: Config, until: str | None = None, hooks: Hooks | None = None) -> RunFolder:
    """Labels to masks: run every stage that is not current yet.

    Args:
        source: Label file or folder that an adapter reads.
        out: Run folder: new, empty, or an earlier run.
        config: All settings.
        until: Name of the last stage to run; None runs all.
        hooks: What the caller wants to be asked and told.

    Returns:
        The run folder, every stage up to ``until`` current.

    Raises:
        RecamlabelError: Anything that is the user's to mend; the run folder then holds every
            stage finished so far, and the same call continues.
    """
    hooks = hooks or Hooks()
    config = check_settings(config)
    intake = _take_in(source, out, config)
    run = RunFolder.create(out)
    with run.lock():
        mend_pngs(run)
        work = _plan_work(run, intake, config)
        for line in (lines := _redo(run, work, intake, config, source).lines()):
            say(line)
        if lines and not hooks.agree():
            raise RecamlabelError(f"{out}: nothing was changed; `recamlabel fit {out}` keeps the run's own settings")
        if not work.kept:
            restore_first(run)
        invalidate(run, work.stages)
        _record(run, intake, config, source)
        context = StageContext(run, intake.catalog, config, pick_device(config.runtime.device))
        _run_all(context, work, until, hooks)
    return run


def preview(source: Path, out: Path, config: Config) -> Redo:
    """What :func:`fit` would do with the same arguments; nothing is written. Raises as it does."""
    config = check_settings(config)
    intake = _take_in(source, out, config)
    run = RunFolder.open(out) if (out / RUN_FILE).exists() else RunFolder(out, RunState())
    return _redo(run, _plan_work(run, intake, config), intake, config, source)


def _take_in(source: Path, out: Path, config: Config) -> Intake:
    RunFolder.check_place(out)
    existing = RunFolder.open(out) if (out / RUN_FILE).exists() else None
    intake = take_in(source, config, existing)
    refuse_place(intake.catalog.dataset.root, intake.catalog.dataset.adapter, out)
    return intake


@dataclass(frozen=True)
class _Work:
    """Round 1's whole plan, the part of it that is the run's to do, and whether a later round is kept."""

    everything: Sequence[Stage]
    stages: Sequence[Stage]
    kept: bool
    reviewed: str


def _plan_work(run: RunFolder, intake: Intake, config: Config) -> _Work:
    reviewed = ReviewFolder(run.path).digest() if config.review.use else ""
    everything = plan(intake.catalog, config, reviewed)
    # Where a later round was kept, the run holds that round's files: those stages are not the plan's.
    shared = without_kept(everything)
    kept = rounds_current(run, config, everything) and set(forgotten(run, shared)) <= set(INDEPENDENT_STAGES)
    return _Work(everything, shared if kept else everything, kept, reviewed)


def _redo(run: RunFolder, work: _Work, intake: Intake, config: Config, source: Path) -> Redo:
    stages = run.state.stages if work.kept else first_records(run)
    found = RunFolder(run.path, replace(run.state, stages=dict(stages)))
    return what_is_redone(found, work.stages, intake.catalog, config, _origin(source))


def _run_all(context: StageContext, work: _Work, until: str | None, hooks: Hooks) -> None:
    for stage in work.stages:
        ran = run_stage(context, stage)
        if ran and stage.name == "masks" and context.config.segmenter.enabled:
            _tell(hooks.masks_made, context.run)
        if stage.name == until:
            return
    if work.kept:
        say(f"rounds: up to date, round {kept_round(context.run)} is kept")
    elif context.config.rounds > 1:
        run_rounds(context, work.everything, work.reviewed)


def _tell(masks_made: Callable[[RunFolder], None], run: RunFolder) -> None:
    """Hours of training are not lost for a page that can be written later."""
    try:
        masks_made(run)
    except Exception as error:
        run.log(event="masks_made", error=repr(error))
        say(f"note: no page to look at yet ({error}); fit goes on, and writes it at the end")


def _origin(source: Path) -> str:
    """What the run remembers as its source; ``fiftyone:NAME`` is no path."""
    return str(source.resolve() if source.exists() else source)


def check_settings(config: Config) -> Config:
    """Refuse impossible settings before any work; resolve ``refine.method=auto`` for this machine."""
    pick_device(config.runtime.device)
    check_combine(config.recam.combine)
    if config.segmenter.enabled:
        _check_segmenter(config)
    elif config.rounds > 1:
        raise ConfigError(
            f"rounds={config.rounds}: a second round starts from the segmenter; set segmenter.enabled=true, or rounds=1"
        )
    get_variant(config.maps.variant)
    file_identity(config.maps)
    weights_identity(config.backbone.weights)
    check_reachable(config.backbone.name, config.backbone.weights)
    method = resolve_method(config.refine.method)
    if walks(method) and not config.affinity.pairs_fit(config.augment.crop_size):
        raise ConfigError(
            f"affinity.radius: {config.affinity.radius} is too large for training crops of "
            f"{config.augment.crop_size} pixels; no pair fits in. Lower it or raise augment.crop_size"
        )
    if config.refine.method == "auto" and method == "none":
        say(
            "refine: the dense CRF is left out, because pydensecrf2 is not installed "
            "(pip install 'recamlabel[crf]', needs a C++ compiler)"
        )
    return config.model_copy(update={"refine": config.refine.model_copy(update={"method": method})})


def _check_segmenter(config: Config) -> None:
    segmenter, backbone = config.segmenter, config.backbone
    check_segmenter(segmenter.method)
    if segmenter.encoder_weights not in {"classifier", "backbone"}:
        weights_identity(segmenter.encoder_weights)
        check_reachable(segmenter.encoder or backbone.name, segmenter.encoder_weights)
    elif segmenter.encoder not in {"", backbone.name}:
        raise ConfigError(
            f"segmenter.encoder={segmenter.encoder} cannot start from the {segmenter.encoder_weights}'s weights, which "
            f"are those of {backbone.name}; set segmenter.encoder_weights to imagenet, embedded, none or a file"
        )


def _record(run: RunFolder, intake: Intake, config: Config, source: Path) -> None:
    """Write down what this run is made from."""
    catalog = intake.catalog
    if not run.is_current("dataset", intake.key):
        save_catalog(run.path / CATALOG_FILE, catalog)
        facts = {"images": len(catalog.images), "left_out": list(intake.left_out)}
        run.finish("dataset", intake.key, 0.0, [CATALOG_FILE], **facts)
    run.state.config = config.model_dump()
    run.state.dataset = {
        "source": _origin(source),
        "adapter": catalog.dataset.adapter,
        "fingerprint": catalog.fingerprint(),
        "images": len(catalog.images),
        "classes": list(catalog.dataset.classes.names),
    }
    packages = ("torch", "torchvision", "timm", "numpy", "h5py", "pillow", "scikit-learn")
    run.state.versions = {
        "recamlabel": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
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
        mend_pngs(run)
        kept = kept_round(run)
        if kept > 1:
            # Rendered there, where the maps are that its masks were made from.
            key = run.key_of("rounds")
            render(open_round(run, kept).path, threshold, ignore, known)
            # The key is that of the settings: with others it is not the plan's, back at these it is again.
            install(run, kept, key)
        else:
            _render(run, threshold, ignore, known)
    return run


def _render(
    run: RunFolder, threshold: float | str | None, ignore: float | str | None, known: Mapping[str, Any] | None
) -> None:
    """As :func:`render`, of the very files that lie in ``run``; the lock is held."""
    refine, calibration = run.key_of("refine"), run.key_of("calibration")
    chosen = {name: value for name, value in (("threshold", threshold), ("ignore", ignore)) if value is not None}
    tree = {**run.state.config, "masks": {**run.state.config.get("masks", {}), **chosen}}
    config = config_from_tree(tree, origin=str(run.path / "run.toml"))
    catalog = load_catalog(run.path / CATALOG_FILE)
    reviewed = ReviewFolder(run.path).digest() if config.review.use else ""
    stage = masks_stage(config, refine, calibration, reviewed)
    if not run.is_current(stage.name, stage.key):
        run.begin(stage.name, keep=STANDS_ON)
    run.state.config = config.model_dump()
    run.save()
    run_stage(StageContext(run, catalog, config, pick_device("cpu")), stage)
    if known:
        run.state.stages["masks"]["threshold_origin"] = known["origin"]
        run.save()
        section = {**run.metrics().get("threshold", {}), "used_origin": known["origin"], "known": dict(known)}
        run.update_metrics("threshold", section)
