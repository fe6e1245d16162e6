"""Adapters of other packages: entry points of the group ``recamlabel.adapters``.

A package declares ``[project.entry-points."recamlabel.adapters"]`` with ``name = "module:Class"``.
Nothing of it is imported before it is needed, and whatever it does wrong is told as its fault.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from recamlabel.adapters.base import Adapter, Dataset
from recamlabel.adapters.config import AdapterOptions
from recamlabel.core.plugins import owner
from recamlabel.core.registry import checked
from recamlabel.errors import DatasetError, RecamlabelError

GROUP = "recamlabel.adapters"
_checked = checked("description", "detect", "read")


def guarded(thing: Any, point: EntryPoint) -> Adapter:
    """An adapter of another package, behind a guard that turns its failures into messages."""
    return _Guarded(_checked(thing, point), owner(point))


class _Guarded:
    """An adapter of another package; its exceptions come out as a DatasetError that names the package."""

    def __init__(self, adapter: Adapter, owner: str) -> None:
        self._adapter, self._owner = adapter, owner
        self.name, self.description = adapter.name, adapter.description
        self.accepts_names = bool(getattr(adapter, "accepts_names", False))

    def detect(self, source: Path) -> str | None:
        """As the adapter; a failure is a no."""
        try:
            reason = self._adapter.detect(source)
        except Exception:
            return None
        return reason if isinstance(reason, str) and reason else None

    def read(self, source: Path, options: AdapterOptions) -> Dataset:
        """As the adapter. Raises DatasetError for whatever it raises."""
        try:
            dataset = self._adapter.read(source, options)
        except RecamlabelError:
            raise
        except Exception as error:
            raise DatasetError(
                f"{source}: adapter {self.name!r} of {self._owner} failed: {type(error).__name__}: {error}; "
                "that is a defect of the package, not of recamlabel: report it there, or use --adapter"
            ) from error
        if not isinstance(dataset, Dataset):
            found = type(dataset).__name__
            raise DatasetError(f"{source}: adapter {self.name!r} of {self._owner} gave a {found}; expected a Dataset")
        return dataset
