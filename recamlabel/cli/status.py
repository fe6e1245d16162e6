"""``recamlabel status``: what a run holds."""

from __future__ import annotations

import json as json_module
from pathlib import Path

import click

from recamlabel.cli.options import run_argument


@click.command()
@run_argument
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, on standard output.")
def status(run: Path, as_json: bool) -> None:
    """Which stages of RUN are finished, when, and how long they took; mask PNGs that were deleted or changed."""
    from rich.console import Console
    from rich.table import Table

    from recamlabel.masks.pngs import check_pngs
    from recamlabel.workspace import OPTIONAL_STAGES, STAGES, RunFolder

    folder = RunFolder.open(run)
    method = folder.state.config.get("refine", {}).get("method", "")
    rows = [
        {"stage": name, "state": folder.stage_state(name), **folder.state.stages.get(name, {})}
        for name in STAGES
        if name not in OPTIONAL_STAGES or name in folder.state.stages or "random_walk" in method
    ]
    damage = check_pngs(folder)
    for row in rows:
        if damage and row["stage"] == "masks":
            row |= {"state": "incomplete", "png_missing": list(damage.missing), "png_changed": list(damage.changed)}
    if as_json:
        click.echo(
            json_module.dumps(
                {"run": str(run), "dataset": folder.state.dataset, "stages": rows}, indent=2, ensure_ascii=False
            )
        )
        return
    data = folder.state.dataset
    table = Table("stage", "state", "finished", "seconds", "key")
    for row in rows:
        table.add_row(
            row["stage"], row["state"], row.get("finished", ""), str(row.get("seconds", "")), row.get("key", "")
        )
    console = Console()
    console.print(
        f"{run}: {data['images']} images, {len(data['classes'])} classes, from {data['source']}" if data else f"{run}",
        highlight=False,
    )
    console.print(table)
    if damage:
        click.echo(f"masks: {damage}; `recamlabel masks {run}` writes them again (every command reads masks.h5)")
