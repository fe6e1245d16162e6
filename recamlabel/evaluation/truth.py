"""True masks on disk: which file belongs to which image, and what its pixel values mean.

Nothing else in recamlabel opens a true mask, so that none can reach the making of masks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recamlabel.core.classes import BACKGROUND_ID, BACKGROUND_NAME, ClassTable
from recamlabel.errors import DatasetError, StoreError
from recamlabel.storage.png import read_mask

MASK_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif"})
LOOKUP_SIZE = 65536


class TruthFolder:
    """A folder of index masks with the true class of every pixel.

    Args:
        folder: The folder; masks may lie in folders below it.
        classes: The class table of the run. Masks hold its ids, background and ignore id.
        names_file: Where the masks have ids of their own: a text file with a class name per
            line in id order, starting with id 1 (or with id 0, if the first line is
            ``background``). Ids are then translated by name. A name that the run does not
            have counts as background and is listed in :attr:`notes`.

    Raises:
        StoreError: No such folder, no mask in it, or two masks of one name.
        DatasetError: The names file cannot be used.

    Example:
        >>> from tempfile import mkdtemp
        >>> from recamlabel.storage.png import write_mask
        >>> folder = Path(mkdtemp())
        >>> write_mask(folder / "b.png", np.array([[0, 1, 255]], dtype=np.uint8))
        >>> truth = TruthFolder(folder, ClassTable(("dent",)))
        >>> matched = truth.match(["images/a", "images/b"])
        >>> truth.read(matched["images/b"], (1, 3)).tolist()
        [[0, 1, 255]]
    """

    def __init__(self, folder: Path, classes: ClassTable, names_file: Path | None = None) -> None:
        self.folder, self.classes = folder, classes
        self.notes: list[str] = []
        self._files = _index(folder)
        self._own_names: dict[int, str] = {}
        self._own_ids = None if names_file is None else self._translation(names_file)

    def match(self, ids: Iterable[str]) -> dict[str, Path]:
        """The true mask of each image that has one, in the order of ``ids``.

        A mask belongs to an image if its path below the folder (without extension) is the
        image's id, or the id without its first parts: ``10_11_s.png`` or
        ``val/10_11_s.png`` for ``images/val/10_11_s``. Full ids go first.

        Raises:
            StoreError: No image has a true mask, or one mask would serve two images.
        """
        ids = list(ids)
        claims: dict[str, list[str]] = defaultdict(list)
        for image_id in ids:
            if image_id not in self._files:
                name = next((tail for tail in _tails(image_id) if tail in self._files), None)
                if name is not None:
                    claims[name].append(image_id)
        exact = set(ids) & set(self._files)
        chosen = {image_id: self._files[image_id] for image_id in exact}
        for name, claimants in claims.items():
            if name not in exact:
                chosen[self._single(name, claimants)] = self._files[name]
        if not chosen:
            raise StoreError(self._no_match(ids))
        return {image_id: chosen[image_id] for image_id in ids if image_id in chosen}

    def read(self, path: Path, shape: tuple[int, int]) -> NDArray[np.uint16]:
        """A true mask ``(H, W) uint16`` in the ids of the run: 0, 1..K, ignore.

        Args:
            path: A file that :meth:`match` returned.
            shape: Height and width of the image, EXIF orientation applied.

        Raises:
            StoreError: Not an index mask, another size than the image, or a value that is no class id.
        """
        mask = read_mask(path)
        if mask.shape != tuple(shape):
            raise StoreError(_size_message(path, mask.shape, shape))
        found = np.flatnonzero(np.bincount(mask.ravel(), minlength=1))
        strange = found[self._lookup[found] < 0]
        if strange.size:
            raise StoreError(self._value_message(path, strange.tolist()))
        translated: NDArray[np.uint16] = self._lookup[mask].astype(np.uint16)
        return translated

    def value_of(self, class_id: int) -> int:
        """The mask value that stands for a class of the run."""
        if self._own_ids is None:
            return class_id
        return next(value for value, own in self._own_ids.items() if own == class_id)

    def names_in(self, meant: Mapping[int, int]) -> list[str]:
        """Names for ``--truth-classes``, id 1 first, if ``class id -> class id`` is what the masks mean by them."""
        own = self._own_names or dict(enumerate(self.classes.names, start=1))
        ids = {name: self.classes.id_of(name) for name in self.classes.names}
        return [self.classes.name_of(meant[ids[name]]) if name in ids else name for name in own.values()]

    @cached_property
    def _lookup(self) -> NDArray[np.int32]:
        """Mask value -> id of the run; -1 for values that mean nothing."""
        table = np.full(LOOKUP_SIZE, -1, dtype=np.int32)
        own = self._own_ids
        if own is None:
            table[: len(self.classes) + 1] = np.arange(len(self.classes) + 1)
            table[self.classes.ignore_id] = self.classes.ignore_id
        else:
            table[255 if max(own) < 255 else 65535] = self.classes.ignore_id
            for value, class_id in own.items():
                table[value] = class_id
        return table

    def _translation(self, file: Path) -> dict[int, int]:
        names = _read_names(file)
        first = 0 if names[0] == BACKGROUND_NAME else 1
        missing = [name for name in self.classes.names if name not in names]
        if missing:
            raise DatasetError(
                f"{file}: classes of the run are missing: {', '.join(missing)}; "
                "expected every class of the run, spelt the same, in the order of the masks' ids"
            )
        extra = [name for name in names[1 - first :] if name not in self.classes.names]
        if extra:
            self.notes.append(f"true classes that the run does not have count as background: {', '.join(extra)}")
        ids = {name: self.classes.id_of(name) for name in self.classes.names}
        self._own_names = {value: name for value, name in enumerate(names, start=first) if value}
        return {BACKGROUND_ID: BACKGROUND_ID} | {
            value: ids.get(name, BACKGROUND_ID) for value, name in enumerate(names, start=first)
        }

    def _single(self, name: str, claimants: list[str]) -> str:
        if len(claimants) == 1:
            return claimants[0]
        raise StoreError(
            f"{self._files[name]}: could be the true mask of {claimants[0]!r} and of {claimants[1]!r}; "
            f"name the masks by the full id, such as {self.folder / (claimants[0] + '.png')}, or evaluate one --split"
        )

    def _no_match(self, ids: list[str]) -> str:
        if not ids:
            return f"{self.folder}: no image to evaluate"
        expected = self.folder / f"{ids[0]}.png"
        plain = self.folder / f"{ids[0].rpartition('/')[2]}.png"
        either = f"{expected}" if expected == plain else f"{expected} or {plain}"
        example = next(iter(self._files.values()))
        return (
            f"{self.folder}: none of its {len(self._files)} masks belongs to one of the {len(ids)} images; "
            f"expected for example {either}, found for example {example}. "
            "Give the folder whose masks are named as the images are"
        )

    def _value_message(self, path: Path, strange: list[int]) -> str:
        shown = ", ".join(str(value) for value in strange[:10]) + (", …" if len(strange) > 10 else "")
        if self._own_ids is not None:
            return (
                f"{path}: holds the values {shown}, for which --truth-classes has no name; "
                f"it names the ids up to {max(self._own_ids)}. Add the missing names in id order"
            )
        return (
            f"{path}: holds the values {shown}; expected 0 (background), the class ids 1..{len(self.classes)} "
            f"of the run or {self.classes.ignore_id} (ignore). Masks with ids of their own need --truth-classes FILE"
        )


def _index(folder: Path) -> dict[str, Path]:
    """``relative path without extension -> file`` of all masks below a folder."""
    if not folder.is_dir():
        found = "a file" if folder.exists() else "no such folder"
        raise StoreError(f"{folder}: {found}; expected the folder with the true masks, one PNG an image")
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in MASK_SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in files:
            raise StoreError(f"{path}: {files[name].name} beside it is a mask of the same name; keep one of the two")
        files[name] = path
    if not files:
        raise StoreError(f"{folder}: no mask in it; expected PNG index masks named as the images are")
    return files


def _tails(image_id: str) -> list[str]:
    """The id without its first part, its first two parts, …"""
    parts = image_id.split("/")
    return ["/".join(parts[start:]) for start in range(1, len(parts))]


def _read_names(file: Path) -> list[str]:
    if file.is_dir():
        raise DatasetError(
            f"{file}: a folder; expected a text file with a class name per line, in the order of the ids"
        )
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DatasetError(
            f"{file}: no such file; expected a class name per line, in the order of the masks' ids"
        ) from None
    except (UnicodeDecodeError, OSError) as error:
        raise DatasetError(f"{file}: cannot be read ({error}); expected UTF-8 text, a class name per line") from None
    names = [line.strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    for row, name in enumerate(names, start=1):
        if not name:
            raise DatasetError(f"{file}, row {row}: empty; expected a class name on every line, as lines count the ids")
        if name in names[: row - 1]:
            raise DatasetError(f"{file}, row {row}: {name!r} stands twice; expected every class once")
    if not names:
        raise DatasetError(f"{file}: empty; expected a class name per line, in the order of the masks' ids")
    return names


def _size_message(path: Path, found: tuple[int, ...], expected: tuple[int, int]) -> str:
    message = f"{path}: {found[1]}x{found[0]} pixels, its image has {expected[1]}x{expected[0]}"
    if found == expected[::-1]:
        return f"{message}; the mask is turned: expected it in the orientation that the image's EXIF data ask for"
    return f"{message}; expected a mask of the image's own size (resize it with nearest neighbour)"
