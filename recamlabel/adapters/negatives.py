"""Labels that say "nothing is there": ``ok``, ``good``, ``normal``; every class is absent in such an image.

The one place that knows them, for all formats: people sort sound parts into a folder ``good``
(MVTec does), and a class of that name would be segmented like a defect.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from recamlabel.adapters.base import Problem
from recamlabel.adapters.config import AdapterOptions
from recamlabel.adapters.entries import Entry
from recamlabel.adapters.ids import assign_ids

# Lower case, with one blank between words; see name_key. No word that is often a thing of its own
# ("empty", "clean", "other"), and none that says that nobody looked ("unlabelled", "unknown").
NEGATIVE_NAMES = (
    *("ok", "okay", "good", "normal", "none", "negative", "nothing", "healthy", "undamaged", "intact"),
    *("defect free", "defectfree", "defectless", "non defective", "nondefective", "not defective", "damage free"),
    *("no defect", "no defects", "nodefect", "no damage", "no anomaly", "no anomalies", "no fault", "no faults"),
    *("no finding", "no findings", "no crack", "no cracks", "no disease", "no object", "no objects", "no class"),
)
TURN_OFF = "--set 'data.negative_labels=[]'"


@lru_cache(maxsize=1 << 16)  # every label of every image is asked for, and a data set has few names
def name_key(name: str) -> str:
    """What names are compared by: lower case, words with one blank between them.

    Example:
        >>> name_key(" No_Defect"), name_key("defect-free")
        ('no defect', 'defect free')
    """
    return re.sub(r"[\s_\-]+", " ", name).strip().casefold()


@dataclass(frozen=True)
class Negatives:
    """The names that mean "nothing is there" in one data set; ask with ``in``.

    Args:
        keys: Their keys, see :func:`name_key`.
        kept: Usual negative names that the given class names have, and which are classes therefore.
    """

    keys: frozenset[str]
    kept: tuple[str, ...] = ()

    def __contains__(self, name: str) -> bool:
        return name_key(name) in self.keys


def negatives_of(options: AdapterOptions, known: Sequence[str]) -> Negatives:
    """The user's negative labels, or the usual ones but for those that the user names as classes.

    Args:
        options: ``negative_labels`` is None where nothing is set.
        known: Class names given by ``data.classes`` or ``classes.txt``.

    Example:
        >>> found = negatives_of(AdapterOptions(), ["dent", "good"])
        >>> "OK" in found, "good" in found, found.kept
        (True, False, ('good',))
    """
    if options.negative_labels is not None:
        return Negatives(frozenset(map(name_key, options.negative_labels)))
    kept = tuple(name for name in known if name_key(name) in NEGATIVE_NAMES)
    return Negatives(frozenset(NEGATIVE_NAMES) - set(map(name_key, kept)), kept)


def read_negatives(
    entries: Sequence[Entry], negatives: Negatives, listed: Iterable[str], problems: list[Problem], notes: list[str]
) -> list[Entry]:
    """The entries with every class absent where a negative label is present.

    A negative label beside another label contradicts it: a fatal problem of that image, which
    keeps its other labels.

    Args:
        entries: One an image.
        negatives: What means "nothing is there".
        listed: Names in the format's own list of classes, for the note.
        problems, notes: Added to.
    """
    counts = Counter({name: 0 for name in listed if name in negatives})
    ids: list[str] = []
    result = []
    for index, entry in enumerate(entries):
        present = sorted(name for name in entry.present if name in negatives)
        others = entry.present.difference(present)
        if present and others:
            ids = ids or assign_ids([one.path for one in entries])
            problems.append(_contradiction(entry, present, others, ids[index]))
        elif present:
            counts.update(present)
        result.append(_without(entry, negatives, nothing_there=bool(present and not others)))
    notes += _notes(counts, negatives)
    return result


def _without(entry: Entry, negatives: Negatives, *, nothing_there: bool) -> Entry:
    if nothing_there:
        return replace(entry, present=frozenset(), unknown=frozenset(), absent=None)
    parts = (entry.present, entry.unknown, entry.absent or frozenset())
    if not any(name in negatives for part in parts for name in part):
        return entry
    present, unknown, absent = (frozenset(name for name in part if name not in negatives) for part in parts)
    return replace(entry, present=present, unknown=unknown, absent=None if entry.absent is None else absent)


def _contradiction(entry: Entry, negative: Sequence[str], others: Iterable[str], image_id: str) -> Problem:
    name = negative[0]
    message = (
        f"'{entry.path}' has the label {name!r}, which says that nothing is there, and {', '.join(sorted(others))}; "
        f"take one of them out, or make {name!r} a class with {TURN_OFF}"
    )
    return replace(entry.problem(message, image_id=image_id), kind="contradiction")


def _notes(counts: Counter[str], negatives: Negatives) -> Iterator[str]:
    if counts:
        names = ", ".join(repr(name) for name in sorted(counts))
        makes = "it a class" if len(counts) == 1 else "them classes"
        images = f"{counts.total()} image" + ("" if counts.total() == 1 else "s")
        yield f"{names}: read as 'nothing is there' ({images}); {TURN_OFF} makes {makes}"
    for name in negatives.kept:
        yield (
            f"{name!r} is a class, as the given class names say; if it means that nothing is there: "
            f"--set 'data.negative_labels=[\"{name}\"]'"
        )
