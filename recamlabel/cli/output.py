"""What verbs print: names of classes and files are shown, whatever characters they have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from recamlabel.core.printable import printable, printable_json

if TYPE_CHECKING:
    from rich.text import Text


def echo(text: object = "", *, err: bool = False, fg: str | None = None, bold: bool | None = None) -> None:
    """One text with a line end, on standard output or error."""
    click.secho(printable(str(text)), err=err, fg=fg, bold=bold)


def echo_json(tree: object) -> None:
    """A tree as JSON, on standard output."""
    click.echo(printable_json(tree))


def plain(text: str, style: str = "") -> Text:
    """Text for a table, without markup: in a plain string [brackets] would be."""
    from rich.text import Text

    return Text(printable(text), style)
