"""The layers of DESIGN.md: a module imports base modules and smaller numbers only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import recamlabel

ROOT = Path(recamlabel.__file__).parent
ORDER = {
    "adapters": 1,
    "data": 2,
    "models": 3,
    "training": 4,
    "maps": 5,
    "refine": 6,
    "masks": 7,
    "segment": 8,
    "evaluation": 8,
    "export": 9,
    "review": 10,
    "intake": 11,
    "stages": 11,
    "api": 11,
    "pipeline": 11,
    "plan": 11,
    "execute": 11,
    "redo": 11,
    "rounds": 11,
    "next_round": 11,
    "inference": 11,
    "cli": 12,
    "__init__": 13,
    "__main__": 13,
    "demo": 0,
}


def layer(module: str) -> int:
    parts = module.split(".")
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
    assert layer("recamlabel.maps.build") > layer("recamlabel.data.catalog") > layer("recamlabel.config")


def test_only_evaluation_opens_true_masks():
    """No module outside evaluation (and what calls it by name) knows of a truth folder."""
    allowed = {"evaluation", "cli", "review", "demo"}
    # Used where `review.use` says that there are known masks: a reviewer's, never a truth folder's.
    told = {"stages/reviewed.py", "stages/masks.py"}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).parts
        if parts[0] not in allowed and "/".join(parts) not in told:
            assert "recamlabel.evaluation" not in " ".join(imported(path)), path


def test_importing_the_package_is_cheap():
    code = "import sys, recamlabel; print([m for m in ('torch', 'fiftyone', 'pydensecrf', 'h5py') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_modules_stay_short():
    long = {str(path): count for path in ROOT.rglob("*.py") if (count := len(path.read_text().splitlines())) > 300}
    assert long == {}
