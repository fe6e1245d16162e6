"""All settings: one typed, closed section per stage, presets, TOML files and ``--set``.

A key that does not exist, a value out of range and a combination that makes no sense are
refused by name. The command line derives its options and help from here.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from recamlabel.adapters.config import DataConfig
from recamlabel.core.registry import check_choice
from recamlabel.core.section import RuntimeConfig, ScheduleConfig, Section
from recamlabel.data.config import AugmentConfig
from recamlabel.errors import ConfigError
from recamlabel.gate.config import GateConfig
from recamlabel.maps.config import LocalConfig, MapsConfig, ProbeConfig
from recamlabel.masks.config import MasksConfig, ReviewConfig
from recamlabel.models.config import BackboneConfig
from recamlabel.refine.config import AffinityConfig, CrfConfig, RefineConfig
from recamlabel.segment.config import PredictConfig, SegmenterConfig
from recamlabel.storage.regular import why_no_file
from recamlabel.training.config import ClassifierConfig, RecamConfig

__all__ = [
    "PRESETS",
    "AffinityConfig",
    "AugmentConfig",
    "BackboneConfig",
    "ClassifierConfig",
    "Config",
    "CrfConfig",
    "DataConfig",
    "GateConfig",
    "LocalConfig",
    "MapsConfig",
    "MasksConfig",
    "PredictConfig",
    "ProbeConfig",
    "RecamConfig",
    "RefineConfig",
    "ReviewConfig",
    "RuntimeConfig",
    "ScheduleConfig",
    "Section",
    "SegmenterConfig",
    "config_from_tree",
    "config_schema",
    "load_config",
    "setting_keys",
]

PRESETS = ("quick", "paper", "foundation")


class Config(Section):
    """The whole configuration. Section and key names are what ``--set section.key=value`` takes."""

    preset: Literal["quick", "paper", "foundation"] = Field(
        "quick", description="where all that is not set here is from"
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of everything random")
    rounds: int = Field(
        1, ge=1, le=5, description="rounds of masks and segmenter; later ones start from the segmenter before"
    )
    data: DataConfig = DataConfig()
    backbone: BackboneConfig = BackboneConfig()
    augment: AugmentConfig = AugmentConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    gate: GateConfig = GateConfig()
    recam: RecamConfig = RecamConfig()
    maps: MapsConfig = MapsConfig()
    local: LocalConfig = LocalConfig()
    probe: ProbeConfig = ProbeConfig()
    affinity: AffinityConfig = AffinityConfig()
    refine: RefineConfig = RefineConfig()
    masks: MasksConfig = MasksConfig()
    segmenter: SegmenterConfig = SegmenterConfig()
    review: ReviewConfig = ReviewConfig()
    runtime: RuntimeConfig = RuntimeConfig()


def load_config(
    preset: str = "quick",
    file: Path | None = None,
    assignments: Iterable[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Resolve a configuration: preset, then a TOML file, then ``section.key=value`` lines, then overrides.

    Args:
        preset: ``"quick"``, ``"paper"`` or ``"foundation"``.
        file: A TOML file with the same sections.
        assignments: Lines as given to ``--set``.
        overrides: Dotted keys to values, as the command line's own options give them.

    Raises:
        ConfigError: Unknown preset, section or key, value of the wrong type or out of range,
            unreadable file.

    Example:
        >>> load_config("quick", assignments=["masks.threshold=0.4"]).masks.threshold
        0.4
    """
    check_choice("--preset", preset, PRESETS, "preset")
    tree: dict[str, Any] = tomllib.loads(resources.files("recamlabel.presets").joinpath(f"{preset}.toml").read_text())
    tree["preset"] = preset
    if file is not None:
        _merge(tree, _read_toml(file))
    for line in assignments:
        key, value = _parse_assignment(line)
        _assign(tree, key, value, origin=f"--set {line}")
    for key, value in (overrides or {}).items():
        _assign(tree, key, value, origin=key)
    return config_from_tree(tree, origin=str(file) if file else "the settings")


def amend(config: Config, assignments: Iterable[str] = (), overrides: Mapping[str, Any] | None = None) -> Config:
    """A configuration with some settings changed, as :func:`load_config` takes them. Raises ConfigError.

    Example:
        >>> amend(Config(), ["masks.threshold=0.4"]).masks.threshold
        0.4
    """
    tree = config.model_dump()
    for line in assignments:
        key, value = _parse_assignment(line)
        _assign(tree, key, value, origin=f"--set {line}")
    for key, value in (overrides or {}).items():
        _assign(tree, key, value, origin=key)
    return config_from_tree(tree)


