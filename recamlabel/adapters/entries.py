"""What one entry of a label file says of one image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from recamlabel.adapters.base import Problem


@dataclass(frozen=True, slots=True)
class Entry:
    """What one entry of a label file says of one image.

    Args:
        path: Image path relative to the data root.
        file: The label file, for messages.
        row: Its 1-based line, where the format has lines.
        place: Where else in the file, such as ``images[3]``; ``""`` where the file says it all.
        present: Classes that are in the image.
        unknown: Classes that nothing is known of; all others are absent, unless ``absent`` is given.
        absent: Classes that are not in the image; all others are then unknown.
        split: Its split, or None.
    """

    path: PurePosixPath
    file: Path
    row: int | None
    place: str
    present: frozenset[str]
    unknown: frozenset[str] = frozenset()
    absent: frozenset[str] | None = None
    split: str | None = None

    def problem(self, message: str, *, fatal: bool = True, image_id: str | None = None) -> Problem:
        """A problem at this entry's place."""
        return Problem(f"{self.place}: {message}" if self.place else message, self.file, self.row, fatal, image_id)

    def says(self) -> tuple[object, ...]:
        """All but the place: two entries that say the same are one."""
        return (self.present, self.unknown, self.absent, self.split)
