"""``recamlabel report``: the page about a run."""

from __future__ import annotations

from pathlib import Path

import click

from recamlabel.cli.options import run_argument, truth_classes_option, truth_option
from recamlabel.cli.output import echo
from recamlabel.review.page.gallery import SIDE
from recamlabel.review.page.report import LARGEST_SIDE, LEAST_SIDE, PAGE_IMAGES, write_report
from recamlabel.storage.run_folder import RunFolder


class CountOrAll(click.ParamType[int | None]):
    """A number from 1, or ``all``, which becomes None."""

    name = "number or all"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """The number, or None. Fails for anything else."""
        text = str(value)
        if text != "all" and not (text.isdecimal() and int(text) >= 1):
            self.fail(f"{value!r}: expected a number from 1, or all", param, ctx)
        return None if text == "all" else int(text)


@click.command()
@run_argument
@truth_option("Folder of true index masks, to show them beside the masks made.")
@truth_classes_option
@click.option(
    "--images",
    default=str(PAGE_IMAGES),
    show_default=True,
    metavar="N|all",
    type=CountOrAll(),
    help=f"Images to show, the most doubtful masks first; report-2.html, … hold those above {PAGE_IMAGES}.",
)
@click.option(
    "--side",
    default=SIDE,
    show_default=True,
    metavar="PIXELS",
    type=click.IntRange(LEAST_SIDE, LARGEST_SIDE),
    help="Longer side of the photographs in the page. The editor shows the image file itself, at full size, where it "
    "finds it.",
)
def report(run: Path, truth: Path | None, truth_classes: Path | None, images: int | None, side: int) -> None:
    """Write RUN/report.html: a page to review and repair the masks on, with scores, curves and settings.

    The page works from the disk and needs no network. What is accepted, rejected, painted or noted on it stays
    in the browser, is downloaded as decisions.json, and comes into the run with `recamlabel review RUN
    --import decisions.json`. Its scores are those that `recamlabel evaluate` has left in RUN/metrics.json.

    \b
    Examples:
      recamlabel report run --truth data/masks
      recamlabel report run --images all
    """
    echo(write_report(RunFolder.open(run), truth, images, truth_classes, side))
