"""Which images an export holds, and what is done with masks that say nothing: the one place for both.

The rule: a mask that was rejected, that is empty although the labels name classes, or that has nothing but
withheld pixels is *not* a sign that nothing is in the image. So a format of objects (``kind = "instances"``),
whose readers take an image without any for an empty one, does not get the image at all, and a format with a value for
every pixel (``kind = "index"``) gets a mask of the ignore value alone. An image whose labels are all absent
stays, as the negative that it is. What is done is said with counts, and ``recamlabel-export.json`` has the ids.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from recamlabel.adapters.base import LabelledImage
from recamlabel.core.classes import BACKGROUND_ID, ClassTable
from recamlabel.core.progress import track
from recamlabel.core.registry import check_choice
from recamlabel.data.catalog import Catalog
from recamlabel.data.id_lists import read_id_list
from recamlabel.errors import ConfigError, StoreError
from recamlabel.export.base import Format, Item, Kind, Mask, Plan
from recamlabel.export.mask_sources import MaskFiles, read_mask
from recamlabel.masks.rescue import KEPT_IDS
from recamlabel.masks.reviewed import Decision, ReviewFolder

Only = Literal["all", "reviewed", "accepted"]
ONLY: tuple[Only, ...] = get_args(Only)
OnChanged = Literal["stop", "skip"]
ON_CHANGED: tuple[OnChanged, ...] = get_args(OnChanged)
NAMED = 3
REASONS: Mapping[str, str] = {
    "undecided": "without a decision",
    "fix": "marked fix and not painted",
    "rejected": "whose mask was rejected",
    "changed": "whose file is not the one that the masks were made from",
    "empty": "whose labels name classes while the mask has no object",
    "ignored": "whose mask has nothing but withheld pixels",
    "unlabelled": "without any label, for some classes not even 'absent'",
}
"""Why an image is left out, or its mask written as unknown: key in the record, and words."""


@dataclass(frozen=True)
class Wanted:
    """Which images are asked for.

    Args:
        splits: These splits alone; empty: all.
        only: ``accepted``: images whose mask a reviewer accepted or painted; ``reviewed``: all with a
            decision, except rejected ones; ``all``.
        ids: A file with an image a line, or ids; None: all.
        on_changed: ``stop`` where an image file is not the one the masks were made from, or ``skip`` it.
        val: Share of the images to set aside for validation, where they are in no split; None: none.
    """

    splits: Sequence[str] = ()
    only: Only = "all"
    ids: Path | Collection[str] | None = None
    on_changed: OnChanged = "stop"
    val: float | None = None

    def __post_init__(self) -> None:
        check_choice("--only", self.only, ONLY)
        check_choice("--on-changed", self.on_changed, ON_CHANGED)

    def to_json(self) -> dict[str, Any]:
        """For the record: what was asked, the ids by their file or number."""
        ids = self.ids if self.ids is None or isinstance(self.ids, Path) else len(self.ids)
        return {
            "only": self.only,
            "splits": list(self.splits),
            "ids": str(ids) if isinstance(ids, Path) else ids,
            "val": self.val,
        }


@dataclass
class LeftOut:
    """What an export does not take as it is, for the notes and the record.

    Attributes:
        by_only: Ids of images that ``--only`` leaves out, by reason.
        by_rule: The same for those that the rule is about, and for changed files.
        unknown: Ids of images whose mask is written as withheld pixels alone, by reason.
        missing: Names of the labelled classes that a mask lacks while it has others, by image id.
        own_level: Names of the classes that a mask has at a level of their own only
            (:mod:`recamlabel.masks.rescue`), by image id.
    """

    by_only: dict[str, list[str]] = field(default_factory=dict)
    by_rule: dict[str, list[str]] = field(default_factory=dict)
    unknown: dict[str, list[str]] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    own_level: dict[str, list[str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For the record, by reason."""
        by_reason = {reason: [*self.by_only.get(reason, []), *self.by_rule.get(reason, [])] for reason in REASONS}
        return {
            "left_out": {reason: ids for reason, ids in by_reason.items() if ids},
            "written_as_ignored": self.unknown,
            "labelled_but_missing": self.missing,
            "at_a_level_of_their_own": self.own_level,
        }

    def notes(self, wanted: Wanted, ignore_id: int, what: str = "masks") -> list[str]:
        """For a person, a sentence a line; ``what`` is the name of the exported masks."""
        lines = []
        if self.by_only:
            lines.append(f"left out by --only {wanted.only}: {counted(self.by_only)}")
        changed = {reason: ids for reason, ids in self.by_rule.items() if reason == "changed"}
        if changed:
            lines.append(f"left out by --on-changed skip: {counted(changed)}")
        if len(self.by_rule) > len(changed):
            rest = {reason: ids for reason, ids in self.by_rule.items() if reason != "changed"}
            lines.append(f"left out, because they would be read as images in which nothing is: {counted(rest)}")
        if self.unknown:
            lines.append(f"written as {ignore_id} (not known) in every pixel: {counted(self.unknown)}")
        if self.missing:
            way_out = (
                "They are the segmenter's own, which knows no label: --what masks has what the labels name"
                if what == "segmenter"
                else "Paint or reject them in `recamlabel review`, try a lower `recamlabel masks --threshold`, or "
                "leave them out with --ids"
            )
            shown = "; ".join(f"{name}: {', '.join(classes)}" for name, classes in list(self.missing.items())[:NAMED])
            lines.append(
                f"{_images(len(self.missing))} with some labelled class missing from the mask ({shown}"
                f"{'; …' if len(self.missing) > NAMED else ''}): a trainer reads that object as background. {way_out}"
            )
        if self.own_level:
            lines.append(
                f"{_images(len(self.own_level))} with a class that no pixel had above the background level: its best "
                "region is in the mask, and doubtful; `--only accepted` exports what a reviewer has accepted"
            )
        if lines:
            lines.append("recamlabel-export.json has the ids of these images")
        return lines


