"""``recamlabel label``: masks of new images, by their labels where they have some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from recamlabel.adapters import ADAPTERS
from recamlabel.cli.output import echo


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--run", required=True, type=click.Path(path_type=Path), metavar="RUN", help="A finished run; only read.")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="New or empty folder, or that of the same command before, which continues.",
)
@click.option(
    "--labels/--no-labels",
    default=None,
    help="SOURCE is a data set with labels, or images alone.  [default: as an adapter takes it]",
)
@click.option(
    "--engine",
    type=click.Choice(("local", "ray")),
    default="local",
    show_default=True,
    help="This process, or the workers of a Ray cluster (pip install 'recamlabel[cluster]').",
)
@click.option("--ray-address", metavar="HOST:PORT", help="A cluster that runs.  [default: one of this machine's own]")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=None,
    help="Ray: actors, each with one core. Local: processes that refine.  [default: one a core]",
)
@click.option(
    "--format",
    type=click.Choice(("h5", "png")),
    default="h5",
    show_default=True,
    help="Masks in one HDF5 file a shard, or a PNG an image.",
)
@click.option(
    "--shard-images", type=click.IntRange(min=1), default=256, show_default=True, help="Images that are done at a time."
)
@click.option("--adapter", metavar="NAME", help=f"Label format instead of detecting it: {', '.join(ADAPTERS)}.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="data.KEY=VALUE",
    help="How the labels are read; for the run's own source as the run did. All else is the run's.",
)
@click.option(
    "--on-bad-image",
    type=click.Choice(("stop", "skip")),
    default="stop",
    show_default=True,
    help="Stop at an unreadable image, or name it in the manifest and go on.",
)
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda:N", help="Where the networks run.")
def label(run: Path, source: Path, out: Path, **options: Any) -> None:
    """Make masks of the images of SOURCE with what RUN has learnt.

    With labels (any format that fit reads) each mask comes by the run's whole chain: class maps, probe, refinement,
    background level and quality, restricted to the image's labels. Without, by the run's segmenter. Nothing is trained.

    Writes DIR/shards/NNNNNN.h5 (or DIR/masks/<image>.png), DIR/manifest.parquet with a row an image (id, path, size,
    hash, labels, quality, shares of the classes, key of the stage that made the mask) and DIR/classes.txt. A shard is
    there whole or not at all: after an interruption the same command does the rest.

    \b
    Examples:
      recamlabel label new/labels.csv --run runs/one --out new-masks
      recamlabel label new-photos --run runs/one --out new-masks --no-labels --format png
      recamlabel label s3://bucket/new --run runs/one --out new-masks --engine ray --workers 8
    """
    # Imported late: torch takes seconds, and a wrong option should not.
    from recamlabel.run.label.shards import MANIFEST
    from recamlabel.run.label.verb import Options
    from recamlabel.run.label.verb import label as run_label

    done = run_label(run, source, out, Options(**options))
    echo(
        f"masks: {done.masks} of {done.images} images, {'by labels' if done.labelled else 'by the segmenter'}, in {out}"
    )
    echo(f"manifest: {out / MANIFEST}")
