"""``recamlabel evaluate``: score a run against true masks."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from recamlabel.cli.options import run_argument, truth_classes_option, truth_option
from recamlabel.cli.output import echo, echo_json, plain
from recamlabel.core.progress import say
from recamlabel.evaluation.evaluate import EvaluationResult, evaluate_run, record
from recamlabel.evaluation.scoring import WHAT, What, has_complete_masks
from recamlabel.storage.run_folder import RunFolder


@click.command()
@run_argument
@truth_option("Folder of true index masks (PNG, one class id a pixel), named as the images are.", required=True)
@click.option(
    "--what",
    type=click.Choice(WHAT),
    default="masks",
    show_default=True,
    help="The masks as they are, or after review, or the class maps (CAM, ReCAM) at their best background threshold.",
)
@click.option("--split", metavar="NAME", help="Score the images of this split alone.")
@click.option(
    "--ids",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Score the images that this text file names, one id a line, such as ImageSets/Segmentation/val.txt.",
)
@truth_classes_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def evaluate(
    run: Path,
    truth: Path,
    what: What,
    split: str | None,
    ids: Path | None,
    truth_classes: Path | None,
    as_json: bool,
) -> None:
    """Score the masks or seeds of RUN against true masks.

    One confusion matrix over all images, background included; true pixels with the ignore id
    (255) take no part. Prints IoU, precision and recall of every class and the mIoU, and keeps
    the result in RUN/metrics.json. Images without a true mask are left out and counted. Intervals are
    those of 1,000 drawings of the images with replacement. Beside the masks as they are, the complete
    masks (nothing withheld) are scored, where the run's scores are there.

    Seeds are scored at the best of 101 background thresholds. It is chosen with the true masks,
    which nobody has in earnest: compare seeds with seeds, not with masks.

    \b
    Example:
      recamlabel evaluate run --truth data/masks --what cam-seeds --split val
    """
    folder = RunFolder.open(run)
    with folder.lock():
        result = evaluate_run(folder, truth, what, split, truth_classes, ids)
        record(folder, result)
        complete = None
        if what == "masks" and has_complete_masks(folder):
            # Beside each other, for a mask that withholds more or less is not better or worse for that.
            complete = evaluate_run(folder, truth, "complete-masks", split, truth_classes, ids)
            record(folder, complete)
    for note in _notes(result):
        say(note)
    if as_json:
        echo_json(result.to_json())
    else:
        Console().print(result_table(result))
        echo(caption(result))
        if complete is not None:
            echo(f"complete masks, nothing withheld: mIoU {_with_interval(complete, 'miou')}")


def _notes(result: EvaluationResult) -> list[str]:
    notes = [f"WARNING: {result.warning}"] if result.warning else []
    notes += [f"note: {note}" for note in result.notes]
    if result.images_without_truth:
        notes.append(
            f"note: {result.images} images scored, {result.images_without_truth} left out "
            f"because {result.truth} has no mask for them"
        )
    return notes


def result_table(result: EvaluationResult) -> Table:
    """A result as a rich table: one row a class, the mean at the end."""
    where = "all images" if result.split is None else f"split {result.split}"
    table = Table(title=f"{result.what}, {where}: {result.images} images", title_justify="left")
    table.add_column("class", overflow="fold")
    for name in ("IoU %", "precision %", "recall %"):
        table.add_column(name, justify="right")
    scores = result.scores
    last = len(result.classes) - 1
    for index, name in enumerate(result.classes):
        values = (scores.iou[index], scores.precision[index], scores.recall[index])
        table.add_row(plain(name), *(shown(value) for value in values), end_section=index == last)
    table.add_row("[bold]mean IoU[/bold]", f"[bold]{shown(scores.miou)}[/bold]", "", "")
    return table


def caption(result: EvaluationResult) -> str:
    """Threshold, its origin, and how much of the truth was answered."""
    threshold = "threshold unknown" if result.threshold is None else f"threshold {result.threshold:g}"
    text = f"{threshold} ({result.threshold_origin}); pixel accuracy {shown(result.scores.pixel_accuracy)} %"
    if result.scores.coverage < 1:
        text += (
            f"; {shown(result.scores.coverage)} % of the true pixels have a label, "
            f"the others count as missed (mIoU without them: {_with_interval(result, 'miou_covered')})"
        )
    if "miou" in result.intervals:
        text += f"; mIoU {_with_interval(result, 'miou')}"
    return text


def _with_interval(result: EvaluationResult, name: str) -> str:
    """A score in percent, and its interval where there is one."""
    value, ends = shown(getattr(result.scores, name)), result.intervals.get(name)
    return value if ends is None else f"{value}, 95 % interval {shown(ends[0])} to {shown(ends[1])}"


def shown(fraction: float) -> str:
    """A fraction as percent with one decimal, or a dash where there was nothing to measure."""
    return "–" if fraction != fraction else f"{100 * fraction:.1f}"