def choose(catalog: Catalog, run: Path, wanted: Wanted, left: LeftOut) -> list[LabelledImage]:
    """The images of the wanted splits, ids and decisions, in data set order.

    Raises:
        ConfigError: An unknown split or id.
        DatasetError: A file of ids that names no image, one twice, or several by one line.
    """
    images = [image for image in catalog.images if not wanted.splits or image.split in _checked(catalog, wanted.splits)]
    if wanted.ids is not None:
        ids = _wanted_ids(catalog, wanted.ids)
        images = [image for image in images if image.id in ids]
    if wanted.only == "all":
        return images
    review = ReviewFolder(run)
    decisions, kinds = review.decisions(), review.kinds()
    chosen = []
    for image in images:
        reason = _not_wanted(wanted.only, decisions.get(image.id), kinds.get(image.id))
        if reason is None:
            chosen.append(image)
        else:
            left.by_only.setdefault(reason, []).append(image.id)
    return chosen


def _checked(catalog: Catalog, splits: Sequence[str]) -> Sequence[str]:
    known = catalog.dataset.splits
    for split in splits:
        if not known:
            raise ConfigError(f"--split {split}: the data set has no splits")
        check_choice("--split", split, known, "split")
    return splits


def _wanted_ids(catalog: Catalog, ids: Path | Collection[str]) -> frozenset[str]:
    if isinstance(ids, Path):
        return frozenset(read_id_list(ids, catalog.shapes))
    unknown = [name for name in ids if name not in catalog.shapes]
    if unknown:
        example = next(iter(catalog.shapes), "")
        more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
        raise ConfigError(f"unknown image ids: {', '.join(map(repr, unknown[:NAMED]))}{more}; ids are like {example!r}")
    return frozenset(ids)


def _not_wanted(only: Only, decision: Decision | None, kind: str | None) -> str | None:
    """Why ``--only`` leaves an image out, or None."""
    if kind == "rejected" or (decision is not None and decision.status == "rejected"):
        return "rejected"
    if kind in {"accepted", "painted"}:
        return None
    if decision is None or decision.status is None:
        return "undecided"
    return "fix" if only == "accepted" else None


