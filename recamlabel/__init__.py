"""recamlabel: image-level labels in, pixel masks out (ReCAM, CVPR 2022)."""

from __future__ import annotations

from recamlabel.errors import (
    ConfigError,
    DatasetError,
    MissingExtraError,
    RecamlabelError,
    StoreError,
    WeightsError,
)

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "DatasetError",
    "MissingExtraError",
    "RecamlabelError",
    "StoreError",
    "WeightsError",
    "__version__",
]
