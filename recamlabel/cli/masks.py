"""``recamlabel masks``: another threshold in seconds."""

from __future__ import annotations

from pathlib import Path

import click

from recamlabel.cli.options import run_argument


@click.command()
@run_argument
@click.option(
    "--threshold", type=click.FloatRange(0, 1), required=True, help="Background level: higher gives smaller objects."
)
def masks(run: Path, threshold: float) -> None:
    """Render all masks of RUN again at another background level.

    Reads the stored scores; no network runs. The threshold is kept in RUN/run.toml.
    """
    from recamlabel.pipeline import render

    render(run, threshold)
    click.echo(f"masks: {run / 'masks'} and {run / 'masks.h5'} at threshold {threshold:g}")
