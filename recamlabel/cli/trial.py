"""``recamlabel trial``: which way from labels to masks, before hours go into one."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from recamlabel.cli.options import coco_option, resolve_settings, settings_options, truth_classes_option, truth_option
from recamlabel.cli.output import echo, echo_json, plain
from recamlabel.core.progress import say
from recamlabel.errors import DatasetError

if TYPE_CHECKING:
    from recamlabel.adapters.base import Dataset
    from recamlabel.run.trial.ranking import Drawings
    from recamlabel.run.trial.trial import Trial
    from recamlabel.storage.run_folder import RunFolder


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the trial: new, empty, or that of the same trial, which goes on.",
)
@click.option("--images", default=60, show_default=True, type=click.IntRange(min=4), help="Images of the sample.")
@click.option(
    "--minutes",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="No further way is begun that would end later.",
)
@truth_option("Folder of some true index masks: ranks by them, with intervals. About 20 are enough.")
@truth_classes_option
@settings_options
@coco_option
@click.option("--saliency", metavar="DIR", help="Maps of a saliency network, as `fit` takes them: with and without.")
@click.option("--weights", metavar="FILE", help="Backbone weights from a file (.safetensors or .pth).")
@click.option("--json", "as_json", is_flag=True, help="Print what came of it as JSON.")
def trial(
    source: Path,
    out: Path,
    images: int,
    minutes: float,
    truth: Path | None,
    truth_classes: Path | None,
    preset: str,
    config_file: Path | None,
    assignments: tuple[str, ...],
    adapter: str | None,
    coco_exhaustive: bool | None,
    saliency: str | None,
    weights: str | None,
    as_json: bool,
) -> None:
    """Try the cheap ways from the labels of SOURCE to masks on a sample, and say which to use.

    Compared are the settings as they are, re-activated maps alone (and by the paper's product), the classifier's maps
    alone, maps spread along alike patches, distance to normal images where there are enough, and with and without
    saliency maps where they are given. The classifier is trained once, briefly; no segmenter is. Each way's run stays
    in DIR, to be looked at with `recamlabel report` or `compare`.

    Without --truth the ways are ranked by the criterion that chooses background levels, which sees no mask and is a
    weak judge of methods; with a few true masks by mIoU. Images that have one are taken into the sample first.

    \b
    Examples:
      recamlabel trial photos --out trials/first
      recamlabel trial photos --out trials/second --truth twenty-masks --images 40
    """
    config = resolve_settings(
        preset,
        config_file,
        assignments,
        adapter,
        refine__saliency=saliency,
        backbone__weights=weights,
        data__coco_exhaustive=coco_exhaustive,
    )
    words = {"--config": config_file, "--adapter": adapter, "--saliency": saliency, "--weights": weights}
    given = [("--preset", preset)] if preset != "quick" else []
    given += [(name, str(value)) for name, value in words.items() if value is not None]
    given += [("--set", line) for line in assignments]
    options = "".join(f" {name} {shlex.quote(value)}" for name, value in given)
    if coco_exhaustive is not None:
        options += " --coco-exhaustive" if coco_exhaustive else " --no-coco-exhaustive"
    from recamlabel.run.trial.trial import run_trial

    result = run_trial(
        source,
        out,
        config,
        images=images,
        minutes=minutes,
        first=partial(with_masks, truth=truth, truth_classes=truth_classes) if truth else lambda dataset: (),
        score=partial(scored, truth=truth, truth_classes=truth_classes) if truth else None,
        options=options,
    )
    echo_json(result.to_json()) if as_json else show(result)


def with_masks(dataset: Dataset, *, truth: Path, truth_classes: Path | None) -> set[str]:
    """Ids of the images that have a true mask. Raises DatasetError where none has."""
    from recamlabel.evaluation.truth import TruthFolder

    found = set(TruthFolder(truth, dataset.classes, truth_classes).match(image.id for image in dataset.images))
    if not found:
        raise DatasetError(f"{truth}: no mask is named as an image of {dataset.root} is; expected <image id>.png")
    return found


def scored(run: RunFolder, *, truth: Path, truth_classes: Path | None) -> tuple[float, Drawings]:
    """The mIoU of a run's complete masks in [0, 1], and that of the images drawn anew."""
    from recamlabel.evaluation.evaluate import evaluate_run

    result = evaluate_run(run, truth, "complete-masks", truth_classes=truth_classes)
    if result.warning:
        say(f"WARNING: {result.warning}")
    assert result.drawn is not None
    return result.scores.miou, result.drawn


def show(result: Trial) -> None:
    """The ranking as a table, then the advice."""
    table = Table(title=f"Ranked by {result.figure}", title_justify="left")
    table.add_column("way", no_wrap=True)
    table.add_column("changes", overflow="fold")
    for name in ("value", "95 %", "behind, 95 %", "s"):
        table.add_column(name, justify="right")
    percent = result.figure.startswith("mIoU")
    scale, digits = (100, 1) if percent else (1, 2)

    def number(value: float) -> str:
        return f"{scale * value:.{digits}f}"

    for one in result.places:
        way = result.about[one.name]
        low, high = map(number, one.interval)
        behind = "" if one is result.places[0] else " to ".join(map(number, one.behind))
        cells = (way.name, "\n".join(way.settings) or way.about, number(one.value), f"{low} to {high}", behind)
        table.add_row(*map(plain, cells), f"{result.seconds[one.name]:.0f}")
    Console().print(table)
    for name, reason in result.left_out.items():
        echo(f"left out: {name}: {reason}")
    *words, command = result.advice
    for line in words:
        echo(f"{line}.")
    echo(f"next: {command}")
