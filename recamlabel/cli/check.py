"""``recamlabel check``: read all labels, decode all images, say what is there and what is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recamlabel.adapters import load_dataset, options_from
from recamlabel.adapters.base import Dataset
from recamlabel.cli.options import coco_option, resolve_settings, settings_options
from recamlabel.config import Config
from recamlabel.data.inspect import (
    inspect_images,
    refusal_reasons,
    training_warnings,
    with_problems,
    without_bad_images,
)
from recamlabel.data.table import Spread, Summary, summarise
from recamlabel.progress import track

_MAX_ROWS = 100


@dataclass(frozen=True)
class Report:
    """All that ``check`` has to say."""

    source: Path
    dataset: Dataset
    summary: Summary
    warnings: Sequence[str]
    refusals: Sequence[str]

    def as_dict(self) -> dict[str, object]:
        """Plain dictionaries, lists and numbers, for JSON."""
        problems = [
            {"file": str(p.file), "row": p.row, "image_id": p.image_id, "fatal": p.fatal, "message": p.message}
            for p in self.dataset.problems
        ]
        return {
            "source": str(self.source),
            "root": str(self.dataset.root),
            "adapter": self.dataset.adapter,
            "notes": list(self.dataset.notes),
            **self.summary.as_dict(),
            "problems": problems,
            "warnings": list(self.warnings),
            "fit_would_refuse": list(self.refusals),
        }


@click.command("check", short_help="Read all labels, decode all images, list every problem.")
@click.argument("source", type=click.Path(path_type=Path))
@settings_options
@coco_option
@click.option("--on-bad-image", type=click.Choice(["stop", "skip"]), default=None, help="As for fit.  [default: stop]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.pass_context
def check(
    context: click.Context,
    source: Path,
    preset: str,
    config_file: Path | None,
    assignments: tuple[str, ...],
    adapter: str | None,
    coco_exhaustive: bool | None,
    on_bad_image: str | None,
    as_json: bool,
) -> None:
    """Read the labels of SOURCE and decode every image.

    SOURCE is a CSV file, a folder with labels.csv, a folder with one sub-folder per class, a data
    set of PASCAL VOC, COCO, Open Images, YOLO or Hugging Face, a .json file of mmpretrain or
    FiftyOne, or fiftyone:NAME or huggingface:NAME.

    Prints what is there and every problem with file and row. Nothing is written, but for images
    inside the files of a Hugging Face data set (data.image_cache says where). The exit code is 1 if `recamlabel fit`
    would refuse the data set with the same settings, else 0.
    """
    config = resolve_settings(
        preset,
        config_file,
        assignments,
        adapter,
        data__on_bad_image=on_bad_image,
        data__coco_exhaustive=coco_exhaustive,
    )
    report = examine(source, config)
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2, ensure_ascii=False))
    else:
        _show(report, Console(highlight=False))
    context.exit(1 if report.refusals else 0)


def examine(source: Path, config: Config) -> Report:
    """Read and decode everything.

    Raises:
        DatasetError: The source cannot be read at all.
    """
    data = config.data
    dataset = load_dataset(source, data.adapter, options_from(data))
    with track("decode", len(dataset)) as advance:
        inspection = inspect_images(dataset, config.runtime.worker_count(), advance)
    dataset = with_problems(dataset, inspection.problems)
    if data.on_bad_image == "skip":
        dataset = without_bad_images(dataset)
    return Report(
        source,
        dataset,
        summarise(dataset, inspection.shapes),
        training_warnings(dataset, data.train_splits),
        refusal_reasons(dataset, data.train_splits),
    )


def _show(report: Report, console: Console) -> None:
    # Names of files and classes go through Text: in a plain string [brackets] would be markup.
    for note in (str(report.dataset.root), *report.dataset.notes):
        console.print(Text(note), soft_wrap=True)
    console.print(_overview(report.summary))
    console.print(_classes(report.summary))
    hidden = len(report.summary.classes) - _MAX_ROWS
    if hidden > 0:
        console.print(f"… and {hidden} more classes; --json lists all")
    for problem in report.dataset.problems:
        style = "red" if problem.fatal else "yellow"
        console.print(Text(f"{'problem' if problem.fatal else 'note'}: {problem}", style), soft_wrap=True)
    for warning in report.warnings:
        console.print(Text(f"warning: {warning}", "yellow"), soft_wrap=True)
    for reason in report.refusals:
        console.print(Text(f"fit would refuse: {reason}", "bold red"), soft_wrap=True)
    if not report.refusals:
        console.print(Text("fit would accept this data set", "green"))


def _overview(summary: Summary) -> Table:
    table = Table(show_header=False)
    table.add_row("images", str(summary.images))
    for split, number in summary.splits.items():
        table.add_row(Text(f"  split {split}" if split else "  in no split"), str(number))
    table.add_row("images without a label", str(summary.unlabelled))
    table.add_row("classes", str(len(summary.classes)))
    table.add_row("classes without an image", Text(", ".join(summary.without_positives) or "none"))
    table.add_row("classes that never occur alone", Text(", ".join(summary.never_alone) or "none"))
    table.add_row("width, pixels", _spread(summary.widths))
    table.add_row("height, pixels", _spread(summary.heights))
    return table


def _classes(summary: Summary) -> Table:
    table = Table("id", "class", "present", "absent", "unknown", "alone")
    for column in (0, 2, 3, 4, 5):
        table.columns[column].justify = "right"
    for number, row in enumerate(summary.classes[:_MAX_ROWS], start=1):
        table.add_row(str(number), Text(row.name), *map(str, (row.present, row.absent, row.unknown, row.alone)))
    return table


def _spread(spread: Spread | None) -> str:
    return "none decoded" if spread is None else f"{spread.min} to {spread.max}, median {spread.median}"
