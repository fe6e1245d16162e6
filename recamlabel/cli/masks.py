"""``recamlabel masks``: another threshold in seconds."""

from __future__ import annotations

from pathlib import Path

import click

from recamlabel.cli.options import run_argument
from recamlabel.cli.output import echo
from recamlabel.storage.outdated import say_if_outdated


class NumberOr(click.ParamType[float | str | None]):
    """A number from 0 to 1, or one of some words.

    Args:
        words: The words.
    """

    def __init__(self, *words: str) -> None:
        self.words = words
        self.name = "|".join(["0..1", *words])

    def convert(
        self, value: object, parameter: click.Parameter | None, context: click.Context | None
    ) -> float | str | None:
        """The word or the number; anything else is refused."""
        if value is None or value in self.words:
            return None if value is None else str(value)
        try:
            number = float(str(value))
        except ValueError:
            number = -1.0
        if not 0 <= number <= 1:
            words = " or ".join(f"'{word}'" for word in self.words)
            self.fail(f"{value!r}: expected a number from 0 to 1, or {words}", parameter, context)
        return number


@click.command()
@run_argument
@click.option(
    "--threshold",
    type=NumberOr("auto"),
    help="Background level: higher gives smaller objects; auto chooses it without masks.  [default: as the run has it]",
)
@click.option(
    "--ignore",
    type=NumberOr("auto", "none"),
    help="Pixels withheld as 255: where the evidence disagrees (auto), none, or the least supported share.  "
    "[default: as the run has it]",
)
def masks(run: Path, threshold: float | str | None, ignore: float | str | None) -> None:
    """Render all masks of RUN again at another background level.

    Reads the stored scores; no network runs. The choice is kept in RUN/run.toml. A segmenter that was
    trained on the masks as they were is outdated then, but stays: the earlier setting makes it current again,
    and the next `recamlabel fit` at the new one trains it again.

    Without an option it writes the PNG files of RUN/masks again that were deleted or changed by hand; what
    was changed is kept in RUN/masks-by-hand.

    \b
    Example:
      recamlabel masks runs/one --threshold 0.5 --ignore none
    """
    from recamlabel.masks.pngs import fix_pngs
    from recamlabel.run.fit import render
    from recamlabel.storage.run_folder import RunFolder

    if threshold is None and ignore is None:
        folder = RunFolder.open(run)
        with folder.lock():
            damage = fix_pngs(folder)
        if damage:
            count = len(damage.missing) + len(damage.changed)
            echo(f"masks: {count} PNG file{'s' if count > 1 else ''} written again in {run / 'masks'}")
            return
        if folder.stage_state("masks") == "finished":
            raise click.UsageError(
                "nothing to change, and every PNG file is as it was made; give --threshold, --ignore or both"
            )
    folder = render(run, threshold, ignore)
    used = folder.state.stages["masks"]["threshold"]
    echo(f"masks: {run / 'masks'} and {run / 'masks.h5'} at threshold {used:g}")
    say_if_outdated(folder, "segmenter")
