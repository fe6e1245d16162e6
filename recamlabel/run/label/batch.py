"""The one function of a batch that every engine calls: images in, files and rows of the manifest out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from recamlabel.adapters.base import Dataset, LabelledImage
from recamlabel.core.classes import BACKGROUND_ID, ClassTable
from recamlabel.core.progress import quietly
from recamlabel.data.catalog import Catalog
from recamlabel.data.changed import file_state
from recamlabel.data.inspect import apply_on_bad_image, inspect_images
from recamlabel.errors import DatasetError
from recamlabel.run.label.chain import Chain
from recamlabel.run.label.identity import check_alike
from recamlabel.storage.remote import place_pointer, pointer_text, shown

Format = Literal["h5", "png"]
OnBad = Literal["stop", "skip"]
SHARDS, MASKS = "shards", "masks"


@dataclass(frozen=True)
class Batch:
    """Some images that are labelled together, as one shard of the output.

    Attributes:
        number: Of the shard.
        key: What the shard depends on: images, labels, and what makes the masks.
        images: With what is known of them.
        pointers: Of a batch that is sent to another machine: by image id, what stands for an image at an address.
    """

    number: int
    key: str
    images: tuple[LabelledImage, ...]
    pointers: Mapping[str, str] = field(default_factory=dict)

    def packed(self) -> Batch:
        """To be sent to another machine, whose cache lies elsewhere."""
        found = {image.id: pointer_text(image.path) for image in self.images}
        return replace(self, pointers={name: text for name, text in found.items() if text is not None})

    def unpacked(self) -> Batch:
        """As it has come: images at an address have their place in the cache of this machine."""
        images = tuple(
            replace(image, path=place_pointer(self.pointers[image.id])) if image.id in self.pointers else image
            for image in self.images
        )
        return replace(self, images=images, pointers={})

    @property
    def name(self) -> str:
        """Of the shard's files, without extension."""
        return f"{SHARDS}/{self.number:06d}"


@dataclass(frozen=True)
class Shard:
    """What is made of a batch.

    Attributes:
        batch: Number and key of it.
        rows: Of the manifest, one an image.
        files: Content by path below the output folder.
    """

    number: int
    key: str
    rows: Sequence[Mapping[str, Any]]
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Job:
    """What an engine needs to label a batch; small enough to be sent to another machine.

    Attributes:
        run: The run folder, as this machine and every worker finds it.
        labelled: Whether labels are known.
        format: Of the masks.
        on_bad_image: Stop at an unreadable image, or go on without it.
        device: Where networks run.
        workers: Processes of one batch; None: as the run's settings say.
        identity: What a worker must have as well: version and weights, by name.
    """

    run: Path
    labelled: bool
    format: Format = "h5"
    on_bad_image: OnBad = "stop"
    device: str = "auto"
    workers: int | None = None
    identity: Mapping[str, str] = field(default_factory=dict)


class Labeller:
    """Labels batch after batch; the run is opened and its networks are loaded once.

    Args:
        job: What to do.
    """

    def __init__(self, job: Job) -> None:
        self.job = job

    @cached_property
    def chain(self) -> Chain:
        """Opened at the first batch, so that what is wrong with a worker is an error of that batch."""
        check_alike(self.job.run, self.job.identity)
        return Chain.open(self.job.run, self.job.labelled, self.job.device, self.job.workers)

    def __call__(self, batch: Batch) -> Shard:
        """The masks of a batch.

        Raises:
            RecamlabelError: An image cannot be read, changes meanwhile, or the run cannot be used.
            OSError: No space left, among others.
        """
        table = self.chain.origin.catalog.dataset.classes
        with tempfile.TemporaryDirectory(prefix="recamlabel-label-", ignore_cleanup_errors=True) as scratch, quietly():
            catalog, troubles = _taken_in(batch, table, self.job, self.chain.config.runtime.worker_count())
            made = Path(scratch) / "made"
            made.mkdir()
            if catalog.images:
                self.chain.make(catalog, made)
                refuse_changed(catalog)
                self.chain.refuse_changed_run()
            rows = [*_rows(batch, catalog, made, self.job, self.chain.stage_key()), *troubles]
            order = {image.id: place for place, image in enumerate(batch.images)}
            rows.sort(key=lambda row: order[row["id"]])
            return Shard(batch.number, batch.key, rows, _files(batch, catalog, made, self.job.format))


