"""The stages in order. They meet only through the run folder; each is skipped while its key holds."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from recamlabel import __version__
from recamlabel.config import Config, config_from_tree
from recamlabel.data.catalog import CATALOG_FILE, load_catalog, save_catalog
from recamlabel.devices import pick_device
from recamlabel.errors import ConfigError
from recamlabel.execute import invalidate, run_stage
from recamlabel.intake import Intake, refuse_place, take_in
from recamlabel.maps import get_variant
from recamlabel.maps.precomputed import file_identity
from recamlabel.masks.pngs import mend_pngs
from recamlabel.masks.reviewed import ReviewFolder
from recamlabel.models.combine import check_combine
from recamlabel.models.segmenter import check_segmenter
from recamlabel.plan import masks_stage, plan
from recamlabel.progress import say
from recamlabel.refine import resolve_method, walks
from recamlabel.rounds import install, kept_round, open_round, restore_first, rounds_current, run_rounds, without_kept
from recamlabel.stages import StageContext
from recamlabel.training.weights import check_reachable, weights_identity
from recamlabel.workspace import RUN_FILE, RunFolder


def fit(source: Path, out: Path, config: Config, until: str | None = None) -> RunFolder:
    """Labels to masks: run every stage that is not current yet.

    Args:
        source: Label file or folder that an adapter reads.
        out: Run folder: new, empty, or an earlier run.
        config: All settings.
        until: Name of the last stage to run; None runs all.

    Returns:
        The run folder, every stage up to ``until`` current.

    Raises:
        RecamlabelError: Anything that is the user's to mend; the run folder then holds every
            stage finished so far, and the same call continues.
    """
    config = check_settings(config)
    RunFolder.check_place(out)
    existing = RunFolder.open(out) if (out / RUN_FILE).exists() else None
    intake = take_in(source, config, existing)
    refuse_place(intake.catalog.dataset.root, intake.catalog.dataset.adapter, out)
    run = RunFolder.create(out)
    with run.lock():
        reviewed = ReviewFolder(run.path).digest() if config.review.use else ""
        everything = plan(intake.catalog, config, reviewed)
        # Where a later round was kept, the run holds that round's files: those stages are not the plan's.
        kept = rounds_current(run, config, everything)
        if not kept:
            restore_first(run)
        mend_pngs(run)
        stages = without_kept(everything) if kept else everything
        invalidate(run, stages)
        _record(run, intake, config, source)
        context = StageContext(run, intake.catalog, config, pick_device(config.runtime.device))
        for stage in stages:
            run_stage(context, stage)
            if stage.name == until:
                return run
        if kept:
            say(f"rounds: up to date, round {kept_round(run)} is kept")
        elif config.rounds > 1:
            run_rounds(context, everything, reviewed)
    return run


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
        # 'fiftyone:NAME' is no path.
        "source": str(source.resolve() if source.exists() else source),
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
        render(open_round(run, kept).path, threshold, ignore, known)
        with run.lock():
            install(run, kept, key="rendered again")
        return run
    with run.lock():
        refine, calibration = run.key_of("refine"), run.key_of("calibration")
        chosen = {name: value for name, value in (("threshold", threshold), ("ignore", ignore)) if value is not None}
        tree = {**run.state.config, "masks": {**run.state.config.get("masks", {}), **chosen}}
        config = config_from_tree(tree, origin=str(path / "run.toml"))
        catalog = load_catalog(path / CATALOG_FILE)
        run.state.config = config.model_dump()
        reviewed = ReviewFolder(path).digest() if config.review.use else ""
        stage = masks_stage(config, refine, calibration, reviewed)
        run_stage(StageContext(run, catalog, config, pick_device("cpu")), stage)
        if known:
            run.state.stages["masks"]["threshold_origin"] = known["origin"]
            run.save()
            section = {**run.metrics().get("threshold", {}), "used_origin": known["origin"], "known": dict(known)}
            run.update_metrics("threshold", section)
    return run
