"""``recamlabel init``: a label file to fill in."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import click

from recamlabel.adapters.base import IMAGE_SUFFIXES
from recamlabel.adapters.files.listing import images_below
from recamlabel.cli.output import echo
from recamlabel.errors import DatasetError, StoreError
from recamlabel.storage.atomic import replacing

LABELS = "labels.csv"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--classes", metavar="A,B,…", help="One 0/1 column for each of these classes, instead of one of labels.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help=f"Where to write; FOLDER itself is else the place, as FOLDER/{LABELS}.",
)
def init(folder: Path, classes: str | None, out: Path | None) -> None:
    """Write a table of all images in FOLDER, to be filled in with what is in each.

    One row an image. Without --classes the second column takes class names, several with a comma or a blank between
    them; nothing means that nothing is there. With --classes there is a column for each: 1 present, 0 absent,
    blank unknown. Photographs that lie in sub-folders are found too. A file that is there is never written over.

    \b
    Examples:
      recamlabel init photos
      recamlabel init photos --classes scratch,dent --out scratches.csv
    """
    images = _images(folder)
    place = out or folder / LABELS
    names = [name.strip() for name in (classes or "").split(",") if name.strip()]
    if len(set(names)) < len(names):
        raise click.UsageError(f"--classes: a name stands twice in {classes!r}")
    if place.exists():
        raise StoreError(f"{place}: is there already, and is not written over; give --out another name")
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["image", *(names or ["labels"])])
    base = place.parent.resolve()
    for path in images:
        inside = path.resolve().is_relative_to(base)
        writer.writerow(
            [path.resolve().relative_to(base).as_posix() if inside else path.resolve(), *[""] * max(1, len(names))]
        )
    # Whole or not at all: half a table would not be written over either.
    with replacing(place) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
    echo(f"{place}: {len(images)} images; fill it in, in a spreadsheet or an editor, then")
    echo(f"next: recamlabel check {place if out else folder}")


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; expected one with photographs")
    found = images_below(folder)
    if not found:
        raise DatasetError(
            f"{folder}: no photograph in it; expected files such as {', '.join(sorted(IMAGE_SUFFIXES)[:4])}"
        )
    return found
