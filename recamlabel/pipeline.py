"""The stages in order. They meet only through the run folder; each is skipped while its key holds."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from recamlabel import __version__
from recamlabel.adapters import load_dataset, options_from
from recamlabel.adapters.base import Dataset
from recamlabel.config import Config, config_from_tree
from recamlabel.data.catalog import CATALOG_FILE, Catalog, load_catalog, save_catalog
from recamlabel.data.inspect import apply_on_bad_image, inspect_images, refusal_reasons
from recamlabel.devices import pick_device
from recamlabel.errors import DatasetError
from recamlabel.maps.base import get_variant
from recamlabel.models.recam import check_combine
from recamlabel.progress import say, track
from recamlabel.refine import resolve_method
from recamlabel.stages import StageContext, run_classifier, run_maps, run_masks, run_recam, run_refine
from recamlabel.training.weights import weights_identity
from recamlabel.workspace import RunFolder, stage_key


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline: what it is called, what it depends on, what it makes."""

    name: str
    key: str
    outputs: tuple[str, ...]
    work: Callable[[StageContext], Mapping[str, Any]]


def fit(source: Path, out: Path, config: Config) -> RunFolder:
    """Labels to masks: run every stage that is not current yet.

    Args:
        source: Label file or folder that an adapter reads.
        out: Run folder: new, empty, or an earlier run.
        config: All settings.

    Returns:
        The run folder, every stage current.

    Raises:
        RecamlabelError: Anything that is the user's to mend; the run folder then holds every
            stage finished so far, and the same call continues.
    """
    config = check_settings(config)
    dataset = read_dataset(source, config)
    existing = RunFolder.open(out) if (out / "run.toml").exists() else None
    catalog = _current_catalog(existing, dataset) or inspect_dataset(dataset, config)
    run = RunFolder.create(out)
    with run.lock():
        _record(run, catalog, config, source, dataset)
        context = StageContext(run, catalog, config, pick_device(config.runtime.device))
        for stage in plan(catalog, config):
            run_stage(context, stage)
    return run


def check_settings(config: Config) -> Config:
    """Refuse impossible settings before any work; resolve ``refine.method=auto`` for this machine."""
    pick_device(config.runtime.device)
    check_combine(config.recam.combine)
    get_variant(config.maps.variant)
    weights_identity(config.backbone.weights)
    method = resolve_method(config.refine.method)
    if config.refine.method == "auto" and method == "none":
        say(
            "refine: the dense CRF is left out, because pydensecrf2 is not installed "
            "(pip install 'recamlabel[crf]', needs a C++ compiler)"
        )
    return config.model_copy(update={"refine": config.refine.model_copy(update={"method": method})})


def read_dataset(source: Path, config: Config) -> Dataset:
    """Read the labels with the configured or detected adapter. Raises DatasetError."""
    return load_dataset(source, config.data.adapter, options_from(config.data))


def inspect_dataset(dataset: Dataset, config: Config) -> Catalog:
    """Decode every image once; stop at, or leave out, what cannot be used. Raises DatasetError."""
    with track("decode", len(dataset)) as advance:
        inspection = inspect_images(dataset, config.runtime.worker_count(), advance)
    problems = (*dataset.problems, *inspection.problems)
    usable = apply_on_bad_image(dataset, problems, config.data.on_bad_image)
    left_out = {image.id for image in dataset.images} - {image.id for image in usable.images}
    for problem in problems:
        if problem.image_id in left_out:
            say(f"left out: {problem}")
    reasons = refusal_reasons(usable, config.data.train_splits)
    if reasons:
        raise DatasetError(f"{dataset.root}: " + "; ".join(reasons))
    return Catalog(usable, inspection.shapes, inspection.hashes)


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
    recam = stage_key("recam", 1, [config.augment.model_dump(), config.seed, head], {"classifier": classifier})
    maps = stage_key(
        "maps", 1, [config.maps.model_dump(), config.recam.combine], {"recam": recam, "images": everything}
    )
    refine = stage_key("refine", 1, config.refine.model_dump(), {"maps": maps})
    return [
        Stage("classifier", classifier, ("weights/classifier.safetensors",), run_classifier),
        Stage("recam", recam, ("weights/recam.safetensors",), run_recam),
        Stage("maps", maps, ("maps.h5",), run_maps),
        Stage("refine", refine, ("scores.h5",), run_refine),
        masks_stage(config, refine),
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
    facts = stage.work(StageContext(run, context.catalog, context.config, context.device, stage.key))
    seconds = time.monotonic() - began
    run.finish(stage.name, stage.key, seconds, list(stage.outputs), **facts)
    run.log(stage=stage.name, event="finish", key=stage.key, seconds=round(seconds, 2))
    say(f"{stage.name}: done in {seconds:.1f} s")
    return True


def _signature(dataset: Dataset) -> str:
    """Hash of labels and of the images' paths, sizes and times: changes whenever a file may have."""
    rows = []
    for image in dataset.images:
        try:
            stat = image.path.stat()
        except OSError:
            return ""
        rows.append(
            [
                image.id,
                str(image.path),
                stat.st_size,
                stat.st_mtime_ns,
                sorted(image.present),
                sorted(image.absent),
                image.split,
            ]
        )
    return stage_key("dataset", 1, [dataset.classes.names, rows])


def _current_catalog(run: RunFolder | None, dataset: Dataset) -> Catalog | None:
    """The stored catalog, if no label and no image file has changed since; saves decoding everything again."""
    if run is None or any(problem.fatal for problem in dataset.problems):
        return None
    signature = _signature(dataset)
    return load_catalog(run.path / CATALOG_FILE) if signature and run.is_current("dataset", signature) else None


def _record(run: RunFolder, catalog: Catalog, config: Config, source: Path, dataset: Dataset) -> None:
    """Write down what this run is made from."""
    key = _signature(dataset)
    if not run.is_current("dataset", key):
        save_catalog(run.path / CATALOG_FILE, catalog)
        run.finish("dataset", key, 0.0, [CATALOG_FILE], images=len(catalog.images))
    run.state.config = config.model_dump()
    run.state.dataset = {
        "source": str(source.resolve()),
        "adapter": catalog.dataset.adapter,
        "fingerprint": catalog.fingerprint(),
        "images": len(catalog.images),
        "classes": list(catalog.dataset.classes.names),
    }
    packages = ("torch", "torchvision", "timm", "numpy", "h5py", "pillow")
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
