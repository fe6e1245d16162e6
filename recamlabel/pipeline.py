"""The stages in order. They meet only through the run folder; each is skipped while its key holds."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from recamlabel import __version__
from recamlabel.config import Config, config_from_tree
from recamlabel.data.catalog import CATALOG_FILE, Catalog, load_catalog, save_catalog
from recamlabel.devices import pick_device
from recamlabel.errors import ConfigError
from recamlabel.intake import Intake, refuse_place, take_in
from recamlabel.maps import get_variant
from recamlabel.maps.precomputed import file_identity
from recamlabel.models.combine import check_combine
from recamlabel.progress import say
from recamlabel.refine import resolve_method, seed_crf, walks
from recamlabel.stages import (
    StageContext,
    run_affinity,
    run_cams,
    run_classifier,
    run_edges,
    run_gate,
    run_maps,
    run_masks,
    run_recam,
    run_refine,
)
from recamlabel.stages.gate import GATE_FILE, gate_features
from recamlabel.training.weights import check_reachable, weights_identity
from recamlabel.workspace import INDEPENDENT_STAGES, RUN_FILE, RunFolder, stage_key

WALK_SETTINGS = {"walk_radius", "floor", "beta", "log2_steps"}


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline: what it is called, what it depends on, what it makes."""

    name: str
    key: str
    outputs: tuple[str, ...]
    work: Callable[[StageContext], Mapping[str, Any]]


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
        stages = plan(intake.catalog, config)
        _invalidate(run, stages)
        _record(run, intake, config, source)
        context = StageContext(run, intake.catalog, config, pick_device(config.runtime.device))
        for stage in stages:
            run_stage(context, stage)
            if stage.name == until:
                break
    return run


def check_settings(config: Config) -> Config:
    """Refuse impossible settings before any work; resolve ``refine.method=auto`` for this machine."""
    pick_device(config.runtime.device)
    check_combine(config.recam.combine)
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


def plan(catalog: Catalog, config: Config) -> list[Stage]:
    """The stages with their keys; a changed setting changes the keys of just what depends on it."""
    training = catalog.fingerprint(catalog.training_images(config.data.train_splits))
    everything = catalog.fingerprint()
    learner = [
        config.backbone.model_dump(),
        weights_identity(config.backbone.weights),
        config.augment.model_dump(),
        config.seed,
    ]
    classifier = stage_key("classifier", 1, [learner, config.classifier.model_dump()], {"images": training})
    head = config.recam.model_dump(exclude={"combine"})
    cams = _variant_stages(config, {"classifier": classifier, "training": training, "images": everything})
    recam = stage_key(
        "recam",
        2,
        [config.augment.model_dump(), config.seed, head],
        {"classifier": classifier} | {stage.name: stage.key for stage in cams},
    )
    maps = stage_key(
        "maps", 1, [config.maps.model_dump(), config.recam.combine], {"recam": recam, "images": everything}
    )
    extra = _affinity_stages(config, learner, {"maps": maps, "images": training}, everything)
    walk = config.affinity.model_dump(include=WALK_SETTINGS)
    refine = (
        stage_key("refine", 1, [config.refine.model_dump(), walk], {"maps": maps, "edges": extra[-1].key})
        if extra
        else stage_key("refine", 1, config.refine.model_dump(), {"maps": maps})
    )
    return [
        # First, so that what is wrong with the labels is said before hours of training.
        _gate_stage(config, {"images": everything, "training": training}),
        Stage("classifier", classifier, ("weights/classifier.safetensors",), run_classifier),
        *cams,
        Stage("recam", recam, ("weights/recam.safetensors",), run_recam),
        Stage("maps", maps, ("maps.h5",), run_maps),
        *extra,
        Stage("refine", refine, ("scores.h5",), run_refine),
        masks_stage(config, refine),
    ]


def _gate_stage(config: Config, inputs: dict[str, str]) -> Stage:
    """The report on the labels. It takes nothing from the classifier, whose weights have seen them."""
    key = stage_key("gate", 1, [gate_features(config), config.gate.model_dump()], inputs)
    return Stage("gate", key, (GATE_FILE,), run_gate)


