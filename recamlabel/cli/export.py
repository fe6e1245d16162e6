"""``recamlabel export``: masks in the formats that trainers and labelling tools read."""

from __future__ import annotations

from pathlib import Path

import click

from recamlabel.cli.options import run_argument
from recamlabel.cli.output import echo
from recamlabel.core.progress import say
from recamlabel.export import (
    BUILT_IN,
    FORMATS,
    IMAGE_MODES,
    INSTANCES,
    ON_CHANGED,
    ONLY,
    SOURCES,
    ExportOptions,
    export_run,
)
from recamlabel.export.base import ImageMode, Instances
from recamlabel.export.selection import OnChanged, Only
from recamlabel.storage.run_folder import RunFolder

_ABOUT = {one.name: one.description for one in BUILT_IN} | dict.fromkeys(FORMATS.others(), "of another package")
_LIST = "\n".join(["\b", "Formats:", *(f"  {name:<12} {about}" for name, about in _ABOUT.items())])


@click.command(epilog=_LIST)
@run_argument
@click.option("--format", "format_name", required=True, metavar="|".join(FORMATS), help="See the list below.")
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="A new or empty folder, outside of the data set and of RUN.",
)
@click.option(
    "--what",
    type=click.Choice(list(SOURCES)),
    help="The masks that fit made, the predictions of a trained segmenter, or the masks after review.  "
    "[default: masks; reviewed with --only accepted or reviewed]",
)
@click.option("--split", "splits", multiple=True, metavar="NAME", help="Export this split alone; may be repeated.")
@click.option(
    "--only",
    type=click.Choice(ONLY),
    default="all",
    show_default=True,
    help="Images whose mask a reviewer accepted or painted, all with a decision but rejected ones, or all.",
)
@click.option(
    "--ids",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Export the images that this text file names, one id a line.",
)
@click.option(
    "--val",
    type=float,
    metavar="SHARE",
    help="Set a share of the images aside as split val, such as 0.2; for data sets without splits.",
)
@click.option(
    "--on-changed",
    type=click.Choice(ON_CHANGED),
    default="stop",
    show_default=True,
    help="Where an image file is not the one that its mask was made from: stop, or leave it out.",
)
@click.option(
    "--images",
    type=click.Choice(IMAGE_MODES),
    help="Link the image files (symbolic, else hard links), copy them, or leave them out.  [default: link; "
    "none for formats without images]",
)
@click.option(
    "--coco-instances",
    type=click.Choice(INSTANCES),
    default="class",
    show_default=True,
    help="coco: one annotation per class of an image, or per connected component.",
)
@click.option(
    "--image-url",
    default=ExportOptions().image_url,
    show_default=True,
    metavar="URL",
    help="labelstudio: what stands before an image's path below the data root.",
)
@click.option(
    "--verify/--no-verify",
    "check",
    default=True,
    show_default=True,
    help="Read the export back before it is put in place: all label files, and the pixels of the first 100 images.",
)
def export(
    run: Path,
    format_name: str,
    out: Path,
    what: str | None,
    splits: tuple[str, ...],
    only: Only,
    ids: Path | None,
    val: float | None,
    on_changed: OnChanged,
    images: ImageMode | None,
    coco_instances: Instances,
    image_url: str,
    check: bool,
) -> None:
    """Write the masks of RUN in a format that a trainer or labelling tool reads.

    The folder appears whole or not at all; nothing else is written, and image files are never
    changed. 0 is background, 255 ignore and 1..K are the classes wherever the format has pixel values.

    A mask that was rejected, or that has no object although the labels name classes, is no sign that
    nothing is in the image: formats of objects (coco, yolo, cvat, labelstudio) leave such images out, formats
    with a value for every pixel (voc, mmseg, huggingface, hdf5) get 255 everywhere. How many is said, and
    recamlabel-export.json names them. Images without any label stay, as true negatives.

    \b
    Examples:
      recamlabel export run --format mmseg --out run-mmseg
      recamlabel export run --format yolo --out run-yolo --only accepted
      recamlabel export run --format coco --coco-instances component --out run-coco --images none
    """
    folder = RunFolder.open(run)
    options = ExportOptions(coco_instances=coco_instances, image_url=image_url)
    with folder.lock(reading=True):
        result = export_run(
            folder,
            format_name,
            out,
            what=what,
            splits=splits,
            only=only,
            ids=ids,
            val=val,
            on_changed=on_changed,
            images=images,
            options=options,
            check=check,
        )
    for note in result.notes:
        say(f"note: {note}")
    for line in result.checks:
        say(f"verified: {line}")
    if not check:
        say("not verified, as asked")
    echo(f"{format_name}: {result.images} images in {result.path}")
