"""``examples/plugin`` as a person uses it: installed by pip, without network, and run by the command line."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import recamlabel
from recamlabel.cli.doctor import plugins
from recamlabel.cli.main import run as run_command
from recamlabel.run.status import stage_rows
from recamlabel.storage.run_folder import RunFolder
from tests.helpers import TINY_SEGMENTER, make_tiny_csv

pytest.importorskip("hatchling", reason="hatchling builds the example (extra dev)")

ROOT = Path(recamlabel.__file__).parents[1]
EXAMPLE = Path(__file__).parents[1] / "examples/plugin"
THEIRS = ["maps.variant=smoothcam", "refine.method=guided", "segmenter.method=fcn"]


def test_the_page_shows_the_code_as_it_is():
    page = (ROOT / "docs/plugins.md").read_text()
    shown = re.findall(r"```python\n# (\S+)\n(.*?)```", page, flags=re.DOTALL)
    assert len(shown) == page.count("```python") == 6
    for file, code in shown:
        assert code in (ROOT / file).read_text(), file
    declared = (EXAMPLE / "pyproject.toml").read_text()
    assert re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)[0] in declared


@pytest.mark.parametrize("name", ["tags", "smoothcam", "guided", "guided_moves_a_map_to_the_edge", "fcn", "npz"])
def test_its_own_tests_pass(name, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    spec = importlib.util.spec_from_file_location("example_contracts", EXAMPLE / "tests/test_contracts.py")
    tests = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tests)
    test = getattr(tests, f"test_{name}")
    test(tmp_path) if inspect.signature(test).parameters else test()
    forget()


def forget() -> None:
    """The next test imports the example from where it finds it."""
    for name in [name for name in sys.modules if name.startswith("recamlabel_example")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip put the example."""
    base = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLE, base / "source", ignore=shutil.ignore_patterns("__pycache__", "dist"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(base / "site"), str(base / "source")], check=True)
    return base / "site"


