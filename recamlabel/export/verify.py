"""Reading an export back, pixel by pixel, before it is put in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recamlabel.core.progress import track
from recamlabel.errors import RecamlabelError, StoreError
from recamlabel.export.base import Format, Item, Plan, Reading
from recamlabel.export.encode.pngs import check_size
from recamlabel.export.mask_sources import MaskFiles, read_mask

CHECKED_IMAGES = 100


@dataclass(frozen=True)
class Check:
    """A reading that agreed with the run.

    Args:
        part: Which files.
        reader: What read them, with its version.
        images: Images that were compared pixel by pixel.
        exact: Whether the pixels are the run's masks, or what the format can hold of them.
    """

    part: str
    reader: str
    images: int
    exact: bool

    def __str__(self) -> str:
        what = "equal to the masks" if self.exact else "equal to what the format can hold of the masks"
        return f"{self.part}: read with {self.reader}, {self.images} images {what}"


def verify(format_: Format, plan: Plan, folder: Path, source: MaskFiles) -> list[Check]:
    """Compare the first 100 images of an export with the run's masks, and look at every label file.

    Args:
        format_: The format.
        plan: What was exported.
        folder: Where it lies.
        source: The run's masks.

    Raises:
        StoreError: A file is missing or unreadable, or a pixel differs.
    """
    with track(f"verify {format_.name}", len(plan.items)) as advance:
        for item in plan.items:
            for name in format_.label_files(item):
                check_size(folder / name, item)
            advance()
    items = plan.items[:CHECKED_IMAGES]
    try:
        return [_compare(reading, items, plan, source) for reading in format_.readings(plan, folder, items)]
    except RecamlabelError:
        raise
    except (LookupError, ValueError, OSError, TypeError, AttributeError, SyntaxError) as error:
        raise StoreError(
            f"{format_.name}: the export does not read back ({type(error).__name__}: {error}) and was removed; "
            "this is a defect of recamlabel or of the reader, --no-verify keeps the export"
        ) from error


def _compare(reading: Reading, items: Sequence[Item], plan: Plan, source: MaskFiles) -> Check:
    seen: set[str] = set()
    exact = True
    for item, found in reading.masks:
        mask = read_mask(source, item, plan.classes)
        expected = reading.expected(mask)
        exact = exact and bool(np.array_equal(expected, mask))
        if found.shape != expected.shape or not np.array_equal(found, expected):
            wrong = int((found != expected).sum()) if found.shape == expected.shape else found.size
            raise StoreError(
                f"{reading.part}: {wrong} pixels of {item.id!r} differ when read with {reading.reader} "
                f"(read {found.shape}, expected {expected.shape}); the export was removed, --no-verify keeps it"
            )
        seen.add(item.id)
    missing = [item.id for item in items if item.id not in seen]
    if missing:
        raise StoreError(f"{reading.part}: {missing[0]!r} does not come back when read with {reading.reader}")
    return Check(reading.part, reading.reader, len(seen), exact)
