"""A run into a FiftyOne data set: what is missing is added, what is recamlabel's is renewed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from recamlabel import __version__
from recamlabel.adapters.base import LabelledImage
from recamlabel.config import config_from_tree
from recamlabel.core.progress import track
from recamlabel.data.catalog import CATALOG_FILE, Catalog, load_catalog
from recamlabel.data.changed import changed_images, refuse_changed
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.masks.reviewed import ReviewFolder
from recamlabel.review.decisions.regions import digest, regions_of
from recamlabel.review.fiftyone import fields as fields
from recamlabel.review.fiftyone.layout import arrange, declare_fields
from recamlabel.review.fiftyone.pull import pull, stamp_of
from recamlabel.review.fiftyone.regions import as_detections, as_regions
from recamlabel.review.fiftyone.rows import Row, RowReader, RunFacts
from recamlabel.review.fiftyone.session import Link, export_folder, record_name
from recamlabel.run.engine import make_on_demand
from recamlabel.storage.run_folder import RunFolder

BATCH = 100


@dataclass
class ExportResult:
    """What an export did.

    Attributes:
        name: The data set.
        added, renewed, unchanged: Images.
        kept: Renewed images whose edited regions were left as the reviewer made them.
        strangers: Samples whose image the run no longer has; left as they are.
        notes: What a person must know.
    """

    name: str
    added: int = 0
    renewed: int = 0
    unchanged: int = 0
    kept: int = 0
    strangers: int = 0
    notes: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """For the command line."""
        yield from (f"note: {note}" for note in self.notes)
        if self.kept:
            yield f"{self.kept} edited masks were kept as the reviewer made them"
        if self.strangers:
            yield f"{self.strangers} samples are of images that the run no longer has; they were left alone"
        yield f"{self.name}: {self.added} images added, {self.renewed} renewed, {self.unchanged} as they were"


def export_review(
    run: RunFolder, link: Link, truth_dir: Path | None = None, truth_classes: Path | None = None, device: str = "auto"
) -> ExportResult:
    """Bring the run's data set up to date; the caller holds the run's lock.

    Tags, ``review_status``, ``review_note`` and edited regions are the reviewer's and are not touched.
    Where masks have changed since the last export, decisions about the old ones are fetched first.

    Args:
        run: A run whose masks are finished.
        link: FiftyOne and the data set's name, from :func:`~recamlabel.review.fiftyone.session.connect`.
        truth_dir: Folder of true masks to show; without it none are shown.
        truth_classes: Names file of true masks with ids of their own.
        device: Where the classifier is asked for its confidences.

    Raises:
        StoreError: The masks are not finished or damaged, or an image is not the one that its mask was made from.
    """
    catalog = load_catalog(run.path / CATALOG_FILE)
    _check_images(catalog)
    truth = None if truth_dir is None else TruthFolder(truth_dir, catalog.dataset.classes, truth_classes)
    facts = RunFacts(run, catalog, truth)
    result = ExportResult(link.name, notes=facts.notes)
    if facts.masks_key and not _make_confidences(run, catalog, device):
        result.notes.append("the run holds no classifier: labels are shown without confidence")
    data = _open(link, facts, result)
    folder = export_folder(run, link.name) / facts.tag
    known = _known(data)
    result.strangers = len(known.keys() - {image.id for image in catalog.images})
    with RowReader(facts, folder) as reader, track("review export", len(catalog.images)) as advance:
        job = _Export(link.fiftyone, data, reader, known, ReviewFolder(run.path), result)
        for group in _batches(catalog.images):
            job.export(group)
            advance(len(group))
    _finish(link, data, facts, result)
    return result


def _make_confidences(run: RunFolder, catalog: Catalog, device: str) -> bool:
    config = config_from_tree(run.state.config, origin=str(run.path / "run.toml"))
    config = config.model_copy(update={"runtime": config.runtime.model_copy(update={"device": device})})
    return make_on_demand(run, catalog, config, "confidence")


def _check_images(catalog: Catalog) -> None:
    refuse_changed(
        changed_images(catalog),
        "put back what the masks were made from, or run `recamlabel fit SOURCE --out RUN` with the images as they are "
        "now. Nothing was exported",
    )


def _open(link: Link, facts: RunFacts, result: ExportResult) -> Any:
    """The data set, made where it is missing; decisions about masks that are about to change are fetched."""
    fo, table = link.fiftyone, facts.catalog.dataset.classes
    if link.exists():
        data = link.load()
        if len(data) and data.info[fields.INFO].get("tag") != facts.tag:
            fetched = pull(facts.run, link)
            if fetched.recorded:
                result.notes.append("the run has changed since the last export; decisions were fetched first")
                result.notes += fetched.lines()
    else:
        data = fo.Dataset(link.name, persistent=True)
        # At once, so that an export that is cut off is continued and not refused.
        data.info = {fields.INFO: {"run": str(facts.run.path.resolve()), "fingerprint": facts.catalog.fingerprint()}}
        data.save()
    record_name(facts.run, link.name)
    if facts.truth is None and data.has_field(fields.TRUTH):
        data.delete_sample_field(fields.TRUTH)
    declare_fields(fo, data, table, truth=facts.truth is not None)
    return data


def _known(data: Any) -> dict[str, str]:
    """Export key by image id of the samples that are there; samples that somebody added have no id."""
    ids, keys = data.values([fields.KEY, fields.EXPORT_KEY])
    return {name: key or "" for name, key in zip(ids, keys, strict=True) if name is not None}


def _batches(images: Sequence[LabelledImage]) -> Iterator[list[LabelledImage]]:
    rest = iter(images)
    while group := list(islice(rest, BATCH)):
        yield group


class _Export:
    """Adds and renews samples."""

    def __init__(
        self, fo: Any, data: Any, reader: RowReader, known: dict[str, str], review: ReviewFolder, result: ExportResult
    ) -> None:
        self.fo, self.data, self.reader, self.known, self.result = fo, data, reader, known, result
        self.review, self.decisions = review, review.decisions()

    def export(self, group: Sequence[LabelledImage]) -> None:
        """Bring one batch up to date."""
        missing = [image for image in group if image.id not in self.known]
        changed = [image for image in group if image.id in self.known and not self._current(image)]
        if missing:
            self.data.add_samples([self._new(self.reader.row(image)) for image in missing], progress=False)
        if changed:
            rows = {image.id: self.reader.row(image) for image in changed}
            for sample in self.data.select_by(fields.KEY, list(rows)).iter_samples(autosave=True, progress=False):
                self.result.kept += self._renew(sample, rows[sample[fields.KEY]])
        self.result.added += len(missing)
        self.result.renewed += len(changed)
        self.result.unchanged += len(group) - len(missing) - len(changed)

    def _current(self, image: LabelledImage) -> bool:
        same = self.known[image.id] == self.reader.facts.export_key(image)
        return same and (self.reader.folder / fields.PSEUDO / f"{image.id}.png").is_file()

    def _new(self, row: Row) -> Any:
        """A sample; what was decided elsewhere (on the page, in another data set) is in it."""
        height, width = row.shape
        sample = self.fo.Sample(str(row.image.path), metadata=self.fo.ImageMetadata(width=width, height=height))
        regions, decision = row.regions, self.decisions.get(row.image.id)
        status, note = None, None
        if decision is not None:
            status, note, sample.tags = decision.status, decision.note or None, list(decision.tags)
            painted = self.review.mask(row.image.id) if decision.painted and status != "rejected" else None
            if painted is not None and painted.shape == row.shape:
                regions = tuple(regions_of(painted, self.reader.table))
        sample[fields.STATUS], sample[fields.NOTE] = status, note
        sample[fields.EDITABLE] = as_detections(self.fo, regions)
        self._machine_values(sample, row)
        sample[fields.PULLED] = stamp_of(sample)
        return sample

    def _renew(self, sample: Any, row: Row) -> bool:
        """Everything that is recamlabel's, in one update of the sample; True if the reviewer's regions were kept."""
        sample.filepath = str(row.image.path)
        edited: bool = digest(as_regions(sample)) != sample[fields.EDITABLE_DIGEST]
        fetched = sample[fields.PULLED] == stamp_of(sample)
        if not edited:
            sample[fields.EDITABLE] = as_detections(self.fo, row.regions)
        self._machine_values(sample, row)
        if fetched:  # what has not been fetched yet stays news
            sample[fields.PULLED] = stamp_of(sample)
        return edited

    def _machine_values(self, sample: Any, row: Row) -> None:
        for name, value in row.values.items():
            sample[name] = value
        labels = [self.fo.Classification(label=name, confidence=confidence) for name, confidence in row.labels]
        sample[fields.LABELS] = self.fo.Classifications(classifications=labels)
        for name, path in row.files.items():
            sample[name] = None if path is None else self._picture(name, str(path))
        # Of the mask as it was made: regions that differ from it are edited ones.
        sample[fields.EDITABLE_DIGEST] = digest(row.regions)

    def _picture(self, name: str, path: str) -> Any:
        if name.startswith(fields.HEAT):
            return self.fo.Heatmap(map_path=path)
        return self.fo.Segmentation(mask_path=path)


def _finish(link: Link, data: Any, facts: RunFacts, result: ExportResult) -> None:
    """Colours and views once the samples are there, then the record; files that nothing refers to go."""
    table = facts.catalog.dataset.classes
    look = json.dumps([__version__, table.names, facts.truth is not None, facts.has_segmenter])
    info = dict(data.info[fields.INFO])
    if info.get("look") != look:  # a reviewer may have changed the colours or groups since
        arrange(link.fiftyone, data, table)
    data.info[fields.INFO] = {
        "run": str(facts.run.path.resolve()),
        "fingerprint": facts.catalog.fingerprint(),
        "software": f"recamlabel {__version__}",
        "tag": facts.tag,
        "look": look,
        "masks_key": facts.masks_key,
        "threshold": facts.run.state.stages["masks"].get("threshold"),
        "model_hash": facts.model,
    }
    data.save()
    if facts.truth is not None:
        result.notes += facts.truth.notes
    _tidy(export_folder(facts.run, link.name), facts.tag, data.values(f"{fields.PSEUDO}.mask_path"))


def _tidy(folder: Path, tag: str, paths: Sequence[str | None]) -> None:
    """Remove the files of earlier exports that no sample refers to."""
    used = {tag}
    for text in paths:
        if text and Path(text).is_relative_to(folder):
            used.add(Path(text).relative_to(folder).parts[0])
    for other in folder.iterdir():
        if other.name not in used:
            shutil.rmtree(other)
