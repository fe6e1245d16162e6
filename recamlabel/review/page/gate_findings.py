"""The gate's findings as the report shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recamlabel.errors import StoreError, in_short
from recamlabel.review.page.gallery import Tile, tile
from recamlabel.review.page.photographs import Photographs
from recamlabel.storage.places import GATE_FILE, placed
from recamlabel.storage.run_folder import RunFolder

GATE_STAGE = "gate"
LISTED, PICTURED, SIDE = 50, 8, 176


@dataclass(frozen=True)
class SuspectList:
    """Suspected labels of one kind: the first of them, pictures of the very first, and how many there are."""

    title: str
    meaning: str
    rows: tuple[Mapping[str, Any], ...]
    tiles: tuple[Tile, ...]
    total: int


@dataclass(frozen=True)
class Findings:
    """The gate for the page.

    Args:
        note: A warning about the whole, or "".
        verdicts: Number of classes by verdict, in words.
        classes: Rows of ``gate.json``, the worst verdicts first.
        pairs: Classes that come together.
        suspects: Doubtful and missing labels.
    """

    note: str
    verdicts: str
    classes: tuple[Mapping[str, Any], ...]
    pairs: tuple[Mapping[str, Any], ...]
    suspects: tuple[SuspectList, ...]


def read_findings(run: RunFolder, photographs: Photographs) -> Findings | None:
    """The findings of a run, or None where the gate was not run for its present labels.

    Raises:
        StoreError: ``gate.json`` is damaged.
        DatasetError: An image cannot be read.
    """
    if run.stage_state(GATE_STAGE) != "finished":
        return None
    path = placed(run.path / GATE_FILE)
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        order = ("do not trust", "weak", "ok")
        verdicts = [one["verdict"] for one in tree["classes"]]
        return Findings(
            tree["note"],
            ", ".join(f"{verdicts.count(name)} {name}" for name in reversed(order)),
            tuple(sorted(tree["classes"], key=lambda one: order.index(one["verdict"]))),
            tuple(tree["pairs"]),
            (
                _listed(
                    tree["doubtful"],
                    photographs,
                    "Labels that never fire",
                    "Labelled, but the model sees no more of the class than in images without it: a wrong label, or an "
                    "object that is small, hidden or unusual.",
                ),
                _listed(
                    tree["missing"],
                    photographs,
                    "Probably missing labels",
                    "Not labelled, but the model is as sure of the class as in images with it.",
                ),
            ),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: damaged ({in_short(error)}); delete it and run `recamlabel fit` again") from None


def _listed(rows: list[Mapping[str, Any]], photographs: Photographs, title: str, meaning: str) -> SuspectList:
    tiles = [
        tile(f"{row['name']}? {row['image']}", f"Image {row['image']}", photographs.small(row["image"], SIDE))
        for row in rows[:PICTURED]
    ]
    return SuspectList(title, meaning, tuple(rows[:LISTED]), tuple(tiles), len(rows))