def _taken_in(batch: Batch, table: ClassTable, job: Job, workers: int) -> tuple[Catalog, list[dict[str, Any]]]:
    """The batch's images decoded once, and rows of those that are left out."""
    dataset = Dataset(Path(), "label", table, batch.images)
    seen = inspect_images(dataset, workers)
    try:
        usable = apply_on_bad_image(dataset, seen.problems, job.on_bad_image)
    except DatasetError as error:
        text = str(error).partition("\nrun `recamlabel check")[0]
        raise DatasetError(
            f"{text}\nreplace these files, or go on without them with --on-bad-image skip; the same command again "
            "continues with this shard, finished shards are kept"
        ) from None
    why = {problem.image_id: problem.message for problem in seen.problems}
    left_out = [{**_row(image), "problem": why[image.id]} for image in batch.images if image.id in why]
    return Catalog(usable, seen.shapes, seen.hashes, seen.states), left_out


def refuse_changed(catalog: Catalog) -> None:
    """Refuse images that are not any more what was read first. Raises DatasetError."""
    changed = [image for image in catalog.images if file_state(image.path) != catalog.states.get(image.id)]
    if changed:
        what = "has gone" if file_state(changed[0].path) is None else "has changed"
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise DatasetError(
            f"{changed[0].path}: {what} while its mask was made{more}; run the same command again when nobody writes "
            "there: this shard is made anew, finished shards are kept"
        )


def _row(image: LabelledImage) -> dict[str, Any]:
    return {"id": image.id, "path": shown(image.path), "labels": sorted(image.present)}


def _rows(batch: Batch, catalog: Catalog, made: Path, job: Job, stage_key: str) -> Iterator[dict[str, Any]]:
    if not catalog.images:
        return
    table = catalog.dataset.classes
    tree = json.loads((made / "quality.json").read_text(encoding="utf-8")) if job.labelled else {}
    with h5py.File(made / "masks.h5") as file:
        for image in catalog.images:
            height, width = catalog.shapes[image.id]
            quality = tree["images"][image.id] if tree else {}
            yield {
                **_row(image),
                "height": height,
                "width": width,
                "bytes": catalog.states[image.id][0] if image.id in catalog.states else None,
                "hash": catalog.hashes[image.id],
                "quality": quality.get("score"),
                "missing": quality.get("missing", []),
                "shares": shares(file[image.id][()], table),
                "stage_key": stage_key,
                "mask": f"{MASKS}/{image.id}.png" if job.format == "png" else f"{batch.name}.h5",
            }


def shares(mask: np.ndarray, table: ClassTable) -> dict[str, float]:
    """Shares of the pixels by class name, background and ``ignored`` included; classes without a pixel are left out.

    Example:
        >>> shares(np.array([[0, 1], [1, 255]], np.uint8), ClassTable(("cat", "dog")))
        {'background': 0.25, 'cat': 0.5, 'ignored': 0.25}
    """
    ids, counts = np.unique(mask, return_counts=True)
    names = {BACKGROUND_ID: "background", table.ignore_id: "ignored"}
    named = [names.get(number) or table.name_of(number) for number in map(int, ids)]
    return {name: round(int(count) / mask.size, 6) for name, count in zip(named, counts, strict=True)}


def _files(batch: Batch, catalog: Catalog, made: Path, kind: Format) -> dict[str, bytes]:
    if not catalog.images:
        return {}
    if kind == "png":
        return {f"{MASKS}/{image.id}.png": (made / f"masks/{image.id}.png").read_bytes() for image in catalog.images}
    return {f"{batch.name}.h5": (made / "masks.h5").read_bytes()}
