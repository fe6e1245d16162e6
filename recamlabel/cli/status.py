"""``recamlabel status``: what a run holds."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any

import click

from recamlabel.cli.options import run_argument
from recamlabel.run.summary import summary_lines
from recamlabel.storage.outdated import why_outdated
from recamlabel.storage.run_folder import OPTIONAL_STAGES, STAGES, RunFolder

WIDTH = 80


@click.command()
@run_argument
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, on standard output; with the stages' keys.")
def status(run: Path, as_json: bool) -> None:
    """Which stages of RUN are finished, when, how long they took, what they say, and what comes next.

    Mask PNGs that were deleted or changed by hand are named. A stage is outdated where it was made from masks
    rendered at another setting; it is current again once the masks are rendered at that setting again
    (`recamlabel masks`).
    """
    from recamlabel.masks.pngs import check_pngs

    folder = RunFolder.open(run)
    rows = [
        {
            "stage": name,
            "state": folder.stage_state(name),
            "because": why_outdated(folder, name),
            **folder.state.stages.get(name, {}),
        }
        for name in STAGES
        if name in folder.state.stages or name in _expected(folder)
    ]
    damage = check_pngs(folder)
    for row in rows:
        if damage and row["stage"] == "masks":
            row |= {"state": "incomplete", "png_missing": list(damage.missing), "png_changed": list(damage.changed)}
    if as_json:
        tree = {
            "run": str(run),
            "dataset": folder.state.dataset,
            "stages": rows,
            "summary": summary_lines(folder),
        }
        click.echo(json_module.dumps(tree, indent=2, ensure_ascii=False))
        return
    mend = (
        [f"masks: {damage}; `recamlabel masks {run}` writes them again (every command reads masks.h5)"]
        if damage
        else []
    )
    for line in (*_head(folder), *_table(rows), *mend, *summary_lines(folder)):
        # A long reason goes on below its own beginning; paths and commands stay whole, to be copied.
        click.echo("\n".join(wrap(line, WIDTH, subsequent_indent=" " * 10, break_long_words=False)) or "")


def _head(run: RunFolder) -> Iterator[str]:
    data = run.state.dataset
    yield f"{run.path}: {data['images']} images, {len(data['classes'])} classes" if data else str(run.path)
    if data:
        yield f"from {data['source']}"


def _expected(run: RunFolder) -> set[str]:
    """The stages that the run's settings ask for."""
    config = run.state.config
    wanted = {name for name in STAGES if name not in OPTIONAL_STAGES}
    probe = config.get("probe", {}).get("enabled", False)
    choices = {
        ("cams",): config.get("maps", {}).get("variant", "cam") != "cam",
        ("probe",): probe,
        ("fine",): probe and bool(config.get("probe", {}).get("fine_sides")),
        ("affinity", "edges"): "random_walk" in config.get("refine", {}).get("method", ""),
        ("segmenter", "segmentation"): config.get("segmenter", {}).get("enabled", False),
        ("rounds",): config.get("rounds", 1) > 1,
    }
    return wanted.union(*(names for names, chosen in choices.items() if chosen))


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
