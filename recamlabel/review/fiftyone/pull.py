"""What a reviewer did in FiftyOne, brought back into ``RUN/review/``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np

from recamlabel.core.classes import ClassTable
from recamlabel.core.progress import track
from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.errors import RecamlabelError, StoreError
from recamlabel.masks.reviewed import STATUSES, Decision, ReviewFolder, Status
from recamlabel.review.decisions.regions import Mask, Region, digest, merge
from recamlabel.review.fiftyone import fields as fields
from recamlabel.review.fiftyone.regions import NoMaskError, as_regions
from recamlabel.review.fiftyone.session import FOLDER, Link
from recamlabel.storage.hdf5 import StoredArrays
from recamlabel.storage.png import read_mask, save_mask
from recamlabel.storage.run_folder import RunFolder

_SHOWN = 5
_READ = (
    fields.KEY,
    fields.STATUS,
    fields.NOTE,
    fields.EDITABLE,
    fields.EDITABLE_DIGEST,
    fields.PULLED,
    fields.PSEUDO,
    fields.MASKS_KEY,
)


@dataclass
class PullResult:
    """What was brought back.

    Attributes:
        name: The data set.
        recorded: New decisions.
        problems: Samples that could not be taken, and why.
        strangers: Samples of images that the run does not have.
    """

    name: str
    recorded: list[Decision] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    strangers: int = 0

    def lines(self) -> Iterator[str]:
        """For the command line: counts and the first ids of each kind."""
        kinds: dict[str, list[str]] = {}
        for one in self.recorded:
            kinds.setdefault(_kind(one), []).append(one.image)
        for kind, ids in kinds.items():
            more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
            yield f"{kind}: {len(ids)} ({', '.join(ids[:_SHOWN])}{more})"
        if self.strangers:
            yield f"{self.strangers} samples of images that the run does not have were left out"
        yield f"{self.name}: {len(self.recorded) or 'no'} new decision{'' if len(self.recorded) == 1 else 's'}"


@dataclass(frozen=True)
class _Said:
    """What one sample says."""

    image: str
    status: Status | None
    note: str
    tags: tuple[str, ...]
    regions: tuple[Region, ...]

    def stamp(self) -> str:
        """Hash of all of it: the same while the reviewer has done nothing."""
        parts = [self.status, self.note, self.tags, digest(self.regions)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def pull(run: RunFolder, link: Link) -> PullResult:
    """Record what is new since the last time; the caller holds the run's lock.

    Samples with a mistake in them are left out and named; the others are recorded all the same.

    Raises:
        StoreError: There is no such data set, or samples were left out.
    """
    if not link.exists():
        raise StoreError(
            f"FiftyOne has no data set {link.name!r}; `recamlabel review {run.path}` makes it (or give --name)"
        )
    result = PullResult(link.name)
    with TemporaryDirectory(prefix="recamlabel-") as folder:
        reader = _Reader(run, link.name, Path(folder))
        data = link.load()
        stamps = _read_all(data, reader, result)
        ReviewFolder(run.path).add(result.recorded, reader.masks, reader.table.ignore_id)
    if stamps:
        data.set_values(fields.PULLED, stamps, key_field=fields.KEY)
    if result.problems:
        shown = "\n  ".join(result.problems[:20])
        more = f"\n  and {len(result.problems) - 20} more" if len(result.problems) > 20 else ""
        raise StoreError(
            f"{len(result.recorded)} new decisions recorded; {len(result.problems)} samples of {link.name!r} were left "
            f"out, fix them in the App and run the same again:\n  {shown}{more}"
        )
    return result


def stamp_of(sample: Any) -> str:
    """What a sample says, to tell later whether a reviewer has said more; empty where it makes no sense."""
    try:
        return _said(sample).stamp()
    except (StoreError, NoMaskError):
        return ""


def _read_all(data: Any, reader: _Reader, result: PullResult) -> dict[str, str]:
    """Fill ``result``; returns the new stamps by image id."""
    stamps = {}
    present = [name for name in _READ if data.has_field(name)]
    with track("review pull", len(data)) as advance:
        for sample in data.select_fields(present).iter_samples():
            advance()
            image_id = sample[fields.KEY]
            if image_id not in reader.shapes:
                result.strangers += 1
                continue
            try:
                said = _said(sample)
                stamp = said.stamp()
                if stamp == sample[fields.PULLED] and reader.knows(said):
                    continue
                decision = reader.decision(sample, said)
            except (RecamlabelError, NoMaskError) as error:
                result.problems.append(f"sample {image_id}: {error}")
                continue
            stamps[image_id] = stamp
            if decision is not None:
                result.recorded.append(decision)
    return stamps


def _said(sample: Any) -> _Said:
    """Raises StoreError for a status that is none, NoMaskError for a region without a mask."""
    tags = sorted(set(sample.tags))
    words = {tag: f"the tag {tag!r}" for tag in tags if tag in STATUSES}
    chosen = sample[fields.STATUS] or None
    if chosen is not None and chosen not in STATUSES:
        raise StoreError(f"{fields.STATUS} is {chosen!r}; expected {', '.join(STATUSES)} or nothing")
    statuses = {*words, *([chosen] if chosen else [])}
    if len(statuses) > 1:
        said = [*([f"{fields.STATUS} {chosen!r}"] if chosen else []), *words.values()]
        raise StoreError(f"has {' and '.join(said)}; expected one of them")
    status = cast(Status, statuses.pop()) if statuses else None
    own = tuple(tag for tag in tags if tag not in STATUSES)
    return _Said(sample[fields.KEY], status, sample[fields.NOTE] or "", own, tuple(as_regions(sample, strict=True)))


class _Reader:
    """Turns what samples say into decisions and their masks."""

    def __init__(self, run: RunFolder, name: str, folder: Path) -> None:
        catalog = load_catalog(run.path / CATALOG_FILE)
        self.run, self.source, self.folder = run, f"fiftyone:{name}", folder
        self.table: ClassTable = catalog.dataset.classes
        self.shapes = catalog.shapes
        self.review = ReviewFolder(run.path)
        self.decisions, self.kinds = self.review.decisions(), self.review.kinds()
        self.masks = _MaskFiles()
        self.time = datetime.now(UTC).isoformat(timespec="milliseconds")

    def knows(self, said: _Said) -> bool:
        """Whether the run has a decision about it, or there is none to have."""
        return said.image in self.decisions or not (said.status or said.note or said.tags)

    def decision(self, sample: Any, said: _Said) -> Decision | None:
        """The decision, if it is a new one; its mask is among :attr:`masks`.

        Raises:
            StoreError: The exported mask is lost.
            DatasetError: A region of a class that the run does not have.
        """
        path, base = self._exported(sample, said.image)
        settled = self.review.mask(said.image) if self.kinds.get(said.image) == "painted" else None
        mask, painted = base, False
        if digest(said.regions) != sample[fields.EDITABLE_DIGEST]:
            _check_labels(said.regions, self.table)
            painted = not np.array_equal(merge(said.regions, base, self.table), base)
            if painted:  # on top of what was painted before, so that its withheld pixels stay
                start = base if settled is None or settled.shape != base.shape else settled
                mask = merge(said.regions, start, self.table)
        key = sample[fields.MASKS_KEY] or ""
        decision_now = Decision(said.image, said.status, said.note, said.tags, painted, self.source, self.time, key)
        same_paint = not painted or said.status == "rejected" or np.array_equal(mask, settled)  # type: ignore[arg-type]
        if decision_now.same_as(self.decisions.get(said.image)) and same_paint:
            return None
        if painted or path is None:
            path = self.folder / f"{len(self.masks)}.png"
            save_mask(path, mask)
        self.masks.paths[said.image] = path
        return decision_now

    def _exported(self, sample: Any, image_id: str) -> tuple[Path | None, Mask]:
        """The mask that was given out: the file of the export, else the run's, if it is still the same one."""
        pseudo = sample[fields.PSEUDO]
        path = self._path(pseudo.mask_path) if pseudo is not None and pseudo.mask_path else None
        if path is not None:
            mask: Mask = read_mask(path).astype(self.table.mask_dtype)
        elif self.run.key_of("masks") == sample[fields.MASKS_KEY]:
            mask = StoredArrays(self.run.path / "masks.h5")(image_id)
        else:
            raise StoreError(
                f"the mask that was exported is gone ({pseudo.mask_path if pseudo else 'no file'}) and the run has "
                "another one now; clear its status and regions, or export to a new data set with --name"
            )
        if mask.shape != tuple(self.shapes[image_id]):
            raise StoreError(f"the exported mask has shape {mask.shape}, the image {self.shapes[image_id]} now")
        return path, mask

    def _path(self, text: str) -> Path | None:
        """Also where the run has been moved since."""
        path = Path(text)
        tail = text.replace("\\", "/").partition(f"/{FOLDER}/")[2]
        places = (path, self.run.path / FOLDER / tail) if tail else (path,)
        return next((place for place in places if place.is_file()), None)


@dataclass(frozen=True)
class _MaskFiles(Mapping[str, Mask]):
    """Masks read when asked for: thousands of accepted ones need not be in memory at once."""

    paths: dict[str, Path] = field(default_factory=dict)

    def __getitem__(self, image_id: str) -> Mask:
        return read_mask(self.paths[image_id])

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)


def _check_labels(regions: Sequence[Region], table: ClassTable) -> None:
    for region in regions:
        if region.label not in table.names:
            what = f"the class {region.label!r}, which the run does not have" if region.label else "no class"
            shown = ", ".join(table.names[:10]) + (", …" if len(table) > 10 else "")
            raise StoreError(f"a region of {fields.EDITABLE!r} has {what}; expected one of: {shown}")


def _kind(decision: Decision) -> str:
    if decision.status == "rejected":
        return "rejected"
    painted = " and painted" if decision.painted else ""
    if decision.status is None:
        return "painted" if decision.painted else "note, tags or nothing"
    return f"{'to fix' if decision.status == 'fix' else decision.status}{painted}"
