"""``recamlabel status``: what a run holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any

import click

from recamlabel.cli.options import run_argument
from recamlabel.cli.output import echo, echo_json
from recamlabel.core.progress import duration, say
from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.data.changed import ChangedImage, changed_at_a_glance
from recamlabel.errors import StoreError
from recamlabel.run.review_record import BEFORE, is_unfinished
from recamlabel.run.status import seconds_to_redo, stage_rows
from recamlabel.run.summary import summary_lines
from recamlabel.storage.places import placed
from recamlabel.storage.run_folder import RunFolder

WIDTH = 80


@click.command()
@run_argument
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, on standard output; with the stages' keys.")
def status(run: Path, as_json: bool) -> None:
    """Which stages of RUN are finished, when, how long they took, what they say, and what comes next.

    A stage is outdated where it, or one below it, was made with other settings, images, labels or files than the run
    has now; the line below it says which. It is current again back at what it was made with. What `recamlabel fit`
    would do again is named, with the time that it took. Mask PNGs that were deleted or changed by hand are named, so
    are photographs that are not those that the masks were made from, and a `fit --with-review` that was stopped.
    """
    from recamlabel.masks.pngs import check_pngs

    folder = RunFolder.open(run)
    stages = stage_rows(folder)
    rows = [row.to_json() for row in stages]
    damage, changes, not_read = check_pngs(folder), *_changed_photographs(folder)
    for row in rows:
        if damage and row["stage"] == "masks":
            row |= {"state": "incomplete", "png_missing": list(damage.missing), "png_changed": list(damage.changed)}
    if as_json:
        tree = {
            "run": str(run),
            "dataset": folder.state.dataset,
            "stages": rows,
            "changed_photographs": [{"id": one.id, "path": str(one.path), "kind": one.kind} for one in changes],
            "photographs_not_read": not_read,
            "review_unfinished": is_unfinished(folder),
            "summary": summary_lines(folder),
        }
        echo_json(tree)
        return
    fix = (
        [f"masks: {damage}; `recamlabel masks {run}` writes them again (every command reads masks.h5)"]
        if damage
        else []
    )
    again = [row.stage for row in stages if row.redone and row.state != "not run"]
    redo = [f"fit redoes {', '.join(again)}, which took {duration(seconds_to_redo(stages))}"] if again else []
    notes = [*redo, *_unfinished(folder), *fix, *_photographs(changes, not_read)]
    for line in (*_head(folder), *_table(rows), *notes, *summary_lines(folder)):
        # A long reason goes on below its own beginning; paths and commands stay whole, to be copied.
        echo(
            "\n".join(wrap(line, WIDTH, subsequent_indent=" " * 10, break_long_words=False, break_on_hyphens=False))
            or ""
        )


def _changed_photographs(run: RunFolder) -> tuple[list[ChangedImage], int]:
    """As :func:`changed_at_a_glance`; nothing where the run has no masks that they could belie."""
    if "masks" not in run.state.stages or not placed(run.path / CATALOG_FILE).is_file():
        return [], 0
    try:
        return changed_at_a_glance(load_catalog(run.path / CATALOG_FILE))
    except StoreError as error:
        say(f"warning: {error}")
        return [], 0


def _photographs(changes: list[ChangedImage], not_read: int) -> Iterator[str]:
    from recamlabel.review.page.photographs import changed_line

    if changes:
        yield f"warning: {changed_line(changes)}"
    if not_read:
        have = "image file has" if not_read == 1 else "image files have"
        yield (
            f"{not_read} more {have} another time than when the masks were made; not read here, `recamlabel report` "
            "reads them all"
        )


def _unfinished(run: RunFolder) -> Iterator[str]:
    if is_unfinished(run):
        yield (
            f"fit --with-review was stopped before its end: `recamlabel fit {run.path} --with-review` goes on with it; "
            f"the masks before it are in {run.path / BEFORE}"
        )


def _head(run: RunFolder) -> Iterator[str]:
    data = run.state.dataset
    yield f"{run.path}: {data['images']} images, {len(data['classes'])} classes" if data else str(run.path)
    if data:
        yield f"from {data['source']}"


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Lines of at most 80 characters, but for the reason of an outdated stage, which has a line of its own.

    Example:
        >>> row = {"stage": "maps", "state": "finished", "seconds": 61.25, "finished": "2026-11-24T14:53:21+00:00"}
        >>> print("\\n".join(_table([{**row, "because": ""}])))
        stage         state       seconds  finished (UTC)
        maps          finished       61.2  2026-11-24 14:53
    """
    yield f"{'stage':<14}{'state':<10}{'seconds':>9}  finished (UTC)"
    for row in rows:
        seconds = f"{row['seconds']:.1f}" if "seconds" in row else ""
        finished = str(row.get("finished", ""))[:16].replace("T", " ")
        yield f"{row['stage']:<14}{row['state']:<10}{seconds:>9}  {finished}".rstrip()
        if row["because"]:
            yield f"  {row['because']}"
