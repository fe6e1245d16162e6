"""MkDocs hooks: pages that the code itself writes, so that they cannot differ from it.

A page has ``<!-- generated: NAME -->`` where the text of ``GENERATED[NAME]`` goes. The build fails where a page
would fetch a script, style, picture or font from another server.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import click
from pydantic import BaseModel

import recamlabel
from recamlabel.cli.main import COMMANDS, cli
from recamlabel.config import PRESETS, Config, load_config

DOCS = Path(__file__).parent
MARK = re.compile(r"<!-- generated: ([a-z]+) -->")
# What a browser fetches by itself: not <a href>, which it follows when clicked, nor <link rel="canonical">. For an
# element of the class mermaid the theme fetches a script.
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video)\b[^>]*?\bsrc=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|<link\b(?=[^>]*rel=["']?(?:stylesheet|preconnect|preload|icon))[^>]*?href=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|(class=["']?mermaid)"""
    r"""|(?:@import\s+|url\()["']?((?:https?:)?//[^"'\s)]+)"""
)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the generated text in the place of its mark."""
    return MARK.sub(lambda found: GENERATED[found[1]](), markdown)


def on_post_build(config: Mapping[str, Any]) -> None:
    """Refuse a site that needs a network."""
    found = sorted(set(fetched(Path(config["site_dir"]))))
    if found:
        raise SystemExit("the site would fetch from other servers:\n" + "\n".join(found))


def fetched(site: Path) -> Iterator[str]:
    """Every address of another server that a page or style sheet loads by itself."""
    for path in (*site.rglob("*.html"), *site.rglob("*.css")):
        for groups in _FETCHED.findall(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)}: {''.join(groups)}"


def settings() -> str:
    """One table for each section: name, default of each preset, range, meaning."""
    presets = {name: load_config(name).model_dump() for name in PRESETS}
    top = [row for row in Config.model_fields.items() if not _section(row[1].annotation) and row[0] != "preset"]
    parts = ["## Top level\n", _table(dict(top), (), presets)]
    parts += _sections(Config, (), presets)
    return "\n".join(parts)


def _sections(model: type[BaseModel], parents: tuple[str, ...], presets: Mapping[str, Any]) -> Iterator[str]:
    for name, info in model.model_fields.items():
        section = _section(info.annotation)
        if section is None:
            continue
        path = (*parents, name)
        yield f"\n## `{'.'.join(path)}`\n\n{_first_line(section)}\n"
        own = {key: field for key, field in section.model_fields.items() if not _section(field.annotation)}
        yield _table(own, path, presets)
        yield from _sections(section, path, presets)


def _section(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


def _table(fields: Mapping[str, Any], path: tuple[str, ...], presets: Mapping[str, Any]) -> str:
    rows = ["| setting | default | allowed | meaning |", "|---|---|---|---|"]
    for name, info in fields.items():
        values = {preset: _value(tree, (*path, name)) for preset, tree in presets.items()}
        usual = values["quick"]
        default = "; ".join(
            [f"`{usual}`", *(f"{other}: `{value}`" for other, value in values.items() if value != usual)]
        )
        # A browser may break the line behind a dot, and nowhere else.
        key = ".<wbr>".join((*path, name))
        rows.append(f"| <code>{key}</code> | {default} | {_allowed(info)} | {_cell(info.description or '')} |")
    return "\n".join(rows)


def _value(tree: Any, path: tuple[str, ...]) -> str:
    for part in path:
        tree = tree[part]
    if tree is None:
        return "not set"
    # Of what settings hold, JSON in one line is TOML too.
    return json.dumps(tree, ensure_ascii=False)


def _allowed(info: Any) -> str:
    """Choices and bounds, as the section declares them."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [f"{signs[k]} {getattr(m, k)}" for m in info.metadata for k in signs if getattr(m, k, None) is not None]
    choices = [f'`"{one}"`' for one in _choices(info.annotation)]
    return ", ".join([*choices, *bounds])


def _choices(annotation: Any) -> Iterator[str]:
    for part in get_args(annotation):
        if isinstance(part, str):
            yield part
        else:
            yield from _choices(part)


def _cell(text: str) -> str:
    """Text of a table's cell; in code, a bar divides no cells."""
    return text.replace("|", "\\|").replace("\n", " ")


def commands() -> str:
    """Every verb: what it does, how it is called, its options. Walks click's own tree."""
    context = click.Context(cli, info_name="recamlabel", **cli.context_settings)
    parts = [_options(cli, context)]
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        below = click.Context(command, info_name=name, parent=context, **command.context_settings)
        usage = " ".join([below.command_path, *command.collect_usage_pieces(below)])
        parts += [f"\n## `recamlabel {name}`\n", f"```text\n{usage}\n```\n", _prose(command.help or "")]
        parts += [_options(command, below), _prose(command.epilog or "")]
    return "\n".join(parts)


def _options(command: click.Command, context: click.Context) -> str:
    records = [record for one in command.get_params(context) if (record := one.get_help_record(context)) and record[1]]
    if not records:
        return ""
    rows = ["| option | meaning |", "|---|---|"]
    return "\n".join([*rows, *(f"| `{left}` | {_cell(_plain(right))} |" for left, right in records), ""])


def _prose(text: str) -> str:
    """Help text: paragraphs as they are, those behind click's mark for verbatim text as blocks."""
    parts = []
    for part in inspect.cleandoc(text).split("\n\n"):
        verbatim = part.startswith("\b")
        body = part.removeprefix("\b").strip("\n")
        parts.append(f"```text\n{body}\n```" if verbatim else _plain(body))
    return "\n\n".join(parts) + "\n"


def _plain(text: str) -> str:
    """Markdown that shows the text as it is, but for code in backticks."""
    return re.sub(r"([*_<\[\]])(?=(?:[^`]*`[^`]*`)*[^`]*$)", r"\\\1", text)


def api() -> str:
    """What ``import recamlabel`` offers: functions and classes first, then modules, then errors."""
    groups: dict[str, list[str]] = {"Functions": [], "Classes": [], "Modules": [], "Errors": []}
    # A name that is loaded when used may be that of a folder of the package too, such as review.
    lazy = getattr(recamlabel, "_LAZY", {})
    for name in recamlabel.__all__:
        thing = getattr(importlib.import_module(lazy.get(name, "recamlabel")), name)
        if inspect.ismodule(thing):
            groups["Modules"].append(thing.__name__)
        elif inspect.isclass(thing):
            kind = "Errors" if issubclass(thing, Exception) else "Classes"
            groups[kind].append(f"{thing.__module__}.{thing.__qualname__}")
        elif callable(thing):
            groups["Functions"].append(f"{thing.__module__}.{thing.__qualname__}")
    lines = []
    for title, names in groups.items():
        lines += [f"## {title}\n", *(f"::: {name}\n" for name in names)] if names else []
    return "\n".join(lines)


def notebook() -> str:
    """``tutorial.ipynb`` as a page, with the outputs that it was saved with."""
    cells = json.loads((DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n\n".join(part for cell in cells for part in _cell_parts(cell))


def _cell_parts(cell: Mapping[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    yield source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```"
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if "image/png" in data:
            yield f"![Output](data:image/png;base64,{''.join(data['image/png']).strip()})"
        elif text := "".join(output.get("text", data.get("text/plain", []))):
            yield f"```text\n{text.rstrip()}\n```"


GENERATED = {"settings": settings, "commands": commands, "api": api, "notebook": notebook}
