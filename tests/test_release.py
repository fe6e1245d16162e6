"""What is released: a wheel that works alone, the sdist that makes the same one, citation, container, workflows."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import recamlabel
from recamlabel.cli.main import run as run_command
from recamlabel.config import config_schema, setting_keys

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "recamlabel"
WORKFLOWS = ROOT / ".github/workflows"
RECIPES = [*sorted((ROOT / "recipes").glob("*.toml")), *sorted((PACKAGE / "presets").glob("*.toml"))]
checkout = pytest.mark.skipif(not WORKFLOWS.is_dir(), reason="not a checkout: the sdist leaves these files out")
# A program that imports everything, and says what it found.
IMPORTS = """
import importlib, pkgutil, sys, recamlabel
names = [one.name for one in pkgutil.walk_packages(recamlabel.__path__, "recamlabel.")]
names = [name for name in names if not name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(recamlabel.__file__, len(names))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and sdist of the checkout, and in ``again`` the wheel that the sdist makes."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel (extra dev)")
    out = tmp_path_factory.mktemp("dist")
    build(ROOT, "wheel", out)
    build(ROOT, "sdist", out)
    with tarfile.open(next(out.glob("*.tar.gz"))) as archive:
        archive.extractall(out / "source", filter="data")
    build(next((out / "source").iterdir()), "wheel", out / "again")
    return out


def build(source: Path, target: str, out: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(out)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)


