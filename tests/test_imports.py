"""The house of docs/architecture.md: a module imports rooms above it only, and no room is crowded."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import recamlabel

ROOT = Path(recamlabel.__file__).parent
ROOMS = (
    ("errors", "core", "storage", "demo"),
    ("adapters",),
    ("data",),
    ("models",),
    ("training",),
    ("gate",),
    ("maps",),
    ("refine",),
    ("masks",),
    ("segment",),
    ("config",),
    ("evaluation",),
    ("stages",),
    ("run",),
    ("export",),
    ("review", "contracts"),
    ("api", "cli", "__init__", "__main__"),
)
ORDER = {name: number for number, names in enumerate(ROOMS) for name in names}
# What may lie loose at the package's root, and how many files a folder may hold.
LOOSE, LARGEST, LARGE = 5, 15, {"stages", "cli"}


def layer(module: str) -> int:
    """Number of a module's room. Settings are plain data: a room's ``config`` is known to every room."""
    parts = module.split(".")
    if len(parts) == 3 and parts[2] == "config" and parts[1] != "cli":
        return 0
    return ORDER.get(parts[1], 0) if len(parts) > 1 else 0


def imported(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("recamlabel"):
            names.append(node.module)
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names if alias.name.startswith("recamlabel")]
    return names


def module_name(path: Path) -> str:
    return ".".join(("recamlabel", *path.relative_to(ROOT).with_suffix("").parts))


def test_modules_import_smaller_layers_only():
    wrong = [
        f"{module_name(path)} imports {name}"
        for path in ROOT.rglob("*.py")
        for name in imported(path)
        if layer(name) > layer(module_name(path))
    ]
    assert wrong == []


def test_the_rule_can_fail():
    assert layer("recamlabel.maps.build") > layer("recamlabel.data.catalog") > layer("recamlabel.core.arrays")


def test_only_evaluation_opens_true_masks():
    """No module outside evaluation (and what calls it by name) knows of a truth folder."""
    allowed = {"evaluation", "cli", "review", "demo"}
    # Used where `review.use` says that there are known masks: a reviewer's, never a truth folder's; and the functions
    # that are given a truth folder by name.
    told = {"stages/masks.py", "api/with_truth.py", "api/__init__.py"}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).parts
        if parts[0] not in allowed and "/".join(parts) not in told:
            assert "recamlabel.evaluation" not in " ".join(imported(path)), path


def test_importing_the_package_is_cheap():
    code = "import sys, recamlabel; print([m for m in ('torch', 'fiftyone', 'pydensecrf', 'h5py') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_rooms_stay_small():
    counts = {folder: len(list(folder.glob("*.py"))) for folder in (ROOT, *ROOT.rglob("*")) if folder.is_dir()}
    assert counts.pop(ROOT) <= LOOSE
    assert {folder.name: count for folder, count in counts.items() if count > LARGEST}.keys() <= LARGE


def test_functions_stay_short():
    """At most 40 lines without the docstring; a module is one idea, however long."""
    long = []
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                doc = node.body[0] if ast.get_docstring(node) is not None else None
                lines = node.end_lineno - node.body[0].lineno + 1 - (doc.end_lineno - doc.lineno + 1 if doc else 0)
                if lines > 40:
                    long.append(f"{module_name(path)}.{node.name}: {lines}")
    assert long == []
