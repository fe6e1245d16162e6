"""``recamlabel predict``: masks of new images, without any label."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from recamlabel.cli.options import run_argument
from recamlabel.cli.output import echo


@click.command()
@run_argument
@click.argument("images", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="New or empty folder for the masks."
)
@click.option(
    "--crf/--no-crf",
    default=None,
    help="Smooth with the dense CRF; default: as the run's masks.",
)
@click.option("--overlays/--no-overlays", default=True, show_default=True, help="Pictures and a page to look at.")
@click.option("--probabilities", is_flag=True, help="Also keep class probabilities, in DIR/probabilities.h5.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda:N", help="Where the network runs.")
def predict(
    run: Path, images: Path, out: Path, crf: bool | None, probabilities: bool, overlays: bool, device: str
) -> None:
    """Label the image, or the folder of images, IMAGES with the segmenter of RUN.

    Writes DIR/masks/<image>.png (index masks of the image's own size, with a palette), DIR/masks.h5, DIR/classes.txt,
    an overlay of every mask in DIR/overlays and the page DIR/index.html to look at them. Scales,
    flips and CRF are those of segmenter.predict.* in the run's settings. A file that is no image stops it
    before any work. Where the masks were rendered again since the segmenter was trained, it says so and goes on.

    \b
    Example:
      recamlabel predict runs/one new-photos --out new-masks
    """
    # Imported late: torch takes seconds, and a wrong option should not.
    from recamlabel.review.predicted import PAGE, PredictionPage
    from recamlabel.run.predict import predict as run_predict

    look = partial(PredictionPage, origin=str(run)) if overlays else None
    count = run_predict(run, images, out, crf=crf, keep_probabilities=probabilities, device=device, look=look)
    echo(f"masks: {count} in {out / 'masks'} and {out / 'masks.h5'}")
    if overlays:
        echo(f"page:  {out / PAGE}")
