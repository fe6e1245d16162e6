"""``recamlabel compare``: two runs side by side."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from recamlabel.cli.options import truth_classes_option, truth_option
from recamlabel.cli.output import echo, plain
from recamlabel.core.progress import say
from recamlabel.review.compare.page import MAX_IMAGES, check_page, share_rows, write_comparison
from recamlabel.review.compare.runs import Comparison, compare_runs
from recamlabel.review.page.html import change, percent, short
from recamlabel.storage.run_folder import RunFolder


@click.command()
@click.argument("run_a", type=click.Path(path_type=Path))
@click.argument("run_b", type=click.Path(path_type=Path))
@truth_option("Folder of true index masks: scores both runs over the same images.")
@truth_classes_option
@click.option("--out", metavar="PAGE.html", type=click.Path(path_type=Path), help="Write a page with pictures.")
@click.option(
    "--images",
    default=12,
    show_default=True,
    type=click.IntRange(1, MAX_IMAGES),
    help="Images that are listed and shown, the most changed first.",
)
def compare(
    run_a: Path, run_b: Path, truth: Path | None, truth_classes: Path | None, out: Path | None, images: int
) -> None:
    """What differs between RUN_A and RUN_B: settings, stages, masks and, with --truth, scores.

    Both runs need the same classes; images that one of them lacks are named and left out. Nothing
    is written into the runs. The page is a single file that works from the disk.

    Scores are those of the complete masks (nothing withheld), and of what remains with its coverage:
    the share of the truly labelled pixels that is not withheld. Differences have a 95 % interval, from
    1,000 drawings of the images with replacement, the same for both runs.

    \b
    Example:
      recamlabel compare runs/one runs/two --truth data/masks --out compare.html
    """
    if out is not None:
        check_page(out)
    comparison = compare_runs(RunFolder.open(run_a), RunFolder.open(run_b), truth, truth_classes)
    if comparison.scores is not None and comparison.scores.warning:
        say(f"WARNING: {comparison.scores.warning}")
    for note in comparison.notes():
        say(f"note: {note}")
    console = Console()
    for table in tables(comparison, images):
        console.print(table)
    echo(caption(comparison))
    if out is not None:
        echo(f"page: {write_comparison(comparison, out, images)}")


def tables(comparison: Comparison, images: int) -> Iterable[Table]:
    """The comparison as rich tables: settings and stages, images, classes."""
    differences = [(one.name, one.first, one.second) for one in comparison.settings]
    differences += [(f"key of stage {one.name}", one.first, one.second) for one in comparison.stages]
    if differences:
        settings = _table("Settings and stages that differ", "setting", "A", "B")
        for name, *values in differences:
            settings.add_row(plain(name), *("–" if value is None else plain(short(value)) for value in values))
        yield settings
    changed = [image for image in comparison.images[:images] if image.changed > 0]
    if changed:
        pictures = _table("Images that changed most", "image", numbers=("pixels that differ %", "mIoU of A with B %"))
        for image in changed:
            pictures.add_row(plain(image.id), percent(100 * image.changed), percent(100 * image.miou))
        yield pictures
    yield _classes(comparison)


def _classes(comparison: Comparison) -> Table:
    scores = comparison.scores
    columns = ("pixels A %", "pixels B %", "B − A", *(("IoU A %", "IoU B %") if scores else ()))
    of = "" if scores is None else f"; IoU of {'the complete masks' if scores.complete else 'what remains'}"
    table = _table(f"Classes{of}", "class", numbers=columns)
    rows = list(share_rows(comparison))
    for row in rows:
        iou = (percent(row["iou_first"]), percent(row["iou_second"])) if scores else ()
        shares = percent(row["first"]), percent(row["second"]), change(row["second"] - row["first"])
        table.add_row(plain(row["name"]), *shares, *iou, end_section=bool(scores) and row is rows[-1])
    for measure in scores.measures if scores else ():
        table.add_row(f"[bold]{measure.name}[/bold]", "", "", "", *measure.values.split(" → "))
    return table


def caption(comparison: Comparison) -> str:
    """The comparison in one line; a second one names all scores together."""
    text = (
        f"{len(comparison.images)} images compared, {comparison.equal} with equal masks; "
        f"{percent(100 * comparison.mean_change)} % of the pixels differ in the mean"
    )
    if comparison.scores is None:
        return text
    measures = "; ".join(map(str, comparison.scores.measures))
    return f"{text}\nA → B over {comparison.scores.images} images, in percent: {measures}"


def _table(title: str, first: str, *texts: str, numbers: Iterable[str] = ()) -> Table:
    table = Table(title=title, title_justify="left")
    for name in (first, *texts):
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    return table
