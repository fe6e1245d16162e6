"""Quality, withheld pixels and measured scores, as the report's tables show them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recamlabel.core.classes import BACKGROUND_NAME
from recamlabel.errors import StoreError, in_short
from recamlabel.evaluation.evaluate import METRICS_SECTION
from recamlabel.evaluation.scoring import WHAT, current_key
from recamlabel.storage.run_folder import RunFolder

QUALITY_STAGE, QUALITY_FILE = "quality", "quality.json"
ROUNDS_SECTION = "rounds"
REVIEW_SECTION = "with_review"
NAMES = {
    "cam-seeds": "CAM seeds",
    "recam-seeds": "ReCAM seeds",
    "scores": "Refined, best level",
    "masks": "Masks",
    "complete-masks": "Masks, nothing withheld",
    "reviewed": "Masks after review",
    "segmenter": "Segmenter",
}


@dataclass(frozen=True)
class QualityScores:
    """``quality.json``: the order of review, and what is known of each mask without truth.

    Attributes:
        order: Image ids, the ones to review first in front.
        images: By image id its scores.
        normal: How many images are known to hold nothing, and in how many of them the segmenter finds something; zeros
            where there is no segmenter.
    """

    order: tuple[str, ...]
    images: Mapping[str, Mapping[str, Any]]
    normal: tuple[int, int] = (0, 0)

    def of_class(self, name: str) -> tuple[float | None, float | None]:
        """Mean quality of a class and mean share withheld of its pixels, over the masks with it; None for none."""
        rows = [row for row in self.images.values() if name in row["classes"]]
        if not rows:
            return None, None
        values = (
            sum(row["classes"][name] for row in rows),
            sum(row["withheld_classes"].get(name, 0) for row in rows),
        )
        return values[0] / len(rows), values[1] / len(rows)


def read_quality_scores(run: RunFolder) -> QualityScores | None:
    """The scores of a run's present masks, or None where they are not made yet.

    Raises:
        StoreError: ``quality.json`` is damaged.
    """
    if run.stage_state(QUALITY_STAGE) != "finished":
        return None
    path = run.path / QUALITY_FILE
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        for row in tree["images"].values():
            row["score"] + row["withheld"], row["classes"].keys() | row["withheld_classes"].keys()
        # Runs of earlier versions did not count them.
        normal = tree.get("normal", {"images": 0, "fires": []})
        return QualityScores(tuple(tree["order"]), tree["images"], (int(normal["images"]), len(normal["fires"])))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path}: damaged ({in_short(error)}); delete it and run `recamlabel fit` again") from None


def score_rows(run: RunFolder) -> Iterator[dict[str, Any]]:
    """The evaluations of ``metrics.json``, whole data set first, with a mark on outdated ones."""
    entries: Mapping[str, Any] = run.metrics().get(METRICS_SECTION, {})
    order = {what: position for position, what in enumerate(WHAT)}
    ranked = sorted(entries.items(), key=lambda item: (item[1]["split"] or "", order.get(item[1]["what"], 9)))
    for key, entry in ranked:
        yield {
            "miou_covered": None,
            **entry,
            "key": key,
            "name": NAMES.get(entry["what"], entry["what"]),
            "outdated": _outdated(run, entry),
            "with_truth": chosen_with_truth(entry["threshold_origin"]),
        }


def _outdated(run: RunFolder, entry: Mapping[str, Any]) -> bool:
    """Whether what was measured is no longer what the run holds."""
    return bool(entry["stage_key"] != current_key(run, entry["what"]))


def headline(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What the page says first of the masks: complete, what remains and coverage, together.

    One of them alone would reward withholding less, or more.

    Args:
        rows: What :func:`score_rows` gives.

    Returns:
        ``lines`` (name, value and interval in percent), ``images``, ``with_truth``, ``warning``; None where the masks
        were not scored.
    """
    by_key = {row["key"]: row for row in rows}
    left = by_key.get("masks")
    if left is None:
        return None
    whole = by_key.get("complete-masks")
    kinds = [("mIoU of the complete masks", "miou", whole)] if whole else []
    kinds += [("mIoU of what remains", "miou_covered", left), ("coverage", "coverage", left)]
    lines = [
        {
            "name": name,
            "value": row[field],
            "interval": row.get("intervals", {}).get(field),
            "outdated": row["outdated"],
        }
        for name, field, row in kinds
    ]
    return {**{name: left.get(name) for name in ("images", "with_truth", "warning")}, "lines": lines}


