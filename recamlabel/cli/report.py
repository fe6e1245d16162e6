"""``recamlabel report``: the page about a run."""

from __future__ import annotations

from pathlib import Path

import click

from recamlabel.cli.options import run_argument
from recamlabel.review.report import MAX_IMAGES, write_report
from recamlabel.workspace import RunFolder


@click.command()
@run_argument
@click.option(
    "--truth",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder of true index masks, to show them beside the masks made.",
)
@click.option(
    "--truth-classes",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="For true masks with class ids of their own: their class names, one a line, in id order from 1.",
)
@click.option(
    "--images",
    default=24,
    show_default=True,
    type=click.IntRange(1, MAX_IMAGES),
    help="Images in the gallery, at most.",
)
def report(run: Path, truth: Path | None, truth_classes: Path | None, images: int) -> None:
    """Write RUN/report.html: one page with pictures, scores, curves and settings.

    The page is a single file that works from the disk and needs no network. Its scores are those
    that `recamlabel evaluate` has left in RUN/metrics.json.

    \b
    Example:
      recamlabel report run --truth data/masks --images 40
    """
    click.echo(write_report(RunFolder.open(run), truth, images, truth_classes))
