"""``recamlabel check``: read all labels, decode all images, say what is there and what is wrong."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from recamlabel.cli.options import coco_option, resolve_settings, settings_options
from recamlabel.cli.output import echo_json, plain
from recamlabel.data.table import Spread, Summary
from recamlabel.run.check import CheckReport, examine
from recamlabel.storage.remote import shown

_MAX_ROWS = 100
_STYLES = {"problem": "red", "note": "yellow", "warning": "yellow", "fit would refuse": "bold red"}
# Names of label files that say nothing of the data set.
_USUAL_STEMS = frozenset({"labels", "label", "data", "annotations", "metadata"})


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

    Prints what is there, every problem with file and row, what the labels do not allow to be learnt
    (classes in every image or in none, always together, or with few images), and the command to type
    next. Nothing is written, but for images inside the files of a Hugging Face data set
    (data.image_cache says where). The exit code is 1 if `recamlabel fit` would refuse the data set with
    the same settings, else 0.
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
        echo_json(report.as_dict())
    else:
        options: dict[str, object] = {"--adapter": adapter, "--on-bad-image": on_bad_image, "--config": config_file}
        options["--preset"] = preset if preset != "quick" else None
        step = _next_step(source, assignments, options, coco_exhaustive)
        _show(report, Console(highlight=False), step)
    context.exit(0 if report.ok else 1)


def _show(report: CheckReport, console: Console, next_step: str) -> None:
    for note in (shown(report.dataset.root), *report.dataset.notes):
        console.print(plain(note), soft_wrap=True)
    console.print(_overview(report.summary))
    console.print(_classes(report.summary))
    hidden = len(report.summary.classes) - _MAX_ROWS
    if hidden > 0:
        console.print(f"… and {hidden} more classes; --json lists all")
    for kind, text in report.findings():
        console.print(plain(f"{kind}: {text}", _STYLES[kind]), soft_wrap=True)
    if report.ok:
        count = len(report.warnings)
        but = f", with {count} warning{'s' if count > 1 else ''} (above)" if count else ""
        console.print(plain(f"fit would accept this data set{but}", "yellow" if count else "green"))
        console.print(plain(f"next: {next_step}"), soft_wrap=True)


def _next_step(
    source: Path, assignments: Sequence[str], options: Mapping[str, object], coco_exhaustive: bool | None
) -> str:
    """The command to type after this one, with the same settings."""
    name = source.resolve().name
    if source.is_file():
        name = source.resolve().parent.name if source.stem.casefold() in _USUAL_STEMS else source.stem
    words = ["recamlabel", "fit", shown(source), "--out", f"runs/{re.sub(r'[^A-Za-z0-9._-]+', '-', name) or 'first'}"]
    for option, value in options.items():
        words += [option, str(value)] if value is not None else []
    if coco_exhaustive is not None:
        words.append("--coco-exhaustive" if coco_exhaustive else "--no-coco-exhaustive")
    for assignment in assignments:
        words += ["--set", assignment]
    return shlex.join(words)


def _overview(summary: Summary) -> Table:
    table = Table(show_header=False)
    table.add_row("images", str(summary.images))
    for split, number in summary.splits.items():
        table.add_row(plain(f"  split {split}" if split else "  in no split"), str(number))
    table.add_row("images without a label", str(summary.unlabelled))
    table.add_row("classes", str(len(summary.classes)))
    table.add_row("classes without an image", plain(", ".join(summary.without_positives) or "none"))
    table.add_row("classes that never occur alone", plain(", ".join(summary.never_alone) or "none"))
    table.add_row("width, pixels", _spread(summary.widths))
    table.add_row("height, pixels", _spread(summary.heights))
    return table


def _classes(summary: Summary) -> Table:
    table = Table("id", "class", "present", "absent", "unknown", "alone")
    for column in (0, 2, 3, 4, 5):
        table.columns[column].justify = "right"
    for number, row in enumerate(summary.classes[:_MAX_ROWS], start=1):
        table.add_row(str(number), plain(row.name), *map(str, (row.present, row.absent, row.unknown, row.alone)))
    return table


def _spread(spread: Spread | None) -> str:
    return "none decoded" if spread is None else f"{spread.min} to {spread.max}, median {spread.median}"
