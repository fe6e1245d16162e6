"""``recamlabel fit``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from recamlabel.cli.options import coco_option, resolve_settings, settings_options
from recamlabel.workspace import RunFolder


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Run folder: new, empty, or an earlier run, which continues.",
)
@click.option(
    "--with-review",
    is_flag=True,
    help="SOURCE is a finished run: its stages again, with the masks that a reviewer accepted or painted.",
)
@settings_options
@coco_option
@click.option("--weights", metavar="FILE", help="Backbone weights from a file (.safetensors or .pth).")
@click.option("--device", default=None, metavar="auto|cpu|cuda:N", help="Where the networks run.  [default: auto]")
@click.option("--seed", type=click.IntRange(min=0), default=None, help="Seed of everything random.  [default: 0]")
@click.option(
    "--rounds",
    type=click.IntRange(1, 5),
    default=None,
    help="Rounds of masks and segmenter: later ones start from the segmenter before, and the best round by a "
    "criterion that sees no mask is kept.  [default: 1]",
)
@click.option(
    "--on-bad-image",
    type=click.Choice(["stop", "skip"]),
    default=None,
    help="Stop at an unreadable image, or leave it out and list it.  [default: stop]",
)
@click.option(
    "--force", is_flag=True, help="Go on where training was found to be useless; results are marked (runtime.force)."
)
def fit(
    source: Path,
    out: Path | None,
    with_review: bool,
    preset: str,
    config_file: Path | None,
    assignments: tuple[str, ...],
    adapter: str | None,
    coco_exhaustive: bool | None,
    weights: str | None,
    device: str | None,
    seed: int | None,
    rounds: int | None,
    on_bad_image: str | None,
    force: bool,
) -> None:
    """Turn the image labels of SOURCE into pixel masks in the folder RUN.

    SOURCE is a CSV file, a folder with labels.csv, a folder with one sub-folder per class, a data
    set of PASCAL VOC, COCO, Open Images, YOLO or Hugging Face, a .json file of mmpretrain or
    FiftyOne, or fiftyone:NAME or huggingface:NAME; `recamlabel check SOURCE` says what it takes it for.

    The stages are gate, classifier, recam, maps, refine, calibration, masks, segmenter, segmentation and quality;
    cams comes before recam where maps.variant is not cam, affinity and edges before refine where
    refine.method has a random walk; segmenter.enabled=false leaves the segmenter out. The gate judges
    the labels without any mask, and names the classes whose masks deserve no trust. Each stage is
    skipped while nothing it depends on has changed, so the same command continues after an
    interruption, and a changed setting redoes just what depends on it. Masks land in RUN/masks and
    RUN/masks.h5, a page to look at in RUN/report.html.

    \b
    Examples:
      recamlabel fit photos/labels.csv --out runs/first
      recamlabel fit photos --out runs/first --set masks.threshold=0.4
      recamlabel fit runs/first --with-review
    """
    if with_review:
        _refuse_beside_review(out)
        changes = {"runtime.device": device, "runtime.force": force or None, "rounds": rounds, "seed": seed}
        _next_round(source, assignments, {key: value for key, value in changes.items() if value is not None})
        return
    if out is None:
        raise click.UsageError("Missing option '--out'.")
    config = resolve_settings(
        preset,
        config_file,
        assignments,
        adapter,
        backbone__weights=weights,
        runtime__device=device,
        seed=seed,
        rounds=rounds,
        data__on_bad_image=on_bad_image,
        data__coco_exhaustive=coco_exhaustive,
        runtime__force=force or None,
    )
    # Imported late: torch takes seconds, and a wrong option should not.
    from recamlabel.pipeline import fit as run_fit

    _finish(run_fit(source, out, config))


def _refuse_beside_review(out: Path | None) -> None:
    if out is not None:
        raise click.UsageError("--out: not with --with-review, which works in the run that is given as SOURCE")


def _next_round(path: Path, assignments: tuple[str, ...], changes: dict[str, Any]) -> None:
    from recamlabel.next_round import fit_with_review

    _finish(fit_with_review(path, assignments, changes))


def _finish(run: RunFolder) -> None:
    from recamlabel.review.report import write_report
    from recamlabel.review.rounds_pages import write_round_pages

    write_round_pages(run)
    page = write_report(run)
    click.echo(f"masks:  {run.path / 'masks'} and {run.path / 'masks.h5'}")
    click.echo(f"report: {page}")
