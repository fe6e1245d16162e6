"""``recamlabel demo``: draw a small data set, run everything on it, show the scores."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recamlabel.cli.output import echo
from recamlabel.config import Config, load_config
from recamlabel.core.progress import say
from recamlabel.demo.scenes import SceneFolder, SceneSettings, make_scenes
from recamlabel.errors import StoreError
from recamlabel.storage.atomic import is_empty, write_text
from recamlabel.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from recamlabel.evaluation.evaluate import EvaluationResult

MARKER = "demo.json"
# Schedule and sizes for some 120 small drawings: they are learnt in a fraction of what photographs need.
DEMO_SETTINGS: dict[str, Any] = {
    "augment.resize_min": 144,
    "augment.resize_max": 224,
    "augment.crop_size": 160,
    "classifier.epochs": 8,
    "classifier.min_steps": 60,
    "recam.epochs": 8,
    "recam.min_steps": 60,
    "maps.scales": [1.0, 0.5, 1.5],
    "probe.fine_sides": [],
    "segmenter.epochs": 4,
    "segmenter.min_steps": 40,
    # Forty steps are too few to learn from ImageNet's features, and from mixed crops.
    "segmenter.encoder_weights": "classifier",
    "segmenter.cutmix": 0.0,
    "segmenter.predict.scales": [1.0],
}


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("recamlabel-demo"),
    show_default=True,
    metavar="DIR",
    help="Folder for everything the demo makes: new, empty, or an earlier demo, which continues.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the drawings and the training."
)
@click.option("--images", type=click.IntRange(120, 5000), default=120, show_default=True, help="Scenes to draw.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda:N", help="Where the networks run.")
def demo(out: Path, seed: int, images: int, device: str) -> None:
    """Draw a small data set, turn its image labels into masks, and compare them with the exact ones.

    DIR/data is the data set (images and labels.csv), DIR/truth its exact masks, which only the
    evaluation reads, DIR/run the run with its report.html. On two CPU cores it takes some minutes.
    The same command continues after an interruption.

    \b
    Example:
      recamlabel demo --out /tmp/demo
    """
    scenes = prepare(out, SceneSettings(images=images, seed=seed))
    # Imported late: torch takes seconds, and a wrong option should not.
    from recamlabel.evaluation.evaluate import evaluate_run, record
    from recamlabel.evaluation.scoring import STAGE_OF, WHAT
    from recamlabel.review.page.report import write_report
    from recamlabel.run.fit import fit

    run = fit(scenes.labels, out / "run", demo_config(seed, device))
    with run.lock():
        made = [what for what in WHAT if what != "reviewed" and STAGE_OF[what] in run.state.stages]
        results = [evaluate_run(run, scenes.truth, what) for what in made]
        for result in results:
            record(run, result)
    page = write_report(run, scenes.truth)
    _show(run, results, page, scenes)


def demo_config(seed: int, device: str = "auto") -> Config:
    """Preset ``quick`` with the demo's schedule."""
    return load_config("quick", overrides={**DEMO_SETTINGS, "seed": seed, "runtime.device": device})


def prepare(out: Path, settings: SceneSettings) -> SceneFolder:
    """Draw the scenes into ``out``, or find those of an earlier call.

    Raises:
        StoreError: ``out`` is a file, holds something else, or a demo with other settings.
    """
    marker = out / MARKER
    wanted = json.loads(json.dumps(asdict(settings)))
    if marker.is_file():
        _check_settings(marker, wanted)
    elif out.exists() and not (out.is_dir() and is_empty(out)):
        found = "a folder with something else in it" if out.is_dir() else "a file"
        raise StoreError(f"{out}: {found} (no {MARKER}); nothing was written. Give --out a new or empty folder")
    else:
        # The marker comes first: a demo that is killed while it draws is still known as one.
        write_text(marker, json.dumps({"made_by": "recamlabel demo", "scenes": wanted}, indent=2))
    scenes = SceneFolder(out)
    if scenes.labels.exists():
        say(f"scenes: {scenes.labels.parent} is there, not drawn again")
        return scenes
    return make_scenes(out, settings)


def _check_settings(marker: Path, wanted: dict[str, Any]) -> None:
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))["scenes"]
        changed = [key for key in wanted if found.get(key) != wanted[key]]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StoreError(f"{marker}: damaged; delete {marker.parent} or give --out a new folder") from None
    if changed:
        differences = ", ".join(f"{key} {found.get(key)} (asked for: {wanted[key]})" for key in changed)
        raise StoreError(
            f"{marker.parent}: a demo with other settings: {differences}; give --out a new folder for the new ones"
        )


def _show(run: RunFolder, results: list[EvaluationResult], page: Path, scenes: SceneFolder) -> None:
    from rich.console import Console
    from rich.table import Table

    from recamlabel.cli.evaluate import shown

    table = Table(title=f"{results[0].images} drawn scenes against their exact masks", title_justify="left")
    table.add_column("what")
    for name in ("mIoU %", "pixel accuracy %", "threshold"):
        table.add_column(name, justify="right")
    table.add_column("threshold is")
    for result in results:
        threshold = "–" if result.threshold is None else f"{result.threshold:.2f}"
        row = (shown(result.scores.miou), shown(result.scores.pixel_accuracy), threshold, result.threshold_origin)
        table.add_row(result.what, *row)
    Console().print(table)
    echo(f"data set: {scenes.labels}\nmasks:    {run.path / 'masks'}\nreport:   {page}")