def content(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_the_package_whole_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    files = content(wheel)
    kept = (path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    expected = {path.relative_to(ROOT).as_posix() for path in kept}
    inside = {name for name in files if ".dist-info/" not in name}
    assert inside == expected
    assert inside >= {
        "recamlabel/py.typed",
        "recamlabel/presets/quick.toml",
        "recamlabel/presets/paper.toml",
        "recamlabel/review/page/templates/report.html.j2",
        "recamlabel/review/page/templates/report.css",
        "recamlabel/review/page/templates/editor.js",
    }
    assert not any("test" in Path(name).name for name in inside)
    (metadata,) = (text.decode() for name, text in files.items() if name.endswith("/METADATA"))
    assert f"\nVersion: {recamlabel.__version__}\n" in metadata and "\nClassifier: Typing :: Typed\n" in metadata


def test_the_sdist_makes_the_same_wheel(built):
    (first,), (second,) = built.glob("*.whl"), (built / "again").glob("*.whl")
    assert first.name == second.name and content(first) == content(second)
    (source,) = (built / "source").iterdir()
    assert (source / "tests/test_release.py").is_file() and (source / "recipes/voc12.toml").is_file()


def test_the_wheel_works_alone(built, tmp_path):
    """In an environment of its own, which borrows what recamlabel depends on, far from the checkout."""
    place, (wheel,) = tmp_path / "venv", built.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    python = place / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True)
    (site,) = (place / "lib").glob("python*/site-packages")
    # Behind its own packages; .pth files in there (an editable recamlabel) are not read.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}

    def call(*command: object) -> str:
        options: dict[str, Any] = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
        done = subprocess.run([*map(str, command)], **options, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    program = place / "bin/recamlabel"
    assert recamlabel.__version__ in call(program, "--version")
    assert call(program, "config").startswith("\n[") or "[backbone]" in call(program, "config")
    where, count = call(python, "-c", IMPORTS).split()
    assert Path(where).is_relative_to(site) and int(count) > 250


def test_the_type_marker_is_where_type_checkers_look():
    assert (PACKAGE / "py.typed").read_bytes() == b""


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "version"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0" and citation["version"] == recamlabel.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["license"] == project["license"] and citation["title"] == project["name"]
    assert all({"type", "title", "authors"} <= one.keys() for one in citation["references"])


def test_the_schema_is_one_and_takes_recipes_and_presets(capsys):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema checks the schema (extra dev)")
    assert run_command(["config", "--schema", "--preset", "paper"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    taken = jsonschema.Draft202012Validator(schema)
    for file in RECIPES:
        assert [error.message for error in taken.iter_errors(tomllib.loads(file.read_text()))] == [], file
    wrong = [{"maskz": {}}, {"masks": {"treshold": 0.4}}, {"seed": -1}, {"recam": {"lr": "fast"}}, {"preset": "slow"}]
    for tree in wrong:
        assert len([*taken.iter_errors(tree)]) == 1, tree
    properties = schema["properties"]
    assert properties["backbone"]["properties"]["name"]["default"] == "resnet50"  # of --preset paper
    assert "patchmemory" in properties["maps"]["properties"]["variant"]["anyOf"][0]["enum"]
    assert taken.is_valid({"maps": {"variant": "of-a-plug-in"}})


def test_every_setting_is_in_the_schema_with_its_meaning():
    def leaves(node: dict[str, Any], prefix: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, part in node["properties"].items():
            key = f"{prefix}{name}"
            found |= leaves(part, f"{key}.") if "properties" in part else {key: part.get("description", "")}
        return found

    schema = config_schema()
    assert leaves(schema, "") == setting_keys() and all(setting_keys().values())
    assert "$ref" not in json.dumps(schema)


@checkout
def test_the_container_is_built_from_what_it_is_given():
    text = (ROOT / "Dockerfile").read_text()
    lines = re.sub(r"\\\n", " ", text).splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    last = max(number for number, (word, _) in enumerate(steps) if word == "FROM")
    final = dict(steps[last:])
    assert (
        final["ENTRYPOINT"] == '["recamlabel"]' and final["USER"] not in ("root", "0") and final["WORKDIR"] == "/work"
    )
    stages = re.findall(r"^FROM \S+ AS (\w+)$", text, re.MULTILINE)
    assert {"cpu", "cuda"} <= set(stages) and steps[0] == ["ARG", "DEVICE=cpu"] and final["FROM"] == "${DEVICE}"
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for word, rest in steps:
        if word == "COPY" and not rest.startswith("--from"):
            for name in rest.split()[:-1]:
                assert (ROOT / name).exists() and f"!{name}" in ignored, name
    assert "*" in ignored


@checkout
def test_the_dockerfile_has_nothing_that_hadolint_minds():
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed (extra dev)")
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.stdout == "" and done.returncode == 0


@checkout
@pytest.mark.slow
def test_the_container_runs():
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True, check=False).returncode:
        pytest.skip("no docker here, or its daemon does not answer")
    if not os.environ.get("RECAMLABEL_TEST_DOCKER"):
        pytest.skip("downloads gigabytes: asked for with RECAMLABEL_TEST_DOCKER=1")
    subprocess.run([docker, "build", "--quiet", "--tag", "recamlabel-test", str(ROOT)], check=True)
    said = subprocess.check_output([docker, "run", "--rm", "recamlabel-test", "--version"], text=True)
    assert recamlabel.__version__ in said


def workflow(name: str) -> dict[str, Any]:
    tree: dict[Any, Any] = yaml.safe_load((WORKFLOWS / f"{name}.yml").read_text())
    # YAML 1.1 reads the key `on` as true.
    return {"on" if key is True else key: value for key, value in tree.items()}


@checkout
@pytest.mark.parametrize("name", ["tests", "docs", "publish"])
def test_a_workflow_is_one(name):
    tree = workflow(name)
    assert tree.keys() >= {"name", "on", "permissions", "jobs"} and tree["permissions"] == {"contents": "read"}
    assert tree.keys() <= {"name", "on", "permissions", "concurrency", "jobs"}
    text = (WORKFLOWS / f"{name}.yml").read_text()
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for job in tree["jobs"].values():
        known = {"if", "needs", "runs-on", "timeout-minutes", "permissions", "environment", "strategy", "steps"}
        assert {"runs-on", "timeout-minutes", "steps"} <= job.keys() <= known
        assert set([job["needs"]] if "needs" in job else []) <= tree["jobs"].keys()
        for step in job["steps"]:
            assert step.keys() <= {"name", "id", "if", "uses", "with", "env", "run"}
            assert ("uses" in step) != ("run" in step)
            assert "uses" not in step or re.fullmatch(r"[\w-]+/[\w-]+@[\w./-]+", step["uses"])
            # An expression in a script is a way in for whoever chooses its value; env is none.
            assert "${{" not in step.get("run", "")
            for target in re.findall(r"^make (\w+)", step.get("run", ""), re.MULTILINE):
                assert target in {*targets, "docs"}, target
    assert text.count("${{") == text.count("}}")
    for expression in re.findall(r"\$\{\{ (\S+) \}\}", text):
        assert expression.split(".")[0] in {"github", "matrix", "steps"}, expression
    assert "secrets." not in text


@checkout
def test_what_the_workflows_are_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    supported = [name for line in project["classifiers"] for name in re.findall(r"Python :: (3\.\d+)$", line)]
    tests = workflow("tests")["jobs"]
    assert tests["test"]["strategy"]["matrix"]["python"] == supported
    runs = [step.get("run") for job in tests.values() for step in job["steps"]]
    assert "make test PYTHON=python" in runs and "make lint" in runs
    assert "make docs" in [step.get("run") for step in workflow("docs")["jobs"]["build"]["steps"]]
    publish = workflow("publish")["jobs"]
    assert publish["publish"]["permissions"] == {"id-token": "write"} and "permissions" not in publish["build"]
    assert publish["publish"]["steps"][-1]["uses"] == "pypa/gh-action-pypi-publish@release/v1"
    assert "with" not in publish["publish"]["steps"][-1]  # no token: trusted publishing


@checkout
def test_the_version_that_is_published_is_the_one_in_the_package():
    """As the workflow reads it."""
    script = next(step["run"] for step in workflow("publish")["jobs"]["build"]["steps"] if "TAG" in step.get("env", {}))
    for tag, code in ((f"v{recamlabel.__version__}", 0), ("v99.0", 1)):
        command = ["bash", "-e", "-c", script]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "TAG": tag}, capture_output=True, check=False)
        assert done.returncode == code


@checkout
def test_actionlint_minds_nothing():
    actionlint = shutil.which("actionlint")
    if actionlint is None:
        pytest.skip("actionlint is not installed; the workflows are parsed and checked above")
    subprocess.run([actionlint, *map(str, WORKFLOWS.glob("*.yml"))], check=True)


def test_the_package_is_typed_throughout():
    """Whoever relies on the marker finds annotations: every public function has all of them."""
    bare = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.returns is None:
                bare.append(f"{path.name}: {node.name}")
    assert bare == []