def config_from_tree(tree: Mapping[str, Any], origin: str = "the settings") -> Config:
    """A Config from nested dictionaries, with every problem named. Raises ConfigError."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(item) for item in error.errors()]
        raise ConfigError(f"{origin}: " + "; ".join(lines)) from None


def setting_keys(model: type[BaseModel] = Config, prefix: str = "") -> dict[str, str]:
    """Every dotted key with its one-line help, in file order."""
    keys: dict[str, str] = {}
    for name, info in model.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            keys |= setting_keys(annotation, f"{prefix}{name}.")
        else:
            keys[f"{prefix}{name}"] = info.description or ""
    return keys


def config_schema(config: Config | None = None, names: Mapping[str, Iterable[str]] | None = None) -> dict[str, Any]:
    """A JSON schema (draft 2020-12) of the settings file, for editors (docs/plugins.md, "Settings in an editor").

    Args:
        config: Whose values are the schema's defaults; None: those of a setting alone.
        names: By dotted key the names that an editor is to offer; others stay allowed, as packages bring more.

    Example:
        >>> schema = config_schema(Config(), {"maps.variant": ["cam"]})
        >>> schema["properties"]["maps"]["properties"]["variant"]["anyOf"]
        [{'enum': ['cam']}, {'type': 'string'}]
        >>> schema["properties"]["masks"]["additionalProperties"]
        False
    """
    tree = Config.model_json_schema()
    values = (config or Config()).model_dump(mode="json")
    schema: dict[str, Any] = _plain(tree, tree.pop("$defs"), values, "", dict(names or {}))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Settings of recamlabel", **schema}


def _plain(
    node: Mapping[str, Any], sections: Mapping[str, Any], value: Any, key: str, names: Mapping[str, Iterable[str]]
) -> dict[str, Any]:
    """A part of a schema, sections in place of references to them, as each has values of its own; without titles."""
    if "$ref" in node:
        node = {**sections[node["$ref"].rpartition("/")[2]], **{k: v for k, v in node.items() if k != "$ref"}}
    plain = {name: part for name, part in node.items() if name not in ("title", "default")}
    if "properties" in node:
        prefix = f"{key}." if key else ""
        plain["properties"] = {
            name: _plain(part, sections, value[name], f"{prefix}{name}", names)
            for name, part in node["properties"].items()
        }
        return plain
    if key in names:
        plain = {"anyOf": [{"enum": list(names[key])}, {"type": plain.pop("type")}], **plain}
    return plain if value is None else {**plain, "default": value}


def _read_toml(file: Path) -> dict[str, Any]:
    what = why_no_file(file)
    if what is not None:
        raise ConfigError(f"{file}: {what}; expected a TOML file with sections such as [classifier]")
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file; expected a TOML file with settings") from None
    except ValueError as error:  # not TOML, not UTF-8, a number of thousands of digits
        raise ConfigError(f"{file}: not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror or error}") from None
    except RecursionError:
        raise ConfigError(f"{file}: nested too deep; expected sections such as [classifier]") from None


def _merge(tree: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            tree[key] = dict(value) if isinstance(value, Mapping) else value


def _parse_assignment(line: str) -> tuple[str, Any]:
    key, equals, text = line.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {line!r}: expected section.key=value, for example --set masks.threshold=0.4")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # no TOML, or a number of thousands of digits
        value = text
    return key.strip(), value


def _assign(tree: dict[str, Any], key: str, value: Any, origin: str) -> None:
    known = setting_keys()
    if key not in known:
        raise ConfigError(f"{origin}: unknown setting {key!r}{_suggest(key, known)}")
    *parents, leaf = key.split(".")
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
    node[leaf] = value


def _explain(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    known = setting_keys()
    # A setting with two types (a number or 'auto') has the type's name behind its own.
    key = next((name for name in (key, key.rpartition(".")[0]) if name in known), key)
    if item["type"] == "extra_forbidden":
        return f"unknown setting {key!r}{_suggest(key, known)}"
    found = "" if item["type"] == "missing" else f" (found {item['input']!r})"
    message = item["msg"].removeprefix("Value error, ")
    return f"{key or 'settings'}: {message}{found}"


def _suggest(key: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
    if not near:
        leaf = key.rsplit(".", 1)[-1]
        near = [name for name in known if name.rsplit(".", 1)[-1] == leaf]
    if near:
        return f"; did you mean {' or '.join(near)}? 'recamlabel config' lists all settings"
    return "; 'recamlabel config' lists all settings"