def call(site: Path, *arguments: object, code: int = 0) -> str:
    """What ``recamlabel`` says with the packages of a folder beside it."""
    path = os.pathsep.join([str(site), str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "recamlabel", *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set, its labels in a file beside each image."""
    folder = make_tiny_csv(tmp_path_factory.mktemp("photos"))
    for row in (folder / "labels.csv").read_text().splitlines()[1:]:
        name, labels, _ = row.split(",")
        (folder / name).with_suffix(".tags").write_text(", ".join(labels.split()))
    (folder / "labels.csv").unlink()
    (folder / "classes.txt").unlink()
    return folder


@pytest.fixture(scope="module")
def made(site: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that the example has a part in everywhere."""
    run = tmp_path_factory.mktemp("run") / "run"
    lines = [*TINY_SEGMENTER, "probe.enabled=false", *THEIRS]
    settings = [part for line in lines for part in ("--set", line)]
    assert "read as 'tags': .tags files beside images" in call(site, "fit", photos, "--out", run, *settings)
    return run


def test_the_format_is_read(site, photos):
    said = call(site, "check", photos)
    assert "read as 'tags': .tags files beside images" in said and "8 images" in said


def test_everything_of_it_makes_masks(made, photos):
    run = RunFolder.open(made)
    assert run.state.dataset["adapter_package"] == "recamlabel-example 0.1.0"
    with h5py.File(made / "work/cams.h5") as maps, h5py.File(made / "segmenter.h5") as masks:
        assert maps.attrs["variant"] == "smoothcam" and maps["cam/images/0"][()].max() > 0.99
        assert masks["images/0"].shape == (64, 80)
    # Each stage that reads a setting of theirs says by whose work, and no other.
    keys = {name: record["key"] for name, record in run.state.stages.items() if record["key"] in run.state.inputs}
    said = {name: run.state.inputs[key]["facts"] for name, key in keys.items()}
    theirs = {name: sorted(key for key in facts if key.startswith("plug-in")) for name, facts in said.items()}
    assert theirs["cams"] == ["plug-in of maps.variant"] and theirs["segmenter"] == ["plug-in of segmenter.method"]
    assert "plug-in of refine.method" in theirs["refine"] and theirs["classifier"] == theirs["features"] == []
    assert said["cams"]["plug-in of maps.variant"] == "recamlabel-example 0.1.0"
    assert run.state.stages["refine"]["versions"]["recamlabel-example"] == "0.1.0"
    assert "recamlabel-example" not in run.state.stages["classifier"]["versions"]


def test_its_export_is_read_back(site, made, tmp_path):
    said = call(site, "export", made, "--format", "npz", "--out", tmp_path / "out")
    assert "verified: masks: read with NumPy" in said and "npz: 8 images in" in said
    with np.load(tmp_path / "out/masks/images/0.npz") as stored:
        assert np.array_equal(stored["mask"], np.array(Image.open(made / "masks/images/0.png")))
    assert (tmp_path / "out/classes.txt").read_text().split() == ["background", "blue", "red"]


def test_another_version_makes_its_stages_outdated(site, made, tmp_path, monkeypatch):
    newer = tmp_path / "site"
    shutil.copytree(site, newer)
    (info,) = newer.glob("*.dist-info")
    text = (info / "METADATA").read_text()
    (info / "METADATA").write_text(text.replace("Version: 0.1.0", "Version: 0.2.0"))
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(newer))
        rows = {row.stage: row for row in stage_rows(RunFolder.open(made))}
    assert rows["classifier"].state == "finished" and rows["cams"].state == rows["masks"].state == "outdated"
    assert rows["cams"].because == "plug-in of maps.variant: recamlabel-example 0.1.0 -> recamlabel-example 0.2.0"
    monkeypatch.syspath_prepend(str(site))
    assert {row.state for row in stage_rows(RunFolder.open(made))} == {"finished"}


def test_without_the_package_what_is_made_stays_of_use(made, tmp_path, capfd):
    """In this process, which has never heard of it."""
    assert run_command(["export", str(made), "--format", "voc", "--out", str(tmp_path / "out")]) == 0
    assert run_command(["report", str(made)]) == 0
    capfd.readouterr()
    assert run_command(["fit", str(made)]) == 2
    assert "refine.method: unknown 'guided'. The methods are: auto, none, crf" in capfd.readouterr().err


def test_doctor_lists_what_is_there_and_what_is_wrong(site, tmp_path, monkeypatch):
    beside = tmp_path / "site"
    shutil.copytree(site, beside)
    info = beside / "greedy-3.0.dist-info"
    info.mkdir()
    (beside / "greedy.py").write_text("raise RuntimeError('no licence')")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greedy\nVersion: 3.0\n")
    (info / "entry_points.txt").write_text("[recamlabel.refiners]\ncrf = greedy:x\nwild = greedy:x\n")
    monkeypatch.syspath_prepend(str(beside))
    found = {one.name: (one.good, one.text) for one in plugins()}
    forget()
    assert found == {
        "adapter tags": (True, "recamlabel-example 0.1.0, recamlabel_example.tags:TagsAdapter"),
        "variant smoothcam": (True, "recamlabel-example 0.1.0, recamlabel_example.smoothcam:smoothcam"),
        "method guided": (True, "recamlabel-example 0.1.0, recamlabel_example.guided:GUIDED"),
        "segmenter fcn": (True, "recamlabel-example 0.1.0, recamlabel_example.fcn:Fcn"),
        "format npz": (True, "recamlabel-example 0.1.0, recamlabel_example.npz:NpzFormat"),
        "method crf": (
            False,
            "method 'crf' of the package greedy is not used: recamlabel has one of its own by that name; ask the "
            "package to rename it (greedy 3.0)",
        ),
        "method wild": (
            False,
            "method 'wild' of the package greedy (greedy:x) cannot be loaded: RuntimeError: no licence; repair or "
            "uninstall the package (greedy 3.0)",
        ),
    }
