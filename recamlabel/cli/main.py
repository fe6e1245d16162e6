"""The ``recamlabel`` command: verbs loaded when used, errors as one message and an exit code."""

from __future__ import annotations

import difflib
import errno
import importlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import click

from recamlabel import __version__
from recamlabel.core.printable import printable
from recamlabel.core.ranks import place
from recamlabel.errors import ConfigError, RecamlabelError

COMMANDS = {
    "fit": ("recamlabel.cli.fit:fit", "Image labels to pixel masks: train, map, refine, write masks."),
    "init": ("recamlabel.cli.init:init", "Write a labels.csv to fill in for a folder of photographs."),
    "check": ("recamlabel.cli.check:check", "Read a data set, decode every image, list every problem."),
    "trial": ("recamlabel.cli.trial:trial", "Which way from labels to masks: the cheap ones on a sample, ranked."),
    "convert": ("recamlabel.cli.convert:convert", "Write image labels in another format."),
    "masks": ("recamlabel.cli.masks:masks", "Render the masks of a run again at another threshold."),
    "calibrate": ("recamlabel.cli.calibrate:calibrate", "Choose the background level with a few true masks."),
    "evaluate": ("recamlabel.cli.evaluate:evaluate", "Score seeds or masks against true masks."),
    "predict": ("recamlabel.cli.predict:predict", "Label new images with the segmenter of a run."),
    "label": ("recamlabel.cli.label:label", "Masks of new images by their labels and a run, on many cores."),
    "export-model": ("recamlabel.cli.export_model:export_model", "Write the segmenter as ONNX or TorchScript."),
    "export": ("recamlabel.cli.export:export", "Masks to VOC, MMSegmentation, COCO, YOLO, CVAT and others."),
    "review": ("recamlabel.cli.review:review", "Look at the masks in FiftyOne, correct them, bring that back."),
    "report": ("recamlabel.cli.report:report", "Write the report page of a run again."),
    "compare": ("recamlabel.cli.compare:compare", "What differs between two runs: settings, masks, scores."),
    "status": ("recamlabel.cli.status:status", "Which stages of a run are current, and what fit would redo."),
    "stages": ("recamlabel.cli.stages:stages", "What a run is made of: stages, settings, files."),
    "config": ("recamlabel.cli.config:config", "List every setting with its value and meaning."),
    "doctor": ("recamlabel.cli.doctor:doctor", "What is installed, what is missing, what to install for what."),
    "demo": ("recamlabel.cli.demo:demo", "Draw a small data set and run everything on it."),
}


# What other programs call these verbs.
MEANT = {
    "train": "fit",
    "run": "fit",
    "resume": "fit",
    "continue": "fit",
    "infer": "predict",
    "inference": "predict",
    "segment": "predict",
    "eval": "evaluate",
    "score": "evaluate",
    "val": "evaluate",
    "validate": "check",
    "inspect": "check",
    "import": "review",
    "correct": "review",
    "page": "report",
    "show": "report",
    "open": "report",
    "view": "report",
    "diff": "compare",
    "settings": "config",
    "info": "status",
    "new": "init",
    "try": "trial",
    "benchmark": "trial",
    "version": "--version",
    "help": "--help",
}


class LazyGroup(click.Group):
    """Imports a verb's module when the verb is used, so that ``--help`` is quick; every verb has ``-q`` and ``-v``."""

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb; one that does not exist is refused with the one that may be meant."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name.lower(), [*COMMANDS, *MEANT], 1)
            meant = MEANT.get(name.lower()) or (MEANT.get(near[0], near[0]) if near else "")
            hint = f" Did you mean `recamlabel {meant}`?" if meant else ""
            context.fail(f"No such command {name!r}.{hint}")
        return super().resolve_command(context, args)

    def list_commands(self, context: click.Context) -> list[str]:
        """Verbs in the order of a first visit."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import one verb."""
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        if all(option.name != "quiet" for option in command.params):
            command.params += _loudness()
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs' summaries, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


def _loudness() -> list[click.Parameter]:
    """``-q`` and ``-v``, which every verb has."""
    return [
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            callback=lambda context, option, value: _set_quiet() if value else None,
            help="Say results and warnings alone.",
        ),
        click.Option(
            ["-v", "--verbose"],
            is_flag=True,
            expose_value=False,
            callback=lambda context, option, value: context.with_resource(_told()) if value else None,
            help="Say every event of the run too, and where something failed.",
        ),
    ]


