"""``recamlabel config``: every setting, its value in a preset, its meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from recamlabel.cli.options import resolve_settings, settings_options
from recamlabel.config import setting_keys


@click.command()
@settings_options
def config(preset: str, config_file: Path | None, assignments: tuple[str, ...], adapter: str | None) -> None:
    """List every setting as TOML that `fit --config` reads back, each with its meaning."""
    import tomli_w

    tree = resolve_settings(preset, config_file, assignments, adapter).model_dump()
    tree.pop("preset")
    section = ""
    for key, meaning in setting_keys().items():
        if key == "preset":
            continue
        parent, _, name = key.rpartition(".")
        if parent != section:
            section = parent
            click.echo(f"\n[{section}]")
        value: Any = tree
        for part in key.split("."):
            value = value[part]
        line = f"# {name} is not set" if value is None else tomli_w.dumps({name: value}).strip().replace("\n", " ")
        click.echo(f"{line}  # {meaning}")
