"""Export formats of other packages, behind a guard that tells their failures as theirs."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from recamlabel.core.plugins import blame, owner
from recamlabel.core.registry import checked
from recamlabel.errors import StoreError
from recamlabel.export.base import Format, Item, Mask, Plan

PARTS = (
    "description",
    "kind",
    "naming",
    "max_classes",
    "image_modes",
    "check",
    "write",
    "image_path",
    "label_files",
    "readings",
)
_checked = checked(*PARTS)


def guarded(thing: Any, point: EntryPoint) -> Format:
    """A format of another package; what it raises comes out as a StoreError that names the package."""
    format_: Format = _Guarded(_checked(thing, point), f"format {point.name!r} of {owner(point)}")
    return format_


class _Guarded:
    """A format as it is, but for what its work raises."""

    name: str
    description: str
    kind: Any
    naming: Any
    max_classes: int
    image_modes: Any

    def __init__(self, format_: Format, who: str) -> None:
        self._format, self._who = format_, who
        for name in ("name", "description", "kind", "naming", "max_classes", "image_modes"):
            setattr(self, name, getattr(format_, name))
        # Nothing of these is an action of its own: what they raise, the reading back tells.
        self.image_path, self.label_files, self.readings = format_.image_path, format_.label_files, format_.readings

    def check(self, plan: Plan) -> None:
        """As the format. Raises StoreError for whatever it raises that is no error of recamlabel."""
        with blame(self._who, StoreError):
            self._format.check(plan)

    def write(self, plan: Plan, folder: Path, masks: Iterator[tuple[Item, Mask]]) -> list[str]:
        """As the format. Raises StoreError for whatever it raises that is no error of recamlabel."""
        with blame(self._who, StoreError):
            return list(self._format.write(plan, folder, masks) or ())
