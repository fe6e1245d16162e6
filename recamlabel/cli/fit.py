"""``recamlabel fit``: the main job."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recamlabel.cli.options import coco_option, settings_options
from recamlabel.cli.output import echo, echo_json
from recamlabel.config import load_config
from recamlabel.core.ranks import place
from recamlabel.run.summary import summary_lines
from recamlabel.storage.run_folder import RunFolder, is_run

if TYPE_CHECKING:
    from recamlabel.run.fit import Hooks
    from recamlabel.run.redo import Redo


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Run folder: new, empty, or an earlier run, which continues. Without it SOURCE is a run.",
)
@click.option(
    "--with-review",
    is_flag=True,
    help="SOURCE is a finished run: its stages again, with the masks that a reviewer accepted or painted.",
)
@click.option("--dry-run", is_flag=True, help="Say which stages would run and which settings differ; write nothing.")
@click.option("--yes", is_flag=True, help="Do finished stages again without asking, on a terminal too.")
@click.option("--json", "as_json", is_flag=True, help="Print what came of it as JSON, on standard output.")
@settings_options
@coco_option
@click.option("--weights", metavar="FILE", help="Backbone weights from a file (.safetensors or .pth).")
@click.option(
    "--saliency",
    metavar="DIR",
    help="Maps of a saliency network, as evidence of what is background: DIR/<image id>.png, or an HDF5 file.",
)
@click.option(
    "--sam",
    metavar="DIR",
    help="Regions take SAM's outlines where these agree with the maps: DIR/encoder.onnx and DIR/decoder.onnx.",
)
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
    dry_run: bool,
    yes: bool,
    as_json: bool,
    preset: str,
    config_file: Path | None,
    assignments: tuple[str, ...],
    adapter: str | None,
    coco_exhaustive: bool | None,
    weights: str | None,
    saliency: str | None,
    sam: str | None,
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
    Without --out it is an earlier run, which goes on with its own source and settings; --set changes some.

    `recamlabel stages` lists the stages, with what each reads and makes; its --set shows what a setting adds or
    leaves out. The gate judges the labels without any mask, and names the classes whose masks deserve no trust.
    Each stage is skipped while nothing it depends on has changed, so the same command continues after an
    interruption, and a changed setting redoes just what depends on it. Before a finished stage is done again, it
    says which settings differ, and asks on a terminal. Masks land in RUN/masks and RUN/masks.h5, a page to look at
    in RUN/report.html, as soon as there are masks.

    Several processes, on as many GPUs or on the cores of a CPU, are started by PyTorch's torchrun (docs/scale.md).

    \b
    Examples:
      recamlabel fit photos/labels.csv --out runs/first
      recamlabel fit photos --out runs/first --set masks.threshold=0.4 --dry-run
      recamlabel fit runs/first
      recamlabel fit runs/first --with-review
      torchrun --nproc-per-node 2 -m recamlabel fit photos --out runs/first
    """
    overrides = {
        "backbone.weights": weights,
        "refine.saliency": saliency,
        "refine.snap": "sam" if sam else None,
        "refine.sam": sam,
        "runtime.device": device,
        "seed": seed,
        "rounds": rounds,
        "data.on_bad_image": on_bad_image,
        "data.coco_exhaustive": coco_exhaustive,
        "data.adapter": adapter,
        "runtime.force": force or None,
    }
    given = {key: value for key, value in overrides.items() if value is not None}
    hooks, finish = partial(_hooks, yes, as_json), partial(_finish, as_json=as_json)
    if with_review or (out is None and is_run(source)):
        _refuse_beside_own_settings(out)
        _go_on(source, assignments, given, with_review, None if dry_run else hooks, finish)
        return
    if is_run(source):
        raise click.UsageError(
            f"--out: {source} is a run, which goes on with `recamlabel fit {source}`; for another run give the labels "
            "as SOURCE"
        )
    if out is None:
        if not source.exists() and ":" not in str(source):
            raise click.UsageError(f"{source}: no such file or folder; and --out is missing, the folder for the run")
        raise click.UsageError("Missing option '--out'. (Without it SOURCE is an earlier run, and this is none.)")
    config = load_config(preset, config_file, assignments, given)
    # Imported late: torch takes seconds, and a wrong option should not.
    from recamlabel.run import fit as engine

    if dry_run:
        if place().rank == 0:
            _show(engine.preview(source, out, config))
    else:
        finish(engine.fit(source, out, config, hooks=hooks()))


def _refuse_beside_own_settings(out: Path | None) -> None:
    """What would be dropped in silence where a run goes on with its own source and settings."""
    if out is not None:
        raise click.UsageError("--out: not with --with-review, which works in the run that is given as SOURCE")
    context = click.get_current_context()
    for name, option in (("preset", "--preset"), ("config_file", "--config")):
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError(
                f"{option}: the run given as SOURCE has its own settings; change single ones with --set, "
                "or give the labels as SOURCE and the run as --out"
            )


def _go_on(
    path: Path,
    assignments: tuple[str, ...],
    changes: Mapping[str, Any],
    with_review: bool,
    hooks: Callable[[], Hooks] | None,
    finish: Callable[[RunFolder], None],
) -> None:
    """A run with its own settings; without hooks nothing but what would be done is said."""
    from recamlabel.run import fit as engine
    from recamlabel.run import review_round

    if hooks is None:
        review = {"review.use": True} if with_review else {}
        source, config = review_round.own_settings(path, assignments, {**changes, **review})
        if place().rank == 0:
            _show(engine.preview(source, path, config))
    elif with_review:
        # What is decided is to be used: that much is no surprise, other settings are said.
        finish(review_round.fit_with_review(path, assignments, changes, replace(hooks(), agree=lambda: True)))
    else:
        finish(review_round.fit_again(path, assignments, changes, hooks()))


def _hooks(yes: bool, as_json: bool) -> Hooks:
    from recamlabel.review.page.report import REPORT_FILE, write_report
    from recamlabel.run.fit import Hooks

    def masks_made(run: RunFolder) -> None:
        echo(f"a first look: {write_report(run)}", err=as_json)

    def agree() -> bool:
        if yes or not (sys.stdin.isatty() and sys.stdout.isatty()):
            return True
        return click.confirm("Go on?", default=False, err=True)

    return Hooks(agree, masks_made, REPORT_FILE)


def _show(redo: Redo) -> None:
    for line in redo.lines():
        echo(line)
    echo(f"to run: {', '.join(redo.to_run) or 'nothing'}")
    echo(f"up to date: {', '.join(redo.current) or 'nothing'}")


def _finish(run: RunFolder, as_json: bool) -> None:
    if place().rank > 0:
        return
    from recamlabel.review.page.report import write_report
    from recamlabel.review.page.rounds_pages import write_round_pages

    write_round_pages(run)
    page = write_report(run)
    if as_json:
        tree = {"run": run.path, "masks": run.path / "masks", "masks_h5": run.path / "masks.h5", "report": page}
        shown: dict[str, object] = {name: str(path) for name, path in tree.items()}
        lines = (line.partition(":") for line in summary_lines(run))
        echo_json({**shown, **{name: text.strip() for name, _, text in lines}})
        return
    echo(f"masks:  {run.path / 'masks'} and {run.path / 'masks.h5'}")
    echo(f"report: {page}")
    for line in summary_lines(run):
        echo(line)
