"""``recamlabel config``: every setting, its value in a preset, its meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from recamlabel.cli.options import resolve_settings, settings_options
from recamlabel.cli.output import echo, echo_json
from recamlabel.config import config_schema, setting_keys


@click.command()
@settings_options
@click.option(
    "--schema",
    is_flag=True,
    help="Print a JSON schema of the settings file instead, with which an editor completes and checks it.",
)
def config(
    preset: str, config_file: Path | None, assignments: tuple[str, ...], adapter: str | None, schema: bool
) -> None:
    """List every setting as TOML that `fit --config` reads back, each with its meaning.

    \b
    Examples:
      recamlabel config > settings.toml
      recamlabel config --schema > recamlabel.schema.json     # then, at the top of settings.toml:
                                                              # #:schema ./recamlabel.schema.json
    """
    import tomli_w

    settings = resolve_settings(preset, config_file, assignments, adapter)
    if schema:
        echo_json(config_schema(settings, _names()))
        return
    tree = settings.model_dump()
    tree.pop("preset")
    section = ""
    for key, meaning in setting_keys().items():
        if key == "preset":
            continue
        parent, _, name = key.rpartition(".")
        if parent != section:
            section = parent
            echo(f"\n[{section}]")
        value: Any = tree
        for part in key.split("."):
            value = value[part]
        line = f"# {name} is not set" if value is None else tomli_w.dumps({name: value}).strip().replace("\n", " ")
        echo(f"{line}  # {meaning}")


def _names() -> dict[str, tuple[str, ...]]:
    """What can be chosen by name, that of installed plug-ins included."""
    from recamlabel.adapters import ADAPTERS
    from recamlabel.maps import VARIANTS
    from recamlabel.models.combine import COMBINE_RULES
    from recamlabel.models.segmenter import SEGMENTERS
    from recamlabel.refine import REFINERS

    registries = (VARIANTS, REFINERS, SEGMENTERS, COMBINE_RULES)
    found = {one.key: (*one.choices_before, *one.names) for one in registries}
    return {**found, "data.adapter": ("auto", *ADAPTERS.names)}
