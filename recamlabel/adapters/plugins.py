"""Adapters of other packages: entry points of the group ``recamlabel.adapters``.

A package declares ``[project.entry-points."recamlabel.adapters"]`` with ``name = "module:Class"``.
Nothing of it is imported before it is needed, and whatever it does wrong is told as its fault.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from recamlabel.adapters.base import Adapter, Dataset
from recamlabel.adapters.config import AdapterOptions
from recamlabel.errors import DatasetError, RecamlabelError

GROUP = "recamlabel.adapters"


def plugin_names(built_in: Collection[str]) -> tuple[str, ...]:
    """Names of the other packages' adapters, sorted, without importing one; built-in names stay built in."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)} - {*built_in, "auto"}))


def load_plugin(name: str) -> Adapter:
    """One adapter of another package, behind a guard that turns its failures into messages.

    Raises:
        DatasetError: It cannot be imported, is no adapter, or two packages offer the name.
    """
    points = list(entry_points(group=GROUP, name=name))
    if len(points) > 1:
        owners = ", ".join(sorted(map(_owner, points)))
        raise DatasetError(f"adapter {name!r} is offered by {len(points)} packages ({owners}); uninstall all but one")
    if not points:
        raise DatasetError(f"no package offers an adapter {name!r} (entry point group {GROUP})")
    return _load(points[0])


def load_plugins(built_in: Collection[str]) -> tuple[list[Adapter], list[str]]:
    """All adapters of other packages that can be loaded, and a message for each that cannot."""
    loaded, broken = [], []
    for name in plugin_names(built_in):
        try:
            loaded.append(load_plugin(name))
        except DatasetError as error:
            broken.append(str(error))
    return loaded, broken


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


def _load(point: EntryPoint) -> Adapter:
    owner = _owner(point)
    who = f"adapter {point.name!r} of {owner} ({point.value})"
    try:
        loaded = point.load()
        adapter = loaded() if isinstance(loaded, type) else loaded
    except Exception as error:
        raise DatasetError(
            f"{who} cannot be loaded: {type(error).__name__}: {error}; mend or uninstall the package"
        ) from error
    lacking = [part for part in ("name", "description", "detect", "read") if not hasattr(adapter, part)]
    if lacking:
        raise DatasetError(f"{who} is no adapter: it has no {', '.join(lacking)}; mend or uninstall the package")
    if adapter.name != point.name:
        raise DatasetError(f"{who} calls itself {adapter.name!r}; expected the name of its entry point")
    return _Guarded(adapter, owner)


def _owner(point: EntryPoint) -> str:
    return f"the package {point.dist.name}" if point.dist is not None else "an installed package"