def scored(run: RunFolder) -> list[str]:
    """What was scored over the whole data set and is still there, in the order of the pipeline."""
    entries = run.metrics().get(METRICS_SECTION, {})
    return [what for what in WHAT if what in entries and not _outdated(run, entries[what])]


def round_rows(run: RunFolder) -> list[dict[str, Any]]:
    """What is known, without true masks, of each round of ``fit --rounds``; empty where there is one alone.

    Raises:
        StoreError: The section ``rounds`` of ``metrics.json`` is damaged.
    """
    section = run.section(ROUNDS_SECTION)
    if not section or run.stage_state(ROUNDS_SECTION) != "finished":
        return []
    names = ("round", "criterion", "threshold", "withheld", "quality")
    try:
        rows = [{name: float(row[name]) for name in names} for row in section["rounds"]]
        return [{**row, "kept": row["round"] == section["kept"]} for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{run.path / 'metrics.json'}: section {ROUNDS_SECTION!r} is damaged ({in_short(error)})"
        ) from None


def review_rows(run: RunFolder) -> list[dict[str, Any]]:
    """Before and after ``fit --with-review``, as :func:`round_rows`; empty where there was none,
    or where the run has other masks by now.

    Raises:
        StoreError: The section ``with_review`` of ``metrics.json`` is damaged.
    """
    section = run.section(REVIEW_SECTION)
    if not section:
        return []
    names = ("criterion", "threshold", "withheld", "quality")
    try:
        return [
            {"round": label, **{name: float(section[label][name]) for name in names}} for label in ("before", "after")
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{run.path / 'metrics.json'}: section {REVIEW_SECTION!r} is damaged ({in_short(error)})"
        ) from None


def chosen_with_truth(origin: str) -> bool:
    """Whether the words that say how a value was chosen mean that true masks took part.

    Example:
        >>> chosen_with_truth("chosen with ground truth"), chosen_with_truth("chosen without ground truth (Otsu)")
        (True, False)
    """
    text = origin.lower()
    return any(word in text for word in ("ground truth", "true mask", "reviewed mask")) and "without" not in text


def class_rows(
    run: RunFolder, names: list[str], positives: Mapping[str, int], quality: QualityScores | None
) -> Iterator[dict[str, Any]]:
    """One row a class, background first: positives, share of the pixels, quality, IoU of each evaluation.

    Args:
        run: The run.
        names: Names by id, background included.
        positives: Images by label.
        quality: Scores of the masks, or None.
    """
    pixels: Mapping[str, int] = run.state.stages.get("masks", {}).get("pixels", {})
    total = sum(pixels.values())
    largest = max((count for name, count in pixels.items() if name not in {BACKGROUND_NAME, "ignored"}), default=0)
    entries: Mapping[str, Any] = run.metrics().get(METRICS_SECTION, {})
    for class_id, name in enumerate(names):
        score, withheld = (None, None) if quality is None else quality.of_class(name)
        yield {
            "id": class_id,
            "name": name,
            "positives": positives.get(name, 0) if class_id else None,
            "share": 100 * pixels.get(name, 0) / total if total else None,
            # The background would dwarf every class: bars compare the classes among themselves.
            "bar": 100 * pixels.get(name, 0) / largest if largest and class_id else 0,
            "quality": score,
            "withheld": None if withheld is None else 100 * withheld,
            "iou": [entries.get(what, {}).get("per_class", {}).get(name, {}).get("iou") for what in scored(run)],
        }
