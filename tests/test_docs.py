"""What the documentation says of the code is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import recamlabel
from recamlabel.cli.main import run as command

ROOT = Path(recamlabel.__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = [path for folder in ("recamlabel", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]


def test_every_section_that_code_cites_is_there():
    sections = set(re.findall(r"^## (\d)\.", (ROOT / "docs/method.md").read_text(), flags=re.M))
    cited = {}
    for path in SOURCES:
        for found in re.findall(r"docs/method\.md, (\d)(?: and (\d))?", path.read_text()):
            cited |= {number: path for number in found if number}
    assert len(cited) >= 6 and set(cited) <= sections
    elsewhere = [path for path in SOURCES if path != Path(__file__) and "METHOD" in path.read_text()]
    assert elsewhere == []


@pytest.mark.parametrize("options", [["--all"], ["--all", "--mermaid"]])
def test_the_stages_of_the_page_are_those_of_the_code(options, capsys):
    assert command(["stages", *options]) == 0
    assert capsys.readouterr().out.strip() in (ROOT / "docs/architecture.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


def test_modules_that_pages_name_are_there():
    for page in PAGES[2:]:
        for name in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", page.read_text()):
            assert (ROOT / "recamlabel" / name).is_file() or (ROOT / name).is_file(), (page.name, name)
