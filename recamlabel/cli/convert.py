"""``recamlabel convert``: labels alone, from any format to another."""

from __future__ import annotations

from pathlib import Path

import click

from recamlabel.adapters import load_dataset, options_from
from recamlabel.adapters.write import WRITERS, write_labels
from recamlabel.cli.options import coco_option, resolve_settings, settings_options
from recamlabel.cli.output import echo
from recamlabel.run.intake import refuse_place

_SHOWN = 10


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--to", "target", required=True, type=click.Choice(list(WRITERS)), help="Format to write.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder to write: new or empty."
)
@settings_options
@coco_option
def convert(
    source: Path,
    target: str,
    out: Path,
    preset: str,
    config_file: Path | None,
    assignments: tuple[str, ...],
    adapter: str | None,
    coco_exhaustive: bool | None,
) -> None:
    """Write the image labels of SOURCE in another format into the folder DIR.

    SOURCE is whatever `recamlabel check` reads. Labels are present, absent or unknown: csv and
    openimages keep all three. COCO has no word for unknown; a note says how many labels that
    concerns. Images stay where they are and are not decoded.

    \b
    Examples:
      recamlabel convert VOC2012 --to csv --out labels
      recamlabel convert fiftyone:photos --to openimages --out labels
    """
    data = resolve_settings(preset, config_file, assignments, adapter, data__coco_exhaustive=coco_exhaustive).data
    dataset = load_dataset(source, data.adapter, options_from(data))
    refuse_place(dataset.root, dataset.adapter, out)
    written = write_labels(dataset, target, out)
    for note in dataset.notes:
        echo(note)
    for problem in dataset.problems[:_SHOWN]:
        echo(f"{'problem' if problem.fatal else 'note'}: {problem}", fg="yellow", err=True)
    if len(dataset.problems) > _SHOWN:
        more = len(dataset.problems) - _SHOWN
        echo(f"… and {more} more; `recamlabel check` lists all", fg="yellow", err=True)
    for note in written.notes:
        echo(f"NOTE: {note}", fg="yellow", bold=True, err=True)
    echo(f"written: {', '.join(str(file) for file in written.files)} ({len(dataset)} images)")
    echo(f"read it back with: {written.command()}")
