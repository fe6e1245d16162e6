"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from recamlabel.adapters import ADAPTERS
from recamlabel.config import PRESETS, Config, load_config

F = TypeVar("F", bound=Callable[..., Any])

run_argument = click.argument("run", type=click.Path(path_type=Path))


truth_classes_option = click.option(
    "--truth-classes",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="For true masks with class ids of their own: their class names, one a line, in id order from 1.",
)


def truth_option(text: str, required: bool = False) -> Callable[[F], F]:
    """``--truth DIR`` with a help text that says what the true masks are for."""
    return click.option("--truth", required=required, metavar="DIR", type=click.Path(path_type=Path), help=text)


def settings_options(function: F) -> F:
    """``--preset``, ``--config``, ``--set``, ``--adapter``: everything that makes a configuration."""
    for option in (
        click.option(
            "--adapter",
            metavar="NAME",
            help=f"Label format instead of detecting it: {', '.join(ADAPTERS)}.",
        ),
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="SECTION.KEY=VALUE",
            help="Change one setting; may be repeated. `recamlabel config` lists all.",
        ),
        click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            metavar="FILE.toml",
            help="Settings from a TOML file.",
        ),
        click.option(
            "--preset",
            type=click.Choice(PRESETS),
            default="quick",
            show_default=True,
            help="quick: EfficientNet-Lite0, sized for a CPU. paper: ResNet-50 and the published recipe, for a GPU. "
            "foundation: a frozen DINOv2 ViT-S, whose weights are fetched or given by --weights.",
        ),
    ):
        function = option(function)
    return function


coco_option = click.option(
    "--coco-exhaustive/--no-coco-exhaustive",
    "coco_exhaustive",
    default=None,
    help="COCO: a class without an annotation is absent, or unknown.  [default: absent, but LVIS as its files say]",
)


def resolve_settings(
    preset: str, config_file: Path | None, assignments: tuple[str, ...], adapter: str | None = None, **overrides: Any
) -> Config:
    """The configuration that the shared options and a verb's own ``section__key`` overrides stand for."""
    chosen = {key.replace("__", "."): value for key, value in overrides.items() if value is not None}
    if adapter is not None:
        chosen["data.adapter"] = adapter
    return load_config(preset, config_file, assignments, chosen)
