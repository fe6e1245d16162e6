"""``recamlabel calibrate``: the background level from a few true masks."""

from __future__ import annotations

from pathlib import Path

import click

from recamlabel.cli.options import run_argument, truth_classes_option, truth_option
from recamlabel.cli.output import echo
from recamlabel.core.progress import say
from recamlabel.storage.run_folder import RunFolder


@click.command()
@run_argument
@truth_option("Folder of true index masks (PNG, one class id a pixel), named as the images; a few do.", required=True)
@click.option("--n", "count", type=click.IntRange(min=2), default=20, show_default=True, help="True masks to use.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which ones are drawn.")
@truth_classes_option
@click.option("--dry-run", is_flag=True, help="Say what would be chosen; leave the masks as they are.")
def calibrate(run: Path, truth: Path, count: int, seed: int, truth_classes: Path | None, dry_run: bool) -> None:
    """Choose the background level of RUN with some true masks, and render its masks anew.

    The level has the best mIoU on the drawn images, in the mean over 200 resamples of them; the interval is that
    of the best level in the resamples. Where it is wide, more masks would help. Scores on the very images that
    were used flatter the level a little: `recamlabel evaluate --ids` scores the others. True masks whose ids
    seem to stand for other classes than the run's (the images' labels tell) are refused; --truth-classes
    gives their order.

    \b
    Example:
      recamlabel calibrate runs/one --truth checked --n 20
    """
    # Imported late: torch takes seconds, and a wrong option should not.
    from recamlabel.evaluation.calibration import calibrate_with_truth
    from recamlabel.run.fit import render
    from recamlabel.storage.outdated import say_if_outdated

    folder = RunFolder.open(run)
    before = folder.state.stages.get("masks", {}).get("threshold")
    level = calibrate_with_truth(folder, truth, count, seed, truth_classes)
    if len(level.images) < count:
        say(f"note: {len(level.images)} labelled images have a true mask in {truth}, fewer than the {count} asked for")
    low, high = level.interval
    was = "" if before is None else f" (was {before:g})"
    echo(f"background level {level.threshold:g}{was}: 90 % interval {low:g} to {high:g}, {len(level.images)} masks")
    if dry_run:
        return
    folder = render(run, level.threshold, known=level.to_json())
    say_if_outdated(folder, "segmenter")
    echo(f"masks: {run / 'masks'} and {run / 'masks.h5'}; keep it in later fits with")
    echo(f"  --set masks.threshold={level.threshold:g}")
