"""recamlabel: image-level labels in, pixel masks out (ReCAM, CVPR 2022).

import recamlabel

run = recamlabel.fit("photos/labels.csv", "runs/one")
for item in run:
    print(item.id, item.labels, item.mask.shape)
"""

from __future__ import annotations

import importlib
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
    from recamlabel.api import Run, RunImage, fit, open_run
    from recamlabel.config import Config, load_config

__version__ = "0.1.0"

# Loaded when first used: `import recamlabel` stays cheap.
_LAZY = {
    "Config": "recamlabel.config",
    "Run": "recamlabel.api",
    "RunImage": "recamlabel.api",
    "fit": "recamlabel.api",
    "load_config": "recamlabel.config",
    "open_run": "recamlabel.api",
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
    "fit",
    "load_config",
    "open_run",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'recamlabel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
