"""Decisions made on the report's review page, taken into ``RUN/review/``.

The file is described in :mod:`recamlabel.review.decisions.file`. What was decided about a mask counts for
that mask alone: where the masks were made again since, a decision is taken only if the image's mask is
still the same, pixel by pixel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np

from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.data.changed import changed_images
from recamlabel.errors import StoreError
from recamlabel.evaluation.scoring import stored
from recamlabel.masks.reviewed import Decision, ReviewFolder, Status
from recamlabel.review.decisions.file import DecisionFile, Entry, count, merge, named, read_decisions, utc_time
from recamlabel.review.decisions.identity import Identity, identity_of, mask_digest
from recamlabel.storage.hdf5 import StoredArrays, leaf_paths, open_store
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
    """

    recorded: tuple[Decision, ...]
    unchanged: int
    outdated: tuple[str, ...]
    superseded: tuple[str, ...]
    other_masks: tuple[str, ...]
    changed: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """What changed, for people, a sentence a line."""
        kinds = Counter(decision.status for decision in self.recorded)
        parts = [f"{kinds[status]} {word}" for status, word in WORDS.items() if kinds[status]]
        lines = [
            f"review: {count(len(self.recorded), 'decision')} recorded"
            + (f" ({', '.join(parts)})" if parts else "")
            + (f", {self.unchanged} as before" if self.unchanged else "")
        ]
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
    """Take the decisions of one or more ``decisions.json``; all or, with an error, none.

    An accepted mask is frozen as it is now. The last word counts: a decision that is older than the one
    recorded for its image is left out. Tags and paint from elsewhere stay. The caller holds the run's lock.

    Args:
        run: The run; its masks are finished.
        files: One file a reviewer.
        take: Whose word counts where two files disagree: ``first``, ``last``, or a file's name.

    Raises:
        StoreError: A file is damaged, belongs to another run, names an unknown image or status; two files
            disagree and ``take`` is None; the masks are not finished.
        ConfigError: ``take`` names no file.

    Example:
        >>> import_decisions(RunFolder.open(Path("run")), [Path("decisions.json")]).lines()  # doctest: +SKIP
        ['review: 12 decisions recorded (10 accepted, 2 to fix)']
    """
    run.key_of("masks")
    catalog = load_catalog(run.path / CATALOG_FILE)
    identity = identity_of(run, catalog)
    read = [read_decisions(path) for path in files]
    for file in read:
        _check(file, identity, catalog.shapes.keys(), run.path)
    entries = merge(read, take)
    with open_store(run.path / "masks.h5") as masks:
        review = ReviewFolder(run.path)
        present = _Present(masks, review)
        result = _sort(entries, review.decisions(), present, identity.masks)
        review.add(result.recorded, present, catalog.dataset.classes.ignore_id)
    decided = {decision.image for decision in result.recorded}
    changes = changed_images(catalog, [image for image in catalog.images if image.id in decided])
    return replace(result, changed=tuple(change.id for change in changes))


def _check(file: DecisionFile, identity: Identity, images: Collection[str], folder: Path) -> None:
    """Refuse a file of another data set, or with an image that the run has not."""
    if file.run.dataset != identity.dataset:
        raise StoreError(
            f"{file.path}: decisions of another run, {file.run.name} (data set {file.run.dataset}); "
            f"{folder} is {identity.name} (data set {identity.dataset}); give the run they were made for"
        )
    unknown = [image for image in file.entries if image not in images]
    if unknown:
        raise StoreError(f"{file.path}: {count(len(unknown), 'image')} that {folder} has not: {named(unknown)}")


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

    def kept_another(self, image: str) -> bool:
        """Whether a mask was accepted that is not the present one."""
        return self.kinds.get(image) == "accepted" and mask_digest(self.settled(image)) != mask_digest(self[image])


def _sort(entries: Mapping[str, Entry], known: Mapping[str, Decision], present: _Present, key: str) -> ImportResult:
    """Which entries are new, which say nothing new, and which must not be taken."""
    recorded, outdated, superseded, unchanged = [], [], [], 0
    for image, entry in entries.items():
        before = known.get(image)
        decision = _decision(entry, before, present.kinds.get(image) == "painted", key)
        same_mask = entry.mask == mask_digest(present[image]) if entry.mask else entry.masks_key == key
        # The present mask may be accepted where review has kept an earlier one.
        renewed = entry.status == "accepted" and same_mask and present.kept_another(image)
        if decision.same_as(before) and not renewed:
            unchanged += 1
        elif not same_mask:
            outdated.append(image)
        elif before is not None and _later(before.time, entry.time):
            superseded.append(image)
        else:
            recorded.append(decision)
    others = sorted({entry.masks_key for entry in entries.values()} - {key})
    return ImportResult(tuple(recorded), unchanged, tuple(outdated), tuple(superseded), tuple(others))


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
