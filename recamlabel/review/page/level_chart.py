"""How the background level was chosen: the criterion, the choice and its interval, as a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recamlabel.errors import StoreError, in_short
from recamlabel.masks.calibrate import ANYWHERE
from recamlabel.review.page.charts import COLOURS, Chart, drawing
from recamlabel.review.page.tables import chosen_with_truth
from recamlabel.storage.run_folder import RunFolder

SECTION = "threshold"
TITLE, MARK = "Background level", "#3c4650"
# With fewer levels than this each one is a point of its own.
FEW, MARGIN = 25, 0.05


@dataclass(frozen=True)
class Level:
    """The background level for the page.

    Attributes:
        used: The level that the masks were made at.
        origin: How it was chosen, in words.
        with_truth: Whether true masks took part in the choice.
        chart: The criterion with the choice and its interval, or None where there is no curve.
    """

    used: float
    origin: str
    with_truth: bool
    chart: Chart | None


def read_level(run: RunFolder) -> Level | None:
    """The level of a run's present masks, or None where there are none.

    Raises:
        StoreError: The section ``threshold`` of ``metrics.json`` is damaged.
    """
    section = run.section(SECTION)
    if not section or run.stage_state("masks") != "finished":
        return None
    try:
        used, origin = float(section["used"]), str(section["used_origin"])
        low, high = map(float, section["interval"])
        points = [(float(level), float(value)) for level, value in section["criterion"]]
        chosen = float(section["threshold"])
        parts = {str(name): [float(value) for value in part] for name, part in section.get("parts", {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{run.path / 'metrics.json'}: section {SECTION!r} is damaged ({in_short(error)})") from None
    whole = {name: part for name, part in parts.items() if len(part) == len(points)}
    chart = _chart(points, whole, (used, chosen), (low, high)) if points else None
    return Level(used, origin, chosen_with_truth(origin), chart)


def _chart(
    points: Sequence[tuple[float, float]],
    parts: Mapping[str, Sequence[float]],
    marks: tuple[float, float],
    interval: tuple[float, float],
) -> Chart:
    """The criterion and what it is made of by level, the level used and the best one, and its interval."""
    (used, chosen), (low, high) = marks, interval
    with drawing(TITLE, "background level") as (axes, text):
        levels, values = zip(*points, strict=True)
        dot = "o" if len(levels) <= FEW else ""
        if interval != ANYWHERE:
            axes.axvspan(low, high, color=COLOURS[0], alpha=0.18, linewidth=0, label="90 % interval")
        axes.plot(
            levels, values, color=COLOURS[0], linewidth=1.8, marker=dot, markersize=4, zorder=3, label="criterion"
        )
        for colour, (name, part) in zip(COLOURS[1:], parts.items(), strict=False):
            axes.plot(levels, part, color=colour, linewidth=1.1, marker=dot, markersize=3, label=name)
        name = "default" if interval == ANYWHERE else "best"
        axes.axvline(chosen, color=COLOURS[0], linewidth=1.2, linestyle=(0, (4, 3)), label=f"{name} {chosen:.2f}")
        if used != chosen:
            axes.axvline(used, color=MARK, linewidth=1.6, label=f"used {used:.2f}")
        axes.set_xlim(max(0.0, min(levels) - MARGIN), min(1.0, max(levels) + MARGIN))
        axes.set_ylim(0, None)
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    if interval == ANYWHERE:
        summary = f"the criterion says nothing about the level; the default is {chosen:.2f}"
    else:
        summary = f"criterion highest at {chosen:.2f}, 90 % interval {low:.2f} to {high:.2f}"
    return Chart(TITLE, summary + ("" if used == chosen else f"; the masks were made at {used:.2f}"), text[0])


def truth_warnings(level: Level | None, scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """What on the page was chosen with true masks, a sentence each: without them it would be worse.

    Example:
        >>> truth_warnings(None, [{"name": "CAM seeds", "with_truth": True}])
        ['“CAM seeds”: at the level that is best with the true masks.']
    """
    warnings = []
    if level is not None and level.with_truth:
        warnings.append(f"The background level of the masks ({level.used:.2f}) was {level.origin}.")
    soft = [
        str(row["name"]) for row in scores if row["with_truth"] and row.get("what") not in ("masks", "complete-masks")
    ]
    if soft:
        warnings.append(
            f"{', '.join(f'“{name}”' for name in dict.fromkeys(soft))}: at the level that is best with the true masks."
        )
    return warnings
