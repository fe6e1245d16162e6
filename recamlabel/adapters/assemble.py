"""From what the entries of a label file say to a :class:`Dataset` with every problem in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from recamlabel.adapters.base import Dataset, LabelledImage, Problem
from recamlabel.adapters.class_names import LabelSets, known_classes, make_table, unknown_class
from recamlabel.adapters.config import AdapterOptions
from recamlabel.adapters.entries import Entry
from recamlabel.adapters.files.listing import FolderListing
from recamlabel.adapters.ids import NearFiles, assign_ids, find_clashes
from recamlabel.adapters.negatives import TURN_OFF, negatives_of, read_negatives
from recamlabel.core.classes import ClassTable
from recamlabel.errors import DatasetError

# Entry belongs to the makers of adapters as much as Draft does.
__all__ = ["SETTING_ORIGIN", "Draft", "Entry", "assemble", "make_images", "settle_classes", "some", "without_repeats"]

_SHOWN = 3
# So many missing images, and no other, are in another place rather than lost one by one.
_MANY = 10
SETTING_ORIGIN = "the setting data.classes"


@dataclass
class Draft:
    """A data set in the making: what an adapter has collected.

    Args:
        adapter: Its name.
        root: Absolute data root.
        source: The file that messages about the whole are about.
        entries: One for every image, in order; repeats are found here.
        names: Class names that the format lists itself, in its order; empty: those found, sorted.
        classes_folder: Where ``classes.txt`` may give the classes and their order; None: the format has its own list.
        problems, notes: As in :class:`Dataset`; added to.
    """

    adapter: str
    root: Path
    source: Path
    entries: list[Entry] = field(default_factory=list)
    names: Sequence[str] = ()
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    classes_folder: Path | None = None


def assemble(draft: Draft, options: AdapterOptions, *, listing: FolderListing | None = None) -> Dataset:
    """Check all entries and make the data set.

    Args:
        draft: What was collected.
        options: ``classes`` win over the format's own list.
        listing: Folder listings made so far; image files in these folders that no entry names are noted.

    Raises:
        DatasetError: There is no class at all.
    """
    known, origin = tuple(options.classes), SETTING_ORIGIN
    if draft.classes_folder is not None:
        known, origin = known_classes(options, draft.classes_folder)
    names = {name for entry in draft.entries for name in (*entry.present, *(entry.absent or ()))}
    if not (known or draft.names or names) and draft.problems:
        many = len(draft.problems)
        raise DatasetError(f"{draft.problems[0]} (no entry with a label can be read; problems: {many})")
    repeats: list[Problem] = []
    draft.entries = without_repeats(draft.entries, repeats)
    classes = settle_classes(draft, known, options)
    if known:
        draft.problems += _unknown_classes(draft, known, origin)
    draft.problems += repeats
    listing = listing or FolderListing(draft.root)
    images = make_images(draft.root, draft.entries, classes, draft.problems, listing)
    unlisted = listing.unlisted(entry.path for entry in draft.entries)
    if unlisted:
        draft.notes.append(f"images beside these without an entry: {len(unlisted)} ({some(unlisted)}); not read")
    return Dataset(draft.root, draft.adapter, classes, images, tuple(draft.problems), tuple(draft.notes))


def settle_classes(draft: Draft, known: Sequence[str], options: AdapterOptions) -> ClassTable:
    """The class table; negative labels (``good``, ``ok``) are taken out of the entries, once for all formats.

    Args:
        draft: Its entries (one an image), problems and notes are brought up to date.
        known: Class names that are given; empty: the format's own list, or else the sorted names found.
        options: For ``negative_labels``.

    Raises:
        DatasetError: There is no class at all.
    """
    negatives = negatives_of(options, known)
    used = {name for entry in draft.entries for name in (*entry.present, *(entry.absent or ()))}
    nothing = sorted(name for name in used if name in negatives)
    draft.entries = read_negatives(draft.entries, negatives, draft.names, draft.problems, draft.notes)
    listed = [name for name in (known or draft.names) if name not in negatives]
    remaining = used.difference(nothing)
    if nothing and not listed and not remaining:
        raise DatasetError(
            f"{draft.source}: every label says that nothing is there ({some([repr(name) for name in nothing])}), so "
            f"there is no class; add images with something to find, or make classes of these with {TURN_OFF}"
        )
    classes, case_problems = make_table(listed, remaining, draft.source)
    draft.problems += case_problems
    return classes


def without_repeats(entries: Iterable[Entry], problems: list[Problem]) -> list[Entry]:
    """The first entry of every image; later ones are notes where they agree and fatal where not."""
    first: dict[PurePosixPath, Entry] = {}
    for entry in entries:
        before = first.setdefault(entry.path, entry)
        if before is entry:
            continue
        where = _where(before, entry)
        if before.says() == entry.says():
            problems.append(entry.problem(f"the same as {where} ('{entry.path}'); read once", fatal=False))
            continue
        message = (
            f"'{entry.path}' has {_shown(entry)} here but {_shown(before)} in {where}; "
            f"expected one {'row' if entry.row is not None else 'entry'} an image, with all its labels"
        )
        problems.append(entry.problem(message))
    return list(first.values())


def make_images(
    root: Path,
    entries: Sequence[Entry],
    classes: ClassTable,
    problems: list[Problem],
    listing: FolderListing,
    *,
    hint: str = "",
) -> tuple[LabelledImage, ...]:
    """Images with ids and label sets; clashing ids and missing files become problems, ``hint`` says what to do."""
    ids = assign_ids([entry.path for entry in entries])
    clashing = set()
    for first, later in find_clashes(ids):
        clashing.add(later)
        message = (
            f"'{entries[later].path}' and '{entries[first].path}' ({_where(entries[first], entries[later])}) would "
            f"both have the id {ids[later]!r}, which is the path without extension; rename one of the files"
        )
        problems.append(entries[later].problem(message))
    problems += _missing(root, entries, ids, clashing, listing, hint)
    sets, names, images = LabelSets(classes), frozenset(classes.names), []
    for index, entry in enumerate(entries):
        if index in clashing:
            continue
        if entry.absent is None:
            present, absent = sets.make(entry.present & names, entry.unknown)
        else:
            present, absent = entry.present & names, (entry.absent - entry.present) & names
        images.append(LabelledImage(ids[index], root / entry.path, present, absent, entry.split))
    return tuple(images)


def some(names: Sequence[str]) -> str:
    """The first three names and how many more.

    Example:
        >>> some(["a", "b", "c", "d"])
        'a, b, c and 1 more'
    """
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _missing(
    root: Path, entries: Sequence[Entry], ids: Sequence[str], clashing: set[int], listing: FolderListing, hint: str
) -> Iterator[Problem]:
    missing = [i for i, entry in enumerate(entries) if i not in clashing and not listing.has(entry.path)]
    if len(missing) >= _MANY and len(missing) == len(entries) - len(clashing) and not hint:
        message = (
            f"not one of the {len(missing)} images is below {root}; name their folder with --set data.image_root=FOLDER"
        )
        yield Problem(message, entries[missing[0]].file, fatal=False)
    near = NearFiles(root)
    way_out = hint or "fix the path or put the image there"
    for index in missing:
        path = entries[index].path
        message = f"no image '{path}' below {root}{near.hint(path)}; {way_out}"
        problem = entries[index].problem(message, image_id=ids[index])
        yield replace(problem, kind="no such image")


def _unknown_classes(draft: Draft, known: tuple[str, ...], origin: str) -> Iterator[Problem]:
    """One problem for each class outside of the given ones, however many images have it."""
    allowed, homes = frozenset(known), dict[str, list[Entry]]()
    for entry in draft.entries:
        for name in (entry.present | (entry.absent or frozenset())) - allowed:
            homes.setdefault(name, []).append(entry)
    for name in sorted(homes):
        message = f"{unknown_class(name, known, origin)}; images labelled with it: {len(homes[name])}"
        yield homes[name][0].problem(message)


def _where(entry: Entry, seen_from: Entry) -> str:
    where = f"row {entry.row}" if entry.row is not None else entry.place
    if entry.file != seen_from.file:
        return f"{entry.file}, {where}" if where else str(entry.file)
    return where


def _shown(entry: Entry) -> str:
    labels = f"labels {', '.join(sorted(entry.present))}" if entry.present else "no label"
    unknown = f", unknown {', '.join(sorted(entry.unknown))}" if entry.unknown else ""
    absent = f", absent {', '.join(sorted(entry.absent))}" if entry.absent else ""
    return labels + absent + unknown + (f", split {entry.split}" if entry.split is not None else "")
