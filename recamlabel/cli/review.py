"""``recamlabel review``: masks to a reviewer and back."""

from __future__ import annotations

from pathlib import Path

import click

from recamlabel.cli.options import run_argument, truth_classes_option, truth_option
from recamlabel.cli.output import echo
from recamlabel.core.progress import say
from recamlabel.errors import ConfigError
from recamlabel.storage.run_folder import RunFolder


@click.command()
@run_argument
@click.option("--pull", "fetch", is_flag=True, help="Bring the decisions and painted masks back into RUN/review.")
@click.option(
    "--import",
    "imports",
    multiple=True,
    metavar="FILE|DIR",
    type=click.Path(path_type=Path),
    help="Take the decisions.json of the page report.html, or masks that come back from CVAT, Label Studio or a folder "
    "of index PNGs; may be repeated.",
)
@click.option(
    "--take",
    metavar="first|last|FILE",
    help="Where files of --import disagree: whose word counts.  [default: refuse]",
)
@click.option("--name", metavar="NAME", help="Name of the FiftyOne data set.  [default: made of RUN, or the last one]")
@click.option("--export-only", is_flag=True, help="Bring the data set up to date and do not open the App.")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open a browser.")
@click.option("--port", default=5151, show_default=True, type=click.IntRange(1, 65535), help="Port of the App.")
@click.option(
    "--address",
    default="127.0.0.1",
    show_default=True,
    help="Where the App listens. It asks for no password: with another address, others can see and change masks.",
)
@truth_option("Folder of true index masks, to see them beside the masks made.")
@truth_classes_option
@click.option("--device", default="auto", show_default=True, help="Where the classifier runs: auto, cpu or cuda:N.")
def review(
    run: Path,
    fetch: bool,
    imports: tuple[Path, ...],
    take: str | None,
    name: str | None,
    export_only: bool,
    browser: bool,
    port: int,
    address: str,
    truth: Path | None,
    truth_classes: Path | None,
    device: str,
) -> None:
    """Show the masks of RUN in FiftyOne, the most doubtful first, to be accepted, rejected or corrected.

    The first time this makes a data set, later it renews what the run has changed; status, tags,
    notes and painted regions stay as the reviewer left them. In the App, set `review_status` of an image (or give many
    at once the tag accepted, rejected or fix) and paint in `editable`. Ctrl-C ends the App. What
    was decided wins over the masks made: `recamlabel export RUN --what reviewed`.

    --import reads what the page report.html has saved (decisions.json), and masks painted elsewhere: CVAT's export
    (CVAT for images 1.1, or Segmentation mask 1.1), Label Studio's (JSON), or index PNGs named as the images are. Every
    mask in these counts as accepted; what cannot be taken is left out, counted and named.

    \b
    Examples:
      recamlabel review runs/one                          # look, decide, paint
      recamlabel review runs/one --pull                   # bring it back
      recamlabel review runs/one --import decisions.json  # without FiftyOne: from the page report.html
      recamlabel review runs/one --import task.zip        # painted in CVAT
    """
    if fetch and imports:
        raise ConfigError("--pull and --import: give one of the two")
    if take is not None and not imports:
        raise ConfigError("--take is about files of --import; give both")
    folder = RunFolder.open(run)
    if imports:
        _import(folder, imports, take)
    elif fetch:
        _pull(folder, name)
    else:
        _show(folder, name, truth, truth_classes, device, (address, port), browser, export_only)


def _import(folder: RunFolder, files: tuple[Path, ...], take: str | None) -> None:
    from recamlabel.review.decisions.take_in import import_decisions

    with folder.lock():
        result = import_decisions(folder, files, take=take)
    for line in result.lines():
        echo(line)
    if result.recorded:
        echo(f"`recamlabel report {folder.path}` shows what was decided, with pictures")


def _pull(folder: RunFolder, name: str | None) -> None:
    from recamlabel.review.fiftyone.pull import pull
    from recamlabel.review.fiftyone.session import connect

    link = connect(folder, name)
    with folder.lock():
        result = pull(folder, link)
    for line in result.lines():
        echo(line)
    if result.recorded:
        echo(f"`recamlabel report {folder.path}` shows what was decided, with pictures")


def _show(
    folder: RunFolder,
    name: str | None,
    truth: Path | None,
    truth_classes: Path | None,
    device: str,
    place: tuple[str, int],
    browser: bool,
    export_only: bool,
) -> None:
    from recamlabel.review.fiftyone.session import check_port, connect, open_app

    folder.key_of("masks")
    if not export_only:
        check_port(*place)
    link = connect(folder, name)
    from recamlabel.review.fiftyone.export import export_review

    with folder.lock():
        result = export_review(folder, link, truth, truth_classes, device)
    for line in result.lines():
        say(line)
    if export_only:
        return
    session = open_app(link, *place, browser=browser)
    try:
        session.wait(-1)
    except KeyboardInterrupt:
        say("review: ended; `recamlabel review RUN --pull` brings the decisions back")
    finally:
        session.close()