def _variant_stages(config: Config, inputs: dict[str, str]) -> list[Stage]:
    """The stage that makes another variant's maps; plain CAM needs none."""
    if config.maps.variant == "cam":
        return []
    settings = [config.maps.model_dump(), file_identity(config.maps)]
    return [Stage("cams", stage_key("cams", 1, settings, inputs), ("cams.h5",), run_cams)]


def _affinity_stages(config: Config, learner: list[Any], inputs: dict[str, str], everything: str) -> list[Stage]:
    """What a random walk needs before it; nothing for the other methods."""
    if not walks(config.refine.method):
        return []
    crf = seed_crf(config.refine)
    seeds = [config.refine.source, config.refine.max_side, crf and crf.model_dump()]
    training = config.affinity.model_dump(exclude=WALK_SETTINGS)
    affinity = stage_key("affinity", 1, [learner, training, seeds], inputs)
    sizes = config.maps.model_dump(include={"max_side", "stored_stride"})
    edges = stage_key("edges", 1, sizes, {"affinity": affinity, "images": everything})
    return [
        Stage("affinity", affinity, ("weights/affinity.safetensors", "seeds.h5"), run_affinity),
        Stage("edges", edges, ("edges.h5",), run_edges),
    ]


def masks_stage(config: Config, refine: str) -> Stage:
    """The last stage, which `recamlabel masks` runs alone."""
    return Stage(
        "masks", stage_key("masks", 1, config.masks.model_dump(), {"refine": refine}), ("masks.h5", "masks"), run_masks
    )


def run_stage(context: StageContext, stage: Stage) -> bool:
    """Run a stage unless it is current. Returns whether it ran."""
    run = context.run
    if run.is_current(stage.name, stage.key):
        say(f"{stage.name}: up to date, skipped")
        return False
    run.begin(stage.name)
    run.log(stage=stage.name, event="start", key=stage.key)
    began = time.monotonic()
    facts = stage.work(replace(context, key=stage.key))
    seconds = time.monotonic() - began
    run.finish(stage.name, stage.key, seconds, list(stage.outputs), **facts)
    run.log(stage=stage.name, event="finish", key=stage.key, seconds=round(seconds, 2))
    say(f"{stage.name}: done in {seconds:.1f} s")
    return True


def _invalidate(run: RunFolder, stages: list[Stage]) -> None:
    """Forget the first stage that is out of date and all after it, before anything else is written.

    Otherwise an interrupted redo would leave old results beside new labels.
    """
    stale = [stage.name for stage in stages if not run.is_current(stage.name, stage.key)]
    dependent = [name for name in stale if name not in INDEPENDENT_STAGES]
    for name in [*dependent[:1], *(name for name in stale if name in INDEPENDENT_STAGES)]:
        run.begin(name)


def _record(run: RunFolder, intake: Intake, config: Config, source: Path) -> None:
    """Write down what this run is made from."""
    catalog = intake.catalog
    if not run.is_current("dataset", intake.key):
        save_catalog(run.path / CATALOG_FILE, catalog)
        facts = {"images": len(catalog.images), "left_out": list(intake.left_out)}
        run.finish("dataset", intake.key, 0.0, [CATALOG_FILE], **facts)
    run.state.config = config.model_dump()
    run.state.dataset = {
        "source": str(source.resolve()),
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


def render(path: Path, threshold: float) -> RunFolder:
    """Render the masks of a finished run at another threshold, from its stored scores.

    Raises:
        StoreError: Not a run, or its ``refine`` stage is not finished.
        ConfigError: A threshold outside [0, 1].
    """
    run = RunFolder.open(path)
    with run.lock():
        refine = run.key_of("refine")
        tree = {**run.state.config, "masks": {**run.state.config.get("masks", {}), "threshold": threshold}}
        config = config_from_tree(tree, origin=str(path / "run.toml"))
        catalog = load_catalog(path / CATALOG_FILE)
        run.state.config = config.model_dump()
        run_stage(StageContext(run, catalog, config, pick_device("cpu")), masks_stage(config, refine))
    return run
