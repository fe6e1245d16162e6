"""Adapters of other packages: a small example, installed by hand, and broken ones that break nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import recamlabel

EXAMPLE = '''
"""An example: labels in 'NAME: label, label' lines of labels.list."""

from pathlib import Path, PurePosixPath

from recamlabel.adapters.assemble import Draft, Entry, assemble
from recamlabel.adapters.base import Dataset
from recamlabel.adapters.config import AdapterOptions


class ListAdapter:
    name = "list"
    description = "a labels.list file with 'image: label, label' lines"

    def detect(self, source: Path) -> str | None:
        return "a .list file" if source.suffix == ".list" else None

    def read(self, source: Path, options: AdapterOptions) -> Dataset:
        draft = Draft(self.name, source.parent.resolve(), source)
        for row, line in enumerate(source.read_text().splitlines(), start=1):
            name, _, labels = line.partition(":")
            present = frozenset(label.strip() for label in labels.split(",") if label.strip())
            draft.entries.append(Entry(PurePosixPath(name.strip()), source, row, "", present))
        return assemble(draft, options)
'''


def install(site: Path, package: str, module: str, points: dict[str, str]) -> None:
    """What pip would leave behind: a module, and a dist-info folder with METADATA and entry_points.txt."""
    site.mkdir(parents=True, exist_ok=True)
    (site / f"{package}.py").write_text(module)
    info = site / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[recamlabel.adapters]", *lines, ""]))


def python(site: Path, code: str) -> str:
    """The output of a fresh interpreter that sees the packages in ``site``."""
    root = Path(recamlabel.__file__).parent.parent
    path = os.pathsep.join([str(site), str(root), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    head = "from pathlib import Path\nfrom recamlabel.adapters import *\nfrom recamlabel.errors import *\n"
    result = subprocess.run(
        [sys.executable, "-c", head + code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    install(tmp_path / "site", "recamlabel_list", EXAMPLE, {"list": "recamlabel_list:ListAdapter"})
    return tmp_path / "site"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jpg").write_bytes(b"")
    (tmp_path / "my.list").write_text("a.jpg: cat, dog\nb.jpg:\n")
    return tmp_path / "my.list"


def refused(site: Path, call: str) -> str:
    return python(site, f"try:\n    {call}\nexcept DatasetError as error:\n    print(error)\n")


def test_an_adapter_of_another_package_is_found_and_named(site: Path, source: Path) -> None:
    show = "print(d.adapter, d.notes[0], [sorted(i.present) for i in d.images], d.problems)"
    expected = "list read as 'list': a .list file [['cat', 'dog'], []] ()"
    assert python(site, f"d = load_dataset(Path({str(source)!r}))\n{show}") == expected
    named = python(site, f"d = load_dataset(Path({str(source)!r}), 'list')\n{show}")
    assert named == expected.replace("a .list file", "as asked")
    assert "unknown 'lisst', did you mean 'list'? The adapters are: auto, voc" in refused(site, "get_adapter('lisst')")


def test_it_is_not_imported_before_it_is_needed(site: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,labels\na.jpg,cat\n")
    code = f"load_dataset(Path({str(tmp_path / 'labels.csv')!r}))\nimport sys\nprint('recamlabel_list' in sys.modules)"
    assert python(site, code) == "False"


@pytest.mark.parametrize(
    ("module", "value", "message"),
    [
        (
            "import no_such_module",
            "broken:A",
            "cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("", "broken:A", "cannot be loaded: AttributeError"),
        ("def A(: pass", "broken:A", "cannot be loaded: SyntaxError"),
        ("class A:\n    def __init__(self): 1 / 0", "broken:A", "cannot be loaded: ZeroDivisionError"),
        ("class A:\n    name = 'broken'", "broken:A", "has no description, detect, read"),
        (EXAMPLE, "broken:ListAdapter", "calls itself 'list'; expected the name of its entry point"),
    ],
)
def test_a_broken_one_is_told_and_breaks_nothing(
    module: str, value: str, message: str, site: Path, source: Path, tmp_path: Path
) -> None:
    install(site, "broken", module, {"broken": value})
    found = refused(site, "get_adapter('broken')")
    assert found.startswith(f"adapter 'broken' of the package broken ({value}) ")
    assert message in found
    # The built-in ones and the other package's work as before.
    assert python(site, f"print(load_dataset(Path({str(source)!r})).adapter)") == "list"
    (tmp_path / "labels.csv").write_text("image,labels\na.jpg,cat\n")
    assert python(site, f"print(load_dataset(Path({str(tmp_path / 'labels.csv')!r})).adapter)") == "csv"
    (tmp_path / "notes.md").write_text("")
    unknown = refused(site, f"detect(Path({str(tmp_path / 'notes.md')!r}))")
    assert "\n  list: a labels.list file" in unknown
    assert f"\nnot asked: adapter 'broken' of the package broken ({value}) " in unknown


def test_failures_while_reading_are_that_packages(site: Path, tmp_path: Path) -> None:
    module = (
        "class A:\n    name, description = 'bad', ''\n    def detect(self, source): raise KeyError(1)\n"
        "    def read(self, source, options): return {}[2]\n"
        "class B(A):\n    name = 'worse'\n    def read(self, source, options): return 3\n"
    )
    install(site, "bad", module, {"bad": "bad:A", "worse": "bad:B"})
    (tmp_path / "x.md").write_text("")
    place = f"Path({str(tmp_path / 'x.md')!r})"
    found = refused(site, f"load_dataset({place}, 'bad')")
    assert "adapter 'bad' of the package bad failed: KeyError: 2; that is a defect of the package" in found
    assert "gave a int; expected a Dataset" in refused(site, f"load_dataset({place}, 'worse')")
    assert "no adapter recognises" in refused(site, f"detect({place})")


def test_built_in_names_stay_built_in_and_two_packages_cannot_share_one(site: Path, source: Path) -> None:
    install(
        site, "greedy", EXAMPLE.replace('"list"', '"csv"'), {"csv": "greedy:ListAdapter", "list": "greedy:ListAdapter"}
    )
    assert python(site, "print(type(get_adapter('csv')).__name__)") == "CsvAdapter"
    (source.parent / "labels.csv").write_text("image,labels\na.jpg,cat\n")
    asked = f"print(load_dataset(Path({str(source.parent / 'labels.csv')!r}), 'csv').notes[1])"
    assert python(site, asked).startswith(
        "adapter 'csv' of the package greedy is not used: recamlabel has one of its own"
    )
    owners = "the package greedy, the package recamlabel_list"
    message = f"adapter 'list' is offered by 2 packages ({owners}); uninstall all but one"
    assert refused(site, "get_adapter('list')") == message
