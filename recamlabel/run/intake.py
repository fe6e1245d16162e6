"""From a source on disk to a catalog that the stages can rely on, reading no image twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recamlabel.adapters import load_dataset, options_from
from recamlabel.adapters.base import Dataset
from recamlabel.config import Config
from recamlabel.core.progress import say, track
from recamlabel.data.catalog import CATALOG_FILE, Catalog, load_catalog
from recamlabel.data.inspect import apply_on_bad_image, inspect_images, refusal_reasons
from recamlabel.data.learnable import picture_reasons, picture_warnings, training_warnings, untellable_reasons
from recamlabel.data.problem_lines import problem_lines
from recamlabel.errors import DatasetError, StoreError
from recamlabel.stages.graph import result_key
from recamlabel.storage.run_folder import RunFolder

SHOWN = 10


@dataclass(frozen=True)
class Intake:
    """A usable data set.

    Args:
        catalog: Its images, sizes and hashes.
        key: Changes whenever a label, an image file or the treatment of bad images may have.
        left_out: What ``on_bad_image=skip`` left out, one line an image.
        anew: Whether it was read anew, and not taken from the run's own record.
    """

    catalog: Catalog
    key: str
    left_out: tuple[str, ...]
    anew: bool = True


def take_in(source: Path, config: Config, run: RunFolder | None) -> Intake:
    """Read labels and images, or the run's own record of them where nothing has changed since.

    Args:
        source: Label file or folder that an adapter reads.
        config: Settings of the data set.
        run: An earlier run in the same place, if there is one.

    Raises:
        DatasetError: The data set cannot be used, or nothing can be learnt from it (unless
            ``runtime.force`` is set); says why, and `recamlabel check` lists all.
    """
    dataset = read_dataset(source, config)
    key = _signature(dataset, config)
    catalog = _known(run, key, config)
    if run is not None and catalog is not None:
        intake = Intake(catalog, key, tuple(run.state.stages["dataset"].get("left_out", ())), anew=False)
    else:
        intake = _inspect(dataset, config, key)
    _stop_unless_forced(dataset, picture_reasons(intake.catalog), config)
    _refuse(intake.catalog.dataset, config)
    _tell(dataset, intake, config)
    return intake


def _known(run: RunFolder | None, key: str, config: Config) -> Catalog | None:
    """The run's own record of the same data; None where there is none, or it is damaged: then it is made anew."""
    if run is None or not run.is_current("dataset", key):
        return None
    try:
        return load_catalog(run.path / CATALOG_FILE, config.data.background)
    except StoreError as error:
        say(f"note: {error}; it is made anew from the labels and images")
        return None


def read_dataset(source: Path, config: Config) -> Dataset:
    """Read the labels with the configured or detected adapter. Raises DatasetError."""
    dataset = load_dataset(source, config.data.adapter, options_from(config.data))
    return replace(dataset, classes=replace(dataset.classes, background=config.data.background))


def refuse_place(dataset_root: Path, adapter: str, out: Path) -> None:
    """A run inside a folder of class folders would be read as one more class the next time. Raises DatasetError."""
    if adapter == "folder" and out.resolve().is_relative_to(dataset_root.resolve()):
        raise DatasetError(
            f"--out {out} lies inside the data set {dataset_root}, whose folders are classes; choose another place"
        )


def _inspect(dataset: Dataset, config: Config, key: str) -> Intake:
    """Decode every image once; stop at, or leave out, what cannot be used."""
    with track("decode", len(dataset)) as advance:
        inspection = inspect_images(dataset, config.runtime.worker_count(), advance)
    problems = (*dataset.problems, *inspection.problems)
    usable = apply_on_bad_image(dataset, problems, config.data.on_bad_image)
    gone = {image.id for image in dataset.images} - {image.id for image in usable.images}
    left_out = tuple(dict.fromkeys(str(problem) for problem in problems if problem.image_id in gone))
    seen = inspection
    return Intake(Catalog(usable, seen.shapes, seen.hashes, seen.states, seen.flat, seen.faint), key, left_out)


def _refuse(dataset: Dataset, config: Config) -> None:
    reasons = refusal_reasons(dataset, config.data.train_splits)
    if reasons:
        raise DatasetError(f"{dataset.root}: " + "; ".join(reasons))
    _stop_unless_forced(dataset, untellable_reasons(dataset, config.data.train_splits), config)


def _stop_unless_forced(dataset: Dataset, reasons: Sequence[str], config: Config) -> None:
    """Nothing can be learnt: an error, or with ``runtime.force`` a warning."""
    if reasons and not config.runtime.force:
        raise DatasetError(f"{dataset.root}: " + "; ".join(reasons))
    for reason in reasons:
        say(f"warning (going on because of --force): {reason}")


def _tell(dataset: Dataset, intake: Intake, config: Config) -> None:
    """What a person should know before hours of work, and what was left out."""
    for line in dataset.notes:
        say(line)
    mild = [line.text for line in problem_lines(dataset.problems) if not line.fatal]
    warnings = [
        *picture_warnings(intake.catalog),
        *mild,
        *training_warnings(intake.catalog.dataset, config.data.train_splits),
    ]
    for line in warnings[:SHOWN]:
        say(f"warning: {line}")
    if len(warnings) > SHOWN:
        say(f"warning: {len(warnings) - SHOWN} more; `recamlabel check` lists all")
    for line in intake.left_out[:SHOWN]:
        say(f"left out: {line}")
    if len(intake.left_out) > SHOWN:
        say(f"left out: {len(intake.left_out) - SHOWN} more; `recamlabel check` lists all")


def _signature(dataset: Dataset, config: Config) -> str:
    """Hash of labels, problems, and of the images' paths, sizes and times."""
    rows = []
    for image in dataset.images:
        try:
            stat = image.path.stat()
            state = [stat.st_size, stat.st_mtime_ns]
        except OSError:
            state = []
        rows.append([image.id, str(image.path), state, sorted(image.present), sorted(image.absent), image.split])
    problems = [str(problem) for problem in dataset.problems]
    inputs = {"classes": dataset.classes.names, "images": rows, "problems": problems, "bad": config.data.on_bad_image}
    return result_key("dataset", inputs)
