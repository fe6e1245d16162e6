"""``recamlabel stages``: what a run is made of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recamlabel.cli.options import resolve_settings, settings_options
from recamlabel.cli.output import echo, echo_json

if TYPE_CHECKING:
    from recamlabel.stages.graph import StageLine


@click.command()
@settings_options
@click.option("--all", "every", is_flag=True, help="Also the stages that these settings leave out.")
@click.option("--mermaid", is_flag=True, help="As a Mermaid diagram.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, on standard output.")
def stages(
    preset: str,
    config_file: Path | None,
    assignments: tuple[str, ...],
    adapter: str | None,
    every: bool,
    mermaid: bool,
    as_json: bool,
) -> None:
    """The stages of a run with these settings: what each stands on, which settings it reads, what it makes."""
    # Imported late: torch takes seconds, and a wrong option should not.
    from recamlabel.maps import get_variant
    from recamlabel.models.segmenter import check_segmenter
    from recamlabel.refine import resolve_method
    from recamlabel.stages import GRAPH
    from recamlabel.stages.graph import stage_lines

    config = resolve_settings(preset, config_file, assignments, adapter)
    get_variant(config.maps.variant)
    check_segmenter(config.segmenter.method)
    refine = config.refine.model_copy(update={"method": resolve_method(config.refine.method)})
    lines = stage_lines(GRAPH, config.model_copy(update={"refine": refine}), every)
    if as_json:
        echo_json([line.to_json() for line in lines])
    else:
        echo("\n".join(_mermaid(lines) if mermaid else _table(lines)))


def _table(lines: list[StageLine]) -> Iterator[str]:
    yield "| stage | what it does | stands on | reads | makes |"
    yield "|---|---|---|---|---|"
    for line in lines:
        lists = (", ".join(names) for names in (line.needs, line.reads, line.makes))
        yield f"| {' | '.join((line.name, line.about, *lists))} |"


def _mermaid(lines: list[StageLine]) -> Iterator[str]:
    yield "graph TD"
    for line in lines:
        yield from (f"  {need} --> {line.name}" for need in line.needs)
