"""Which other packages a setting brings into a run: their versions are part of what a result depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recamlabel.core.registry import Registry
from recamlabel.maps import VARIANTS
from recamlabel.models.segmenter import SEGMENTERS
from recamlabel.refine import REFINERS
from recamlabel.storage.outdated import PLUGIN

# By the setting whose value is a name of theirs.
NAMED: dict[str, Registry[Any]] = {one.key: one for one in (VARIANTS, REFINERS, SEGMENTERS)}


def plugin_facts(settings: Mapping[str, Any]) -> dict[str, str]:
    """Name and version of the package behind each setting that names something of another package.

    Every stage that reads such a setting depends on them.

    Args:
        settings: Values by dotted key.

    Example:
        >>> plugin_facts({"maps.variant": "cam", "seed": 0})
        {}
    """
    found = {key: one.origin(str(settings[key])) for key, one in NAMED.items() if key in settings}
    return {f"{PLUGIN}{key}": package for key, package in found.items() if package}


def plugin_versions(facts: Mapping[str, str]) -> dict[str, str]:
    """The packages among a stage's facts, with their versions.

    Example:
        >>> plugin_versions({"images": "x", f"{PLUGIN}refine.method": "recamlabel-example 0.1.0"})
        {'recamlabel-example': '0.1.0'}
    """
    pairs = (value.rpartition(" ")[::2] for name, value in facts.items() if name.startswith(PLUGIN))
    return {name: version for name, version in pairs if name}


def shadowed_notes(settings: Mapping[str, Any]) -> Iterator[str]:
    """What to say of packages that offer something by a name of recamlabel's own that the settings ask for."""
    for key, one in NAMED.items():
        if taken := one.shadowed(str(settings[key])):
            yield f"{key}: {taken}"
