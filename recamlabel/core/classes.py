"""Class names and the numbers that stand for them in masks.

Nobody else knows that 0 is background or that 255 means "ignore".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recamlabel.core.printable import is_text
from recamlabel.errors import DatasetError

BACKGROUND_ID = 0
BACKGROUND_NAME = "background"
MAX_CLASSES_8BIT = 254
MAX_CLASSES = 65534


@dataclass(frozen=True)
class ClassTable:
    """The foreground classes of a data set, in id order.

    Class ``names[i]`` has id ``i + 1``; id 0 is background. Up to 254 classes masks are
    8-bit and the ignore id is 255; above that they are 16-bit and it is 65535.

    Args:
        names: Unique, non-empty class names, at least one and at most 65534.
        background: False where every pixel belongs to a labelled class (``data.background``): then id 0 stands for
            nothing, and no pixel may have it.

    Raises:
        DatasetError: No name, an empty name, a name twice, or too many names.

    Example:
        >>> table = ClassTable(("scratch", "dent"))
        >>> table.id_of("dent"), table.name_of(1), table.ignore_id
        (2, 'scratch', 255)
    """

    names: tuple[str, ...]
    background: bool = True

    def __post_init__(self) -> None:
        if not self.names:
            raise DatasetError("no class: a data set needs at least one class name with a label")
        if len(self.names) > MAX_CLASSES:
            raise DatasetError(f"{len(self.names)} classes: at most {MAX_CLASSES} can be written to a mask")
        seen: set[str] = set()
        for position, name in enumerate(self.names, start=1):
            if not name.strip():
                raise DatasetError(f"class {position} of {len(self.names)} has an empty name")
            if not is_text(name):
                raise DatasetError(f"class name {name!r} holds half of a character; expected text that UTF-8 can hold")
            if name in seen:
                raise DatasetError(f"class name {name!r} stands twice in the class list")
            seen.add(name)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name: index + 1 for index, name in enumerate(self.names)}

    @property
    def ignore_id(self) -> int:
        """The mask value of pixels without a label (255, or 65535 above 254 classes)."""
        return 255 if len(self.names) <= MAX_CLASSES_8BIT else 65535

    @property
    def mask_dtype(self) -> np.dtype[np.generic]:
        """``uint8`` up to 254 classes, ``uint16`` above."""
        return np.dtype(np.uint8 if len(self.names) <= MAX_CLASSES_8BIT else np.uint16)

    def id_of(self, name: str) -> int:
        """Id of a class name (1..K). Raises DatasetError for a name that is not in the table."""
        try:
            return self._ids[name]
        except KeyError:
            shown = ", ".join(self.names[:20]) + (", …" if len(self.names) > 20 else "")
            raise DatasetError(f"unknown class {name!r}; the classes are: {shown}") from None

    def name_of(self, class_id: int) -> str:
        """Name of a class id (0..K; 0 gives ``"background"``)."""
        return BACKGROUND_NAME if class_id == BACKGROUND_ID else self.names[class_id - 1]

    def ids_of(self, names: Iterable[str]) -> list[int]:
        """Sorted ids of several class names."""
        return sorted(self.id_of(name) for name in names)

    def candidates(self, names: Iterable[str]) -> list[int]:
        """Sorted ids that a pixel of an image with these classes may have, the background's if there is one.

        Example:
            >>> ClassTable(("a", "b")).candidates(["b"]), ClassTable(("a", "b"), background=False).candidates(["b"])
            ([0, 2], [2])
        """
        return [*([BACKGROUND_ID] if self.background else []), *self.ids_of(names)]


class OtherNames(Set[str]):
    """All names but some, without a copy of them: 20,000 images with 20,000 classes hold 400 million absent ones.

    Args:
        names: All names, shared by all images.
        without: Those that are left out.

    Example:
        >>> others = OtherNames(frozenset("abc"), frozenset("b"))
        >>> len(others), "a" in others, others == frozenset("ac"), sorted(others | frozenset("d"))
        (2, True, True, ['a', 'c', 'd'])
    """

    __slots__ = ("_names", "_without")

    def __init__(self, names: frozenset[str], without: frozenset[str]) -> None:
        self._names, self._without = names, without & names

    def __contains__(self, name: object) -> bool:
        return name in self._names and name not in self._without

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._names if name not in self._without)

    def __len__(self) -> int:
        return len(self._names) - len(self._without)

    def __hash__(self) -> int:
        return self._hash()

    def __repr__(self) -> str:
        return repr(frozenset(self))

    @classmethod
    def _from_iterable(cls, names: Iterable[str]) -> frozenset[str]:  # type: ignore[override]
        """What ``&``, ``|`` and ``-`` give."""
        return frozenset(names)


def voc_palette() -> np.ndarray:
    """The 256-entry colour map of the PASCAL VOC devkit, ``(256, 3) uint8``.

    Entry 0 is black, entry 255 is the light cream that VOC uses for "void".

    Example:
        >>> voc_palette()[1].tolist()
        [128, 0, 0]
    """
    colours = np.zeros((256, 3), dtype=np.uint8)
    ids = np.arange(256)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((ids >> channel) & 1) << (7 - bit)).astype(np.uint8)
        ids = ids >> 3
    return colours


def class_table(names: Sequence[str]) -> ClassTable:
    """A ClassTable from any sequence of names, surrounding blanks removed."""
    return ClassTable(tuple(name.strip() for name in names))
