"""recamlabel: image-level labels in, pixel masks out (ReCAM, CVPR 2022).

import recamlabel

run = recamlabel.fit("photos/labels.csv", "runs/one")
for item in run:
    print(item.id, item.labels, item.mask.shape)
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from recamlabel.errors import (
    ConfigError,
    DatasetError,
    MissingExtraError,
    RecamlabelError,
    StoreError,
    WeightsError,
)

if TYPE_CHECKING:
    from recamlabel.api import (
        Run,
        RunImage,
        calibrate,
        check,
        evaluate,
        export,
        fit,
        label,
        open_run,
        predict,
        report,
        review,
    )
    from recamlabel.config import Config, load_config

__version__ = "0.1.0"

# Loaded when first used: `import recamlabel` stays cheap.
_LAZY = {
    "Config": "recamlabel.config",
    "Run": "recamlabel.api",
    "RunImage": "recamlabel.api",
    "load_config": "recamlabel.config",
    **dict.fromkeys(
        ("calibrate", "check", "evaluate", "export", "fit", "label", "open_run", "predict", "report", "review"),
        "recamlabel.api",
    ),
}

__all__ = [
    "Config",
    "ConfigError",
    "DatasetError",
    "MissingExtraError",
    "RecamlabelError",
    "Run",
    "RunImage",
    "StoreError",
    "WeightsError",
    "__version__",
    "calibrate",
    "callbacks",
    "check",
    "evaluate",
    "export",
    "fit",
    "label",
    "load_config",
    "open_run",
    "predict",
    "report",
    "review",
    "steps",
]


_MODULES = {"callbacks": "recamlabel.api.callbacks", "steps": "recamlabel.api.steps"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'recamlabel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


class _Room(ModuleType):
    """A sub-package that is a verb too: ``recamlabel.export(run, "coco", "out")``."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        verb = self.__name__.rpartition(".")[2]
        return getattr(importlib.import_module("recamlabel.api"), verb)(*arguments, **options)


class _Package(ModuleType):
    """Importing ``recamlabel.export.…`` sets ``recamlabel.export`` to that sub-package, and it is to stay a verb."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _LAZY and isinstance(value, ModuleType):
            value.__class__ = _Room
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
