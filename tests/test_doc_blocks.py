"""Every code block of README and docs is run, or read by what it is written for."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np
import pytest
import yaml
from PIL import Image

import recamlabel
from recamlabel.adapters import BUILT_IN, load_dataset
from recamlabel.cli.main import COMMANDS, cli
from recamlabel.cli.main import run as command
from recamlabel.config import Config, load_config, setting_keys
from tests.helpers import TINY

ROOT = Path(recamlabel.__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"bash", "python", "toml", "json", "yaml", "csv", "text", "mermaid"}
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = set(PYPROJECT["project"]["optional-dependencies"])
# Imported by blocks, and part of no extra.
OPTIONAL = {"datasets", "mmengine", "mmseg", "pyarrow", "ultralytics"}


@dataclass(frozen=True)
class Block:
    """One fenced block, with the heading that it stands under."""

    page: Path
    line: int
    section: str
    language: str
    title: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    section, open_at, fence, lines = "", 0, ("", ""), []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if open_at and line.strip() == "```":
            yield Block(page, open_at, section, *fence, "\n".join(lines) + "\n")
            open_at = 0
        elif open_at:
            lines.append(line)
        elif found := re.fullmatch(r'```(\w*)(?: title="([^"]+)")?', line):
            open_at, fence, lines = number, (found[1], found[2] or ""), []
        elif found := re.match(r"#{2,3} (.+)", line):
            section = found[1].strip("`")
    assert not open_at, f"{page}: the block of line {open_at} has no end"


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
# Pieces of the example package, which `test_plugin_example.py` compares with its files, installs and runs.
PIECES = ROOT / "docs" / "plugins.md"


def of(*languages: str) -> pytest.MarkDecorator:
    found = [
        block
        for block in BLOCKS
        if block.language in languages and not (block.page == PIECES and block.language != "bash")
    ]
    return pytest.mark.parametrize("block", found, ids=lambda block: block.name)


def test_every_block_says_what_it_is():
    assert [block.name for block in BLOCKS if block.language not in LANGUAGES] == []
    assert {block.language for block in BLOCKS} >= LANGUAGES - {"yaml"}


def commands_of(text: str) -> list[list[str]]:
    """The words of each command: comments dropped, lines that end in a backslash joined, ``a && b`` taken apart."""
    found: list[list[str]] = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = shlex.split(line, comments=True)
        found += [list(part) for end, part in groupby(words, lambda word: word == "&&") if not end]
    return found


@of("bash")
def test_commands(block):
    for words in commands_of(block.text):
        tool, *arguments = words
        tool = tool.removeprefix(".venv/bin/")
        if tool == "recamlabel":
            check_command(arguments)
        elif tool in {"torchrun", "accelerate"}:
            assert arguments[arguments.index("-m") + 1] == "recamlabel"
            check_command(arguments[arguments.index("-m") + 2 :])
        elif tool == "make":
            targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.M)
            assert {word for word in arguments if "=" not in word} <= set(targets)
        elif tool == "pip":
            check_install(arguments)
        elif tool == "python":
            assert arguments[0] == "-m" or (ROOT / arguments[0]).is_file()
        else:
            assert tool in {"git", "cd", "cp", "pre-commit"} or re.match(r"[A-Z]+=", tool), words


def check_command(arguments: list[str]) -> None:
    """Click takes the verb and its options, and all settings and values of ``--set`` are allowed."""
    verb, *rest = arguments
    if ">" in rest:
        rest = rest[: rest.index(">")]
    found = cli.get_command(click.Context(cli), verb)
    assert found is not None, f"no command {verb}"
    context = found.make_context(verb, list(rest), click.Context(cli, info_name="recamlabel"))
    if assignments := context.params.get("assignments"):
        load_config(assignments=assignments)


def check_install(arguments: list[str]) -> None:
    for word in arguments:
        if found := re.fullmatch(r"recamlabel\[([\w,]+)\]", word):
            assert set(found[1].split(",")) <= EXTRAS, word


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_settings_within_the_text(page):
    """``recamlabel VERB … --option`` in backticks is known, and so is ``section.key``."""
    keys, sections = setting_keys(), set(Config.model_fields)
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for span in re.findall(r"`([^`\n]+)`", text):
        if found := re.match(r"recamlabel ([a-z][a-z-]*)(?= |$)", span):
            assert found[1] in COMMANDS, span
            verb = cli.get_command(click.Context(cli), found[1])
            known = {name for one in verb.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}
            assert set(re.findall(r"(?<!\S)--[a-z-]+", span)) <= known, span
        if found := re.search(r"recamlabel\[([\w,]+)\]", span):
            assert set(found[1].split(",")) <= EXTRAS, span
        for name in re.findall(r"(?:^|--set )'?([a-z]+(?:\.[a-z_]+)+)(?==|$)", span):
            if name.split(".")[0] in sections and not re.search(r"\.(h5|json|py|csv|toml|yaml|html|png|txt)$", name):
                known = any(key == name or key.startswith(f"{name}.") for key in keys)
                known = known or find_spec(f"recamlabel.{name}") is not None
                assert known, f"{page.name}: no setting {name}"


@of("toml")
def test_settings_files(block, tmp_path):
    (tmp_path / "some.toml").write_text(block.text)
    assert load_config(file=tmp_path / "some.toml") != load_config()


@of("json", "yaml", "csv")
def test_samples_are_what_they_say(block):
    if block.language == "yaml":
        assert yaml.safe_load(block.text)
    elif block.language == "json":
        parts = block.text.splitlines() if block.title.endswith(".jsonl") else [block.text]
        assert all(json.loads(part) for part in parts)
    else:
        assert len({line.count(",") for line in block.text.splitlines()}) == 1


FORMATS = [adapter.name for adapter in BUILT_IN]


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "fiftyone"])
def test_the_sample_of_each_format_is_read(name, tmp_path):
    """The files of the sample are written, the images that it names are drawn; then it is three images, two classes."""
    sample = [block for block in BLOCKS if block.page.name == "data.md" and block.section == name and block.title]
    for block in sample:
        if block.title == "files":
            for line in block.text.split():
                draw(tmp_path / line, sum(map(ord, line)))
        else:
            (tmp_path / block.title).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.title).write_text(block.text)
    dataset = load_dataset(tmp_path)
    assert dataset.adapter == name and sorted(dataset.classes.names) == ["dent", "scratch"]
    assert not dataset.problems, dataset.problems
    labels = [image.present for image in sorted(dataset.images, key=lambda image: image.id)]
    assert len(labels) == 3 and any(not names for names in labels) and any(names for names in labels)


def test_every_format_has_its_section():
    sections = {block.section for block in BLOCKS if block.page.name == "data.md"}
    assert set(FORMATS) <= sections


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (48, 64, 3), np.uint8)).save(path)


PYTHON = {}
for one in BLOCKS:
    if one.language == "python" and one.page != PIECES:
        PYTHON.setdefault((one.page, one.section), [])
for one in BLOCKS:
    if (one.page, one.section) in PYTHON and one.language in {"python", "bash"}:
        PYTHON[one.page, one.section].append(one)


@pytest.fixture
def finished(tmp_path, copy_run, monkeypatch):
    """``photos/`` and its finished ``runs/one``, as the pages have them, in the working folder.

    ``recamlabel.fit`` only checks what it is given and opens that run: what it does is tested elsewhere, in minutes.
    """
    _, run = copy_run(tmp_path / "made", *TINY)
    monkeypatch.chdir(tmp_path)
    Path("photos").symlink_to(tmp_path / "made/data")
    Path("runs").mkdir()
    Path("runs/one").symlink_to(run.path)
    with h5py.File("runs/one/masks.h5", "a") as file:
        file["images/0001"] = file["images/0"]  # the name that the pages have
    signature = inspect.signature(recamlabel.fit)

    def fit(*given: Any, **named: Any) -> recamlabel.Run:
        arguments = signature.bind(*given, **named).arguments
        assert Path(arguments["source"]).exists()
        load_config(overrides=arguments.get("settings"))
        return recamlabel.open_run(arguments["out"])

    monkeypatch.setattr(recamlabel, "fit", fit)


@pytest.mark.parametrize("place", PYTHON, ids=lambda place: f"{place[0].name}: {place[1]}")
def test_python(place, finished, monkeypatch):
    """The blocks of a section in turn, in one namespace; exports among them are made, other commands are not run."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(Path("cache").resolve()))
    space: dict[str, Any] = {"__name__": "__main__"}
    for block in PYTHON[place]:
        if block.language == "bash":
            for words in commands_of(block.text):
                if words[:2] == ["recamlabel", "export"]:
                    shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
                    assert command(words[1:]) == 0
            continue
        for name in imported(block.text) & OPTIONAL:
            if find_spec(name) is None:
                pytest.skip(f"{name} is not installed")
        exec(compile(block.text, block.name, "exec"), space)


def imported(text: str) -> set[str]:
    """Packages that a block imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).split(".")[0])
    return found


def test_exports_of_the_pages_without_the_trainers(finished):
    """All of ``docs/use-masks.md``, whatever is installed."""
    made = set()
    for block in BLOCKS:
        if block.page.name == "use-masks.md" and block.language == "bash":
            for words in commands_of(block.text):
                if words[:2] == ["recamlabel", "export"]:
                    assert command(words[1:]) == 0
                    made.add(words[words.index("--format") + 1])
    assert made == {"voc", "huggingface", "yolo", "mmseg", "hdf5"}
