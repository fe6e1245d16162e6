"""Decisions made on the report's review page, and masks painted elsewhere, taken into ``RUN/review/``.

The page's file is described in :mod:`recamlabel.review.decisions.file`, other tools' files in
:mod:`recamlabel.review.foreign`. What was decided about a mask counts for that mask alone: where the masks were made
again since, a decision is taken only if the image's mask is still the same, pixel by pixel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np

from recamlabel.core.classes import ClassTable
from recamlabel.data.catalog import CATALOG_FILE, Catalog, load_catalog
from recamlabel.data.changed import changed_images
from recamlabel.errors import StoreError
from recamlabel.evaluation.scoring import stored
from recamlabel.masks.reviewed import Decision, ReviewFolder, Status
from recamlabel.review.decisions.file import DecisionFile, Entry, count, merge, named, read_decisions, utc_time
from recamlabel.review.decisions.identity import Identity, identity_of, mask_digest
from recamlabel.review.decisions.runs import Runs
from recamlabel.review.foreign.read import is_decisions, read_foreign
from recamlabel.storage.hdf5 import StoredArrays, leaf_paths, open_store
from recamlabel.storage.regular import why_neither
from recamlabel.storage.run_folder import RunFolder

WORDS: Mapping[Status | None, str] = {
    "accepted": "accepted",
    "rejected": "rejected",
    "fix": "to fix",
    None: "without a status",
}


@dataclass(frozen=True)
class ImportResult:
    """What an import did.

    Attributes:
        recorded: Decisions that are new or say something else than before.
        unchanged: Number of decisions that were recorded already.
        outdated: Images whose mask has changed since it was looked at; left as they were.
        superseded: Images about which something newer is recorded; left as they were.
        other_masks: Keys of earlier states of the masks that decisions were made for.
        changed: Decided images whose file is not the one that the masks were made from.
        remarks: What a person must know of the files, a sentence each.
    """

    recorded: tuple[Decision, ...]
    unchanged: int
    outdated: tuple[str, ...]
    superseded: tuple[str, ...]
    other_masks: tuple[str, ...]
    changed: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """What changed, for people, a sentence a line."""
        kinds = Counter(decision.status for decision in self.recorded)
        parts = [f"{kinds[status]} {word}" for status, word in WORDS.items() if kinds[status]]
        painted = sum(decision.painted for decision in self.recorded)
        parts += [f"{painted} painted"] if painted else []
        lines = [
            f"review: {count(len(self.recorded), 'decision')} recorded"
            + (f" ({', '.join(parts)})" if parts else "")
            + (f", {self.unchanged} as before" if self.unchanged else "")
        ]
        lines += self.remarks
        if self.other_masks:
            lines.append(f"made on a page of an earlier state of the masks ({', '.join(self.other_masks)})")
        if self.outdated:
            lines.append(
                f"not taken: {count(len(self.outdated), 'image')} whose mask has changed since it was looked at: "
                f"{named(self.outdated)}; `recamlabel report` writes the page with the present masks"
            )
        if self.superseded:
            lines.append(
                f"not taken: {count(len(self.superseded), 'image')} with a later decision in review/decisions.jsonl: "
                f"{named(self.superseded)}"
            )
        if self.changed:
            lines.append(
                f"warning: the photographs of {count(len(self.changed), 'decided image')} are not those that the masks "
                f"were made from: {named(self.changed)}; run `recamlabel fit` again and look at their masks anew"
            )
        return lines


def import_decisions(run: RunFolder, files: Sequence[Path], *, take: str | None = None) -> ImportResult:
    """Take the decisions of ``decisions.json`` files and the masks of other tools; all or, with an error, none.

    An accepted mask is frozen as it is now, a painted one as it was painted. The last word counts: a decision that is
    older than the one recorded for its image is left out. Tags and paint from elsewhere stay. The caller holds the
    run's lock.

    Args:
        run: The run; its masks are finished.
        files: One file or folder a reviewer: ``decisions.json``, or what
            :func:`~recamlabel.review.foreign.read.read_foreign` reads.
        take: Whose word counts where two files disagree: ``first``, ``last``, or a file's name.

    Raises:
        StoreError: A file is damaged, belongs to another run, names an unknown image or status, has a painted mask of
            another size or with other classes; two files disagree and ``take`` is None; the masks are not finished.
        ConfigError: ``take`` names no file.

    Example:
        >>> import_decisions(RunFolder.open(Path("run")), [Path("decisions.json")]).lines()  # doctest: +SKIP
        ['review: 12 decisions recorded (10 accepted, 2 to fix)']
    """
    run.key_of("masks")
    for path in files:
        if what := why_neither(path):
            raise StoreError(f"{path}: {what}; expected a decisions.json, or masks of another tool")
    catalog = load_catalog(run.path / CATALOG_FILE)
    identity = identity_of(run, catalog)
    with open_store(run.path / "masks.h5") as masks:
        review = ReviewFolder(run.path)
        present = _Present(masks, review)
        read = [
            read_decisions(path) if is_decisions(path) else read_foreign(path, catalog, present, identity.masks)
            for path in files
        ]
        for file in read:
            _check(file, identity, catalog, run.path)
        entries = merge(read, take)
        result = _sort(entries, review.decisions(), present, identity.masks)
        table = catalog.dataset.classes
        review.add(result.recorded, _Settled(present, entries, table), table.ignore_id)
    decided = {decision.image for decision in result.recorded}
    changes = changed_images(catalog, [image for image in catalog.images if image.id in decided])
    remarks = tuple(remark for file in read for remark in file.remarks)
    return replace(result, changed=tuple(change.id for change in changes), remarks=remarks)


def _check(file: DecisionFile, identity: Identity, catalog: Catalog, folder: Path) -> None:
    """Refuse a file of another data set, with an image that the run has not, or a painted mask that cannot be one."""
    if file.run is not None and file.run.dataset != identity.dataset:
        raise StoreError(
            f"{file.path}: decisions of another run, {file.run.name} (data set {file.run.dataset}); "
            f"{folder} is {identity.name} (data set {identity.dataset}); give the run they were made for"
        )
    unknown = [image for image in file.entries if image not in catalog.shapes]
    if unknown:
        raise StoreError(f"{file.path}: {count(len(unknown), 'image')} that {folder} has not: {named(unknown)}")
    for image, entry in file.entries.items():
        if entry.painted is not None:
            _check_painted(f"{file.path}: the painted mask of {image!r}", entry.painted, catalog, image)


def _check_painted(what: str, painted: Runs, catalog: Catalog, image: str) -> None:
    table, (height, width) = catalog.dataset.classes, catalog.shapes[image]
    if painted.shape != (height, width):
        raise StoreError(
            f"{what} has {painted.shape[1]}x{painted.shape[0]} pixels, the image {width}x{height}; nothing was "
            "recorded. Paint it again on a page that `recamlabel report` writes now"
        )
    known = {*range(0 if table.background else 1, len(table) + 1), table.ignore_id}
    strange = sorted(set(painted.values.tolist()) - known)
    if strange:
        raise StoreError(
            f"{what} holds the values {named(list(map(str, strange)))}; expected class ids from "
            f"{min(known)} to {len(table)}, or {table.ignore_id} (withheld); nothing was recorded"
        )


class _Present(Mapping[str, np.ndarray]):
    """The mask that a decision is about now, read when asked for: the painted one, elsewhere the pseudo mask."""

    def __init__(self, pseudo: h5py.File, review: ReviewFolder) -> None:
        self.pseudo, self.review, self.kinds = pseudo, review, review.kinds()

    def __getitem__(self, image: str) -> np.ndarray:
        mask: np.ndarray = self.settled(image) if self.kinds.get(image) == "painted" else stored(self.pseudo, image)[()]
        return mask

    def __iter__(self) -> Iterator[str]:
        return leaf_paths(self.pseudo)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def settled(self, image: str) -> np.ndarray:
        """The mask that review has kept."""
        return StoredArrays(self.review.masks_path)(image)

    def pseudo_mask(self, image: str) -> np.ndarray:
        """The mask that was made, whatever was painted since."""
        mask: np.ndarray = stored(self.pseudo, image)[()]
        return mask

    def is_of_pseudo(self, entry: Entry) -> bool:
        """Whether the mask that was looked at is the one that was made, while another one is painted now."""
        painted = self.kinds.get(entry.image) == "painted"
        return painted and bool(entry.mask) and entry.mask == mask_digest(self.pseudo_mask(entry.image))

    def has_paint_of(self, entry: Entry) -> bool:
        """Whether an entry has no paint, or just what review has kept; a rejected mask is kept as nothing."""
        if entry.painted is None or entry.status == "rejected":
            return True
        kept = self.settled(entry.image) if self.kinds.get(entry.image) == "painted" else None
        return kept is not None and entry.painted.same_as(Runs.of(kept))

    def has_just_this_paint(self, entry: Entry) -> bool:
        """Whether an entry has paint that review has kept already, as an import that was killed leaves it."""
        return entry.painted is not None and entry.status != "rejected" and self.has_paint_of(entry)

    def kept_another(self, image: str) -> bool:
        """Whether a mask was accepted that is not the present one."""
        return self.kinds.get(image) == "accepted" and mask_digest(self.settled(image)) != mask_digest(self[image])


class _Settled(Mapping[str, np.ndarray]):
    """The mask that a decision settles: the one painted with it, else the present one."""

    def __init__(self, present: _Present, entries: Mapping[str, Entry], table: ClassTable) -> None:
        self.present, self.entries, self.table = present, entries, table

    def __getitem__(self, image: str) -> np.ndarray:
        entry = self.entries[image]
        if entry.painted is not None:
            return entry.painted.array(self.table.mask_dtype)
        return self.present.pseudo_mask(image) if self.present.is_of_pseudo(entry) else self.present[image]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def _sort(entries: Mapping[str, Entry], known: Mapping[str, Decision], present: _Present, key: str) -> ImportResult:
    """Which entries are new, which say nothing new, and which must not be taken."""
    recorded, outdated, superseded, unchanged = [], [], [], 0
    for image, entry in entries.items():
        before = known.get(image)
        over = (present.is_of_pseudo(entry) and _same_page(before, entry)) or present.has_just_this_paint(entry)
        painted = entry.painted is not None or (present.kinds.get(image) == "painted" and not over)
        decision = _decision(entry, before, painted, key)
        same_mask = over or (entry.mask == mask_digest(present[image]) if entry.mask else entry.masks_key == key)
        # The present mask may be accepted where review has kept an earlier one, and paint may be other paint.
        renewed = entry.status == "accepted" and same_mask and present.kept_another(image)
        if decision.same_as(before) and not renewed and present.has_paint_of(entry):
            unchanged += 1
        elif not same_mask:
            outdated.append(image)
        elif before is not None and _later(before.time, entry.time):
            superseded.append(image)
        else:
            recorded.append(decision)
    others = sorted({entry.masks_key for entry in entries.values()} - {key})
    return ImportResult(tuple(recorded), unchanged, tuple(outdated), tuple(superseded), tuple(others))


def _same_page(before: Decision | None, entry: Entry) -> bool:
    """Whether a reviewer goes on where they were: the page still shows the mask that their own paint is on."""
    return (
        before is not None and before.source.startswith("page:") and _reviewer(before.source) == _reviewer(entry.source)
    )


def _reviewer(source: str) -> str:
    return source.rpartition(" (")[2] if source.endswith(")") else ""


def _decision(entry: Entry, before: Decision | None, painted: bool, key: str) -> Decision:
    time = entry.time or datetime.now(UTC).isoformat(timespec="milliseconds")
    tags = before.tags if before else ()
    return Decision(entry.image, entry.status, entry.note, tags, painted, entry.source, time, key)


def _later(recorded: str, made: str) -> bool:
    """Whether the recorded time is later; no where either is unknown."""
    try:
        return bool(recorded and made) and utc_time(recorded) > utc_time(made)
    except ValueError:
        return False