@dataclass(frozen=True)
class Selected:
    """What is exported: the images, and the masks to read for them."""

    plan: Plan
    source: MaskFiles


@dataclass(frozen=True)
class Rule:
    """The rule of this module.

    Args:
        images: All images, for their labels.
        kinds: How a reviewer settled a mask, by image id; empty where the exported masks were not reviewed.
    """

    images: Mapping[str, LabelledImage]
    kinds: Mapping[str, str]

    def apply(self, format_: Format, plan: Plan, source: MaskFiles, left: LeftOut) -> Selected:
        """Look at every mask once, and leave out or make unknown what says nothing.

        Args:
            format_: Its ``kind`` decides which of the two; without one it is taken for ``instances``.
            plan: Everything that was asked for.
            source: The masks.
            left: Is added to.

        Raises:
            StoreError: A mask is missing or does not fit.
        """
        reasons: dict[str, str] = {}
        with track("look at the masks", len(plan.items)) as advance:
            for item in plan.items:
                reason = self._reason(item, plan.classes, source, left)
                if reason is not None:
                    reasons[item.id] = reason
                advance()
        kind: Kind = getattr(format_, "kind", "instances")
        target = left.by_rule if kind == "instances" else left.unknown
        for name, reason in reasons.items():
            target.setdefault(reason, []).append(name)
        if kind == "index":
            return Selected(plan, replace(source, unknown=frozenset(reasons)))
        return Selected(replace(plan, items=tuple(item for item in plan.items if item.id not in reasons)), source)

    def _reason(self, item: Item, table: ClassTable, source: MaskFiles, left: LeftOut) -> str | None:
        kind = self.kinds.get(item.id)
        if kind == "rejected":
            return kind
        image, mask = self.images[item.id], read_mask(source, item, table)
        reason = useless(mask, image, table)
        if reason == "unlabelled" and kind is not None:
            return None  # a reviewer has seen that nothing is there
        if reason is None and (missing := _missing(mask, image, table)):
            left.missing[item.id] = missing
        kept = [] if kind is not None else source.find(item.id).attrs.get(KEPT_IDS, ())
        if reason is None and len(kept):
            left.own_level[item.id] = [table.name_of(int(class_id)) for class_id in kept]
        return reason


def useless(mask: Mask, image: LabelledImage, table: ClassTable) -> str | None:
    """Why a mask ``(H, W)`` must not be read as "nothing is here": a key of ``REASONS``; None for any other mask.

    Example:
        >>> import numpy as np
        >>> table, blank = ClassTable(("dent",)), np.zeros((1, 2), np.uint8)
        >>> image = LabelledImage("a", Path("a.png"), frozenset({"dent"}), frozenset())
        >>> useless(blank, image, table), useless(blank + 1, image, table)
        ('empty', None)
    """
    if (mask == table.ignore_id).all():
        return "ignored"
    if ((mask != BACKGROUND_ID) & (mask != table.ignore_id)).any():
        return None
    if image.present:
        return "empty"
    return None if len(image.absent) == len(table) else "unlabelled"


def _missing(mask: Mask, image: LabelledImage, table: ClassTable) -> list[str]:
    """Names of the labelled classes without a pixel."""
    return [table.name_of(class_id) for class_id in table.ids_of(image.present) if not (mask == class_id).any()]


def counted(reasons: Mapping[str, Sequence[str]]) -> str:
    """How many images there are for each reason, in words.

    Example:
        >>> counted({"rejected": ["a", "b"]})
        '2 images whose mask was rejected'
    """
    return "; ".join(f"{_images(len(ids))} {REASONS[reason]}" for reason, ids in reasons.items() if ids)


def refuse_nothing(run: Path, items: Collection[object], left: LeftOut) -> None:
    """Raise StoreError where no image is left to export, with the reasons."""
    if items:
        return
    reasons = "; ".join(counted(part) for part in (left.by_only, left.by_rule) if part)
    way_out = "; decide on the masks in `recamlabel review`, or leave out --only" if left.by_only else ""
    raise StoreError(f"{run}: no image to export{f': left out are {reasons}' if reasons else ''}{way_out}")


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