def _set_quiet() -> None:
    from recamlabel.core.progress import be_quiet

    be_quiet()


@contextmanager
def _told() -> Iterator[None]:
    """While it lasts events are lines, and a failure has its traceback."""
    from recamlabel.core.events import listening

    def line(event: Mapping[str, object]) -> None:
        parts = (f"{name}={value}" for name, value in event.items() if name != "time" and not isinstance(value, dict))
        click.echo(printable("  ".join(parts)), err=True)

    with listening([line]):
        try:
            yield
        except RecamlabelError:
            traceback.print_exc()
            raise


EPILOG = """Every verb explains itself: recamlabel fit --help. Completion of verbs and options in bash:
eval "$(_RECAMLABEL_COMPLETE=bash_source recamlabel)"; in zsh and fish with zsh_source and fish_source."""


@click.group(
    cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, "-V", "--version", package_name="recamlabel")
def cli() -> None:
    """Image-level labels in, pixel masks out.

    Start with `recamlabel check SOURCE`, then `recamlabel fit SOURCE --out RUN`.
    """


def main() -> None:
    """Entry point: exit code 0 done, 1 the data's or run's fault, 2 wrong usage or settings,
    70 a defect of recamlabel, 130 interrupted."""
    # Read by OpenMP when torch is loaded. Threads that spin at barriers made a training step four to
    # five times slower beside another busy process on two cores, and save a seventh alone
    # (benchmarks/openmp_wait.py).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A scheduler that stops a job sends this: what is finished is kept as with Ctrl-C, and it is said.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code; no user's mistake ends in a traceback."""
    try:
        _refuse_many(arguments)
        outcome = cli.main(arguments, prog_name="recamlabel", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        told = io.StringIO()
        error.show(told)
        click.echo(printable(told.getvalue()), err=True, nl=False)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _fail(f"interrupted{_perhaps_why()}; the same command again continues where it stopped", 130)
    except RecamlabelError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(_explain(error), 1)
    except Exception as error:
        if os.environ.get("RECAMLABEL_DEBUG"):
            raise
        # What Path.resolve raises, until Python 3.13 has it as an OSError.
        if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):
            return _fail(f"{error}: a link that leads to itself; give another path, or remove it", 1)
        return _fail(_explain_unexpected(error), 70)
    return outcome if isinstance(outcome, int) else 0


def _fail(message: str, code: int) -> int:
    here = place()
    who = f"rank {here.rank}: " if here.world > 1 else ""
    click.echo(f"recamlabel: {who}{printable(message)}", err=True)
    return code


def _refuse_many(arguments: list[str]) -> None:
    """Verbs other than ``fit`` would do their work once in each of the processes that a launcher has started."""
    verb = next((one for one in arguments if not one.startswith("-")), "fit")
    if verb != "fit" and verb in COMMANDS and place().world > 1:
        raise ConfigError(
            f"`recamlabel {verb}` is one process, and a launcher has started {place().world}; start it without "
            "torchrun or accelerate (or unset WORLD_SIZE). `recamlabel fit` is the verb for several"
        )


def _perhaps_why() -> str:
    """A launcher stops all processes with the signal that a scheduler sends, too."""
    return " (by a person, a scheduler, or as another process of the run has ended)" if place().world > 1 else ""


def _no_space(text: str) -> str:
    return f"no space left on the disk ({text}); free some and run the same command again, it continues"


def _explain_unexpected(error: Exception) -> str:
    text = (str(error).splitlines() or [""])[0]
    kind = type(error).__name__
    if kind == "OutOfMemoryError" or isinstance(error, MemoryError):
        return f"out of memory ({text}); lower classifier.batch_size or maps.max_side, or use --device cpu"
    if "No space left" in text or "errno = 28" in text:
        return _no_space(text)
    return f"unexpected {kind}: {text}; this is a defect of recamlabel, RECAMLABEL_DEBUG=1 shows where it happened"


def _explain(error: OSError) -> str:
    text = str(error)
    if error.errno == errno.ENOSPC or "No space left" in text:
        return _no_space(text)
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"not allowed: {text}; check the permissions of that path"
    return f"the system refused: {text}"
