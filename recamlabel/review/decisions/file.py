"""The file ``decisions.json`` that the report's review page offers for download.

.. code-block:: json

    {
      "format": "recamlabel-decisions",
      "version": 2,
      "run": {"name": "runs/one", "dataset": "b675a7605b11a319", "masks": "a4a8313f3d6b03ee"},
      "reviewer": "Anna",
      "saved": "2026-11-22T20:15:00.000Z",
      "decisions": [
        {"image": "images/0001", "status": "accepted", "note": "", "time": "2026-11-22T20:14:58.123Z",
         "mask": "0f3a5c7788a1b2c3",
         "painted": {"size": [2, 3], "runs": [0, 2, 1, 4]}}
      ]
    }

``run`` is :class:`~recamlabel.review.decisions.identity.Identity`; ``reviewer`` and ``saved`` may be missing. There
is one entry for each image that the reviewer touched: ``status`` is ``accepted``, ``rejected``, ``fix`` or
null (none, or taken back), ``note`` free text, ``time`` when it was last changed (ISO 8601), ``mask`` the
digest of the mask they saw. ``painted`` is there where the mask was changed by hand: the whole mask at the image's own
size, as height and width and as runs, value and length by turns, row by row from the upper left
(:class:`~recamlabel.review.decisions.runs.Runs`). ``note``, ``time``, ``mask`` and ``painted`` may be missing. Files of
version 1 have no ``painted``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recamlabel.errors import ConfigError, StoreError
from recamlabel.masks.reviewed import STATUSES, Status
from recamlabel.review.decisions.identity import Identity
from recamlabel.review.decisions.runs import Runs, joined

FORMAT, VERSION = "recamlabel-decisions", 2
NAMED, LISTED = 5, 20


@dataclass(frozen=True)
class Entry:
    """One decision of a file.

    Attributes:
        image: Image id.
        status: What was decided, or None.
        note: Free text.
        time: When, ISO 8601 in UTC, or "".
        mask: Digest of the mask that was looked at, or "".
        masks_key: Key of the stage ``masks`` of the page.
        source: ``page:FILE``, with the reviewer's name where one was given.
        file: Name of the file, for messages.
        painted: The mask as it was painted, or None where the mask that was looked at stands.
    """

    image: str
    status: Status | None
    note: str
    time: str
    mask: str
    masks_key: str
    source: str
    file: str
    painted: Runs | None = None

    def agrees_with(self, other: Entry) -> bool:
        """Whether both say the same of the mask."""
        same_paint = other.painted is None if self.painted is None else self.painted.same_as(other.painted)
        return self.status == other.status and same_paint


@dataclass(frozen=True)
class DecisionFile:
    """A file that was read and is well-formed.

    Attributes:
        path: The file.
        run: What it was made for; None for masks of another tool, which know of no run.
        entries: By image id.
        remarks: What a person must know of it, a sentence each.
    """

    path: Path
    run: Identity | None
    entries: Mapping[str, Entry]
    remarks: tuple[str, ...] = ()


def read_decisions(path: Path) -> DecisionFile:
    """Read and check a ``decisions.json``; sizes and ids of painted masks are for the caller to check.

    Raises:
        StoreError: Missing, not JSON, not such a file, of a later version, or with a bad entry, by number.
    """
    tree = _tree(path)
    try:
        run = Identity(*(_text(tree["run"], name) for name in ("name", "dataset", "masks")))
        reviewer, rows = _text(tree, "reviewer", ""), tree["decisions"]
        if not isinstance(rows, list):
            raise TypeError("'decisions' is not a list")
    except (KeyError, TypeError) as error:
        raise StoreError(f"{path}: damaged ({_why(error)}); download it from the page again") from None
    source = f"page:{path.name}" + (f" ({reviewer.strip()})" if reviewer.strip() else "")
    entries: dict[str, Entry] = {}
    for number, row in enumerate(rows, 1):
        try:
            entry = _entry(row, run.masks, source, str(path))
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{path}: decision {number}: {_why(error)}") from None
        if entry.image in entries:
            raise StoreError(f"{path}: decision {number}: {entry.image!r} is there twice; delete one of the two")
        entries[entry.image] = entry
    return DecisionFile(path, run, entries)


def merge(files: Sequence[DecisionFile], take: str | None = None) -> dict[str, Entry]:
    """All decisions of several files, one an image; equal ones are joined, notes added up.

    Args:
        files: In the order in which they were named.
        take: Whose status counts where two disagree: ``first``, ``last``, or the name of one of the files.

    Raises:
        StoreError: Two disagree, and ``take`` does not say who wins.
        ConfigError: ``take`` names no file.
    """
    chosen = None if take in (None, "first", "last") else _file_named(files, str(take))
    found: dict[str, list[Entry]] = {}
    for file in files:
        for image, entry in file.entries.items():
            found.setdefault(image, []).append(entry)
    winners = {image: _winner(entries, take, chosen) for image, entries in found.items()}
    open_cases = [found[image] for image, winner in winners.items() if winner is None]
    if open_cases:
        shown = "\n".join(f"  {entries[0].image}: {_sides(entries)}" for entries in open_cases[:LISTED])
        more = f"\n  … and {len(open_cases) - LISTED} more" if len(open_cases) > LISTED else ""
        raise StoreError(
            f"the files disagree about {count(len(open_cases), 'image')}:\n{shown}{more}\n"
            "nothing was recorded; --take first or --take last says whose word counts"
        )
    return {image: _with_notes(winner, found[image]) for image, winner in winners.items() if winner is not None}


def count(number: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number} {noun}{'s' if number != 1 else ''}"


def named(names: Sequence[str]) -> str:
    """The first names of a list, and how many there are."""
    return ", ".join(names[:NAMED]) + (f", … ({len(names)} in all)" if len(names) > NAMED else "")


def utc_time(text: str) -> str:
    """A time in UTC with milliseconds, so that times compare as text; "" stays. Raises ValueError."""
    if not text:
        return ""
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC).isoformat(timespec="milliseconds")
    except OverflowError:
        raise ValueError(f"time {text!r}: no time of this calendar in UTC") from None


def _tree(path: Path) -> Mapping[str, Any]:
    try:
        tree = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); expected a decisions.json") from None
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: not JSON ({error}); expected the decisions.json of a review page") from None
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        found = f"format {tree['format']!r}" if isinstance(tree, dict) and "format" in tree else "something else"
        raise StoreError(f"{path}: {found}; expected the decisions.json of a review page (format {FORMAT!r})")
    if tree.get("version") not in range(1, VERSION + 1):
        raise StoreError(f"{path}: version {tree.get('version')!r}, this recamlabel reads 1 to {VERSION}; update it")
    return tree


def _entry(row: Any, masks_key: str, source: str, file: str) -> Entry:
    status = row["status"]
    if status is not None and status not in STATUSES:
        raise ValueError(f"unknown status {status!r} of {row.get('image')!r}; expected {', '.join(STATUSES)} or null")
    texts = [_text(row, name, "") for name in ("note", "time", "mask")]
    note, time, mask = texts[0].strip(), utc_time(texts[1]), texts[2]
    return Entry(_text(row, "image"), status, note, time, mask, masks_key, source, file, _painted(row))


def _painted(row: Any) -> Runs | None:
    """The painted mask of a row. Raises ValueError for one that is none."""
    if row.get("painted") is None:
        return None
    try:
        return joined(Runs.from_json(row["painted"]))
    except ValueError as error:
        raise ValueError(f"the painted mask of {row.get('image')!r} is damaged: {error}") from None


def _text(tree: Any, name: str, default: str | None = None) -> str:
    value = tree[name] if default is None else tree.get(name, default)
    if not isinstance(value, str):
        raise TypeError(f"{name!r} is {value!r}, expected text")
    # Half of a character, which JSON can hold and no file can.
    return value.encode("utf-8", "replace").decode()


def _why(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)


def _file_named(files: Sequence[DecisionFile], take: str) -> str:
    for file in files:
        if take in (file.path.name, str(file.path)):
            return str(file.path)
    raise ConfigError(f"--take {take}: expected first, last or one of the files: {named([str(f.path) for f in files])}")


def _winner(entries: Sequence[Entry], take: str | None, chosen: str | None) -> Entry | None:
    """The entry of an image that counts; None where two disagree and nobody says who wins."""
    voiced = [entry for entry in entries if entry.status is not None or entry.painted] or list(entries)
    if all(entry.agrees_with(voiced[0]) for entry in voiced):
        return max(voiced, key=lambda entry: entry.time)
    if take in ("first", "last"):
        return voiced[0 if take == "first" else -1]
    return next((entry for entry in voiced if entry.file == chosen), None)


def _sides(entries: Sequence[Entry]) -> str:
    """What each file says; where all say the same of the status, it is the painted masks that differ."""
    words = [
        f"{entry.status or 'no status'}{', painted,' if entry.painted else ''} in {entry.file}"
        for entry in entries
        if entry.status is not None or entry.painted
    ]
    return ", ".join(words)


def _with_notes(winner: Entry, entries: Sequence[Entry]) -> Entry:
    notes = dict.fromkeys(entry.note for entry in entries if entry.note)
    return replace(winner, note=" / ".join(notes))
