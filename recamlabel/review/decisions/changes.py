"""What review changed: how much was decided, and pictures of the masks that are others now."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from recamlabel.masks.reviewed import Decision, ReviewFolder
from recamlabel.review.page.gallery import SIDE, Layer, Tile, tile
from recamlabel.review.page.layers import mask_layer
from recamlabel.review.page.photographs import Photographs
from recamlabel.storage.hdf5 import open_store
from recamlabel.storage.run_folder import RunFolder

PICTURED = 24


@dataclass(frozen=True)
class ChangedMask:
    """One image whose mask review has changed.

    Attributes:
        id: Image id.
        share: Share of its pixels that differ from the pseudo mask, 0..1.
        kind: ``painted``, or ``accepted`` where the pseudo mask has changed since.
        note: The reviewer's note.
        photo, pseudo, reviewed: What is shown.
    """

    id: str
    share: float
    kind: str
    note: str
    photo: Tile
    pseudo: Layer
    reviewed: Layer


@dataclass(frozen=True)
class Changes:
    """The review for the page.

    Attributes:
        counts: Words and how many images, in order.
        changed: The most changed masks, with pictures.
        total: Number of changed masks.
        rejected: Decisions whose mask is not used at all.
        notes: Decisions with a note, or marked for fixing.
    """

    counts: tuple[tuple[str, int], ...]
    changed: tuple[ChangedMask, ...]
    total: int
    rejected: tuple[Decision, ...]
    notes: tuple[Decision, ...]


def read_changes(run: RunFolder, photographs: Photographs) -> Changes | None:
    """What review changed in a run, or None where nobody reviewed it.

    Raises:
        StoreError: A file of the review or of the run is damaged.
        DatasetError: An image cannot be read.
    """
    review, catalog = ReviewFolder(run.path), photographs.catalog
    decisions = {name: one for name, one in review.decisions().items() if name in catalog.shapes}
    if not decisions:
        return None
    kinds = {name: kind for name, kind in review.kinds().items() if name in catalog.shapes}
    shares = _shares(run, review, kinds)
    ranked = sorted(shares, key=lambda name: (-shares[name], name))
    statuses = Counter(decision.status for decision in decisions.values())
    counts = (
        ("accepted", statuses["accepted"]),
        ("rejected", statuses["rejected"]),
        ("to fix", statuses["fix"]),
        ("painted", sum(kind == "painted" for kind in kinds.values())),
        ("not looked at", len(catalog.images) - sum(one.status is not None for one in decisions.values())),
    )
    return Changes(
        counts,
        tuple(_pictures(run, review, photographs, ranked[:PICTURED], shares, decisions, kinds)),
        len(ranked),
        tuple(one for one in decisions.values() if one.status == "rejected"),
        tuple(one for one in decisions.values() if one.note or one.status == "fix"),
    )


def _shares(run: RunFolder, review: ReviewFolder, kinds: dict[str, str]) -> dict[str, float]:
    """Share of the pixels that differ, of every kept mask that is another than the pseudo mask."""
    shares = {}
    if kinds and (run.path / "masks.h5").is_file():
        with open_store(run.path / "masks.h5") as pseudo, open_store(review.masks_path) as kept:
            for name, kind in kinds.items():
                if kind != "rejected" and name in pseudo and pseudo[name].shape == kept[name].shape:
                    share = float(np.mean(pseudo[name][()] != kept[name][()]))
                    if share > 0:
                        shares[name] = share
    return shares


def _pictures(
    run: RunFolder,
    review: ReviewFolder,
    photographs: Photographs,
    names: list[str],
    shares: dict[str, float],
    decisions: dict[str, Decision],
    kinds: dict[str, str],
) -> list[ChangedMask]:
    if not names:
        return []
    table, shown = photographs.catalog.dataset.classes, []
    with ExitStack() as stack:
        pseudo, kept = (stack.enter_context(open_store(path)) for path in (run.path / "masks.h5", review.masks_path))
        for name in names:
            small = photographs.small(name, SIDE)
            before, after = (
                mask_layer(file[name][()], small.shape[0], small.shape[1], table) for file in (pseudo, kept)
            )
            note = decisions[name].note if name in decisions else ""
            shown.append(
                ChangedMask(
                    name,
                    shares[name],
                    kinds[name],
                    note,
                    tile("", f"Image {name}", small),
                    Layer("", f"Pseudo mask of {name}, before review", before),
                    Layer("", f"Reviewed mask of {name}", after),
                )
            )
    return shown
