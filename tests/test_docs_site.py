"""The documentation site: what is generated, the tutorial, and the strict build where MkDocs is installed."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml
from helpers import load_script

import recamlabel
from recamlabel.cli.main import COMMANDS, cli
from recamlabel.cli.main import run as command
from recamlabel.config import setting_keys

ROOT = Path(recamlabel.__file__).parent.parent
DOCS = ROOT / "docs"
TUTORIAL = json.loads((DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))
# Of the tutorial: enough for every class to be in the training images.
SHORT = "images, side, steps = 8, 96, 3"
# What would take most of the time of so short a run.
FASTER = {
    "augment.crop_size": 64,
    "augment.resize_min": 64,
    "augment.resize_max": 80,
    "maps.max_side": 96,
    "refine.method": "none",
    "probe.iterations": 1,
    "recam.min_agreement": 0,
    "runtime.workers": 1,
}


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    return load_script(DOCS / "hooks.py")


def test_every_mark_has_its_text(hooks):
    marks = {name for page in DOCS.glob("*.md") for name in hooks.MARK.findall(page.read_text(encoding="utf-8"))}
    assert marks == set(hooks.GENERATED)
    assert all("<!-- generated" not in hooks.on_page_markdown(f"<!-- generated: {name} -->") for name in marks)


def test_settings_are_all_there_once(hooks):
    text = hooks.settings().replace("<wbr>", "")
    found = re.findall(r"^\| <code>(\S+)</code> \|(?: .*?\|| \|){3}$", text, flags=re.M)
    assert sorted(found) == sorted(key for key in setting_keys() if key != "preset")
    assert '| <code>maps.variant</code> | `"cam"` |' in text
    assert '`"tf_efficientnet_lite0"`; paper: `"resnet50"`' in text


def test_commands_are_all_there_with_every_option(hooks):
    text = hooks.commands()
    assert re.findall(r"^## `recamlabel (\S+)`", text, flags=re.M) == list(COMMANDS)
    for name in COMMANDS:
        verb = cli.get_command(click.Context(cli), name)
        part = text.split(f"## `recamlabel {name}`")[1].split("\n## ")[0]
        shown = [one for one in verb.params if isinstance(one, click.Option) and not one.hidden]
        assert all(option.opts[0] in part for option in shown), name


def test_the_api_page_grows_by_itself(hooks, monkeypatch):
    named = re.findall(r"^::: (\S+)", hooks.api(), flags=re.M)
    public = [name for name in recamlabel.__all__ if not name.startswith("__")]
    assert {name.rpartition(".")[2] for name in named} >= set(public)
    monkeypatch.setattr(recamlabel, "__all__", [*recamlabel.__all__, "setting_keys"])
    monkeypatch.setattr(recamlabel, "setting_keys", setting_keys, raising=False)
    assert "::: recamlabel.config.setting_keys" in hooks.api()


def test_what_a_page_would_fetch_is_found(hooks, tmp_path):
    (tmp_path / "page.html").write_text(
        '<a href="https://a.example"></a><script src="https://b.example/x.js"></script>'
        '<link href="//c.example/y.css" rel="stylesheet"><link rel="canonical" href="https://d.example">'
        '<pre class="mermaid">'
    )
    (tmp_path / "style.css").write_text("@font-face{src:url(https://e.example/f.woff2)} a{background:url(data:x)}")
    found = " ".join(hooks.fetched(tmp_path))
    assert [letter for letter in "abcde" if f"{letter}.example" in found] == ["b", "c", "e"] and "mermaid" in found


def test_the_site_has_every_page():
    """As strict MkDocs has it; here without MkDocs."""
    text = re.sub(r"!!python\S+", "", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    named = set(leaves(yaml.safe_load(text)["nav"]))
    assert named == {page.name for page in DOCS.glob("*.md")}


def leaves(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    else:
        for part in tree if isinstance(tree, list) else tree.values():
            yield from leaves(part)


def test_the_readme_is_short_and_says_how_to_begin():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    first_screen = "\n".join(lines[:40])
    assert len(lines) < 120
    assert all(line in first_screen for line in ("make demo", "make test", "pip install ."))


def test_the_tutorial_is_a_notebook():
    cells = TUTORIAL["cells"]
    assert TUTORIAL["nbformat"] == 4 and len({cell["id"] for cell in cells}) == len(cells)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code[0]["metadata"]["tags"] == ["parameters"]
    said = [output for cell in code for output in cell["outputs"]]
    assert not any(output["output_type"] == "error" or output.get("name") == "stderr" for output in said)
    assert "\\u001b" not in json.dumps(said)  # colours of a terminal
    assert sum("image/png" in output.get("data", {}) for output in said) == 2


def test_the_tutorial_runs(tmp_path, monkeypatch, capfd):
    """Its cells in turn, as a kernel runs them, with fewer images and steps; ``!recamlabel …`` in this process."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    whole = recamlabel.fit
    monkeypatch.setattr(recamlabel, "fit", lambda *given, settings: whole(*given, settings={**settings, **FASTER}))
    space: dict[str, Any] = {"__name__": "__main__", "shell": shell}
    for cell in TUTORIAL["cells"]:
        if cell["cell_type"] == "code":
            source = SHORT if "tags" in cell["metadata"] else "".join(cell["source"])
            source = re.sub(r"^!(.*)$", lambda found: f"shell(f{found[1]!r})", source, flags=re.M)
            exec(compile(source, cell["id"], "exec"), space)
    said = capfd.readouterr().out
    assert "mIoU" in said and "SegmentationClass" in said and len(space["run"]) == 8


def shell(line: str) -> None:
    tool, *arguments = shlex.split(line)
    assert tool == "recamlabel" and command(arguments) == 0, line


def test_the_site_builds_strictly(tmp_path):
    pytest.importorskip("mkdocs", reason="extra docs")
    pytest.importorskip("mkdocstrings", reason="extra docs")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "recamlabel fit" in (tmp_path / "site/commands.html").read_text(encoding="utf-8")
