"""From what a label file or a folder says to safe, unique image ids."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from recamlabel.adapters.base import check_image_id, image_id
from recamlabel.errors import DatasetError


def absolute_source(source: Path) -> Path:
    """``source`` as an absolute path; of a file only the folder is resolved.

    A label file may be a link into a store of another place (git-annex, DVC), and its images
    lie beside the link.

    Raises:
        DatasetError: No such path.
    """
    if not os.path.exists(source):  # noqa: PTH110 (Path.exists raises if it is too long)
        raise DatasetError(f"{source}: no such file or folder")
    return source.resolve() if source.is_dir() else source.parent.resolve() / source.name


def relative_path(text: str, root: Path, base: Path | None = None) -> PurePosixPath:
    """An image path of a label file, relative to ``root``, with ``/`` and without ``.`` parts.

    Args:
        text: As written: relative to ``root``, or absolute inside it; backslashes are taken as ``/``.
        root: Absolute path of the data root.
        base: The label file's folder, where ``root`` is another: a path with ``..`` in it is relative to it.

    Raises:
        DatasetError: Empty, ``..``, or outside ``root``; the message does not name a file or row.

    Example:
        >>> str(relative_path("./images\\\\a.jpg", Path("/data")))
        'images/a.jpg'
    """
    path = Path(text)
    if path.is_absolute():
        text = _inside(path, root)
    elif base is not None and ".." in text.replace("\\", "/").split("/"):
        text = _inside(Path(os.path.normpath(base / text.replace("\\", "/"))), root)
    parts = [part for part in text.replace("\\", "/").split("/") if part not in {"", "."}]
    if text.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", text):
        raise DatasetError(f"image path {text!r} is absolute; expected a path relative to {root}")
    if ".." in parts:
        raise DatasetError(f"image path {text!r} has '..' in it; expected a path relative to {root} that stays inside")
    if not parts:
        raise DatasetError("no image path in this row; expected a path relative to the label file")
    relative = PurePosixPath(*parts)
    check_image_id(image_id(root / relative, root))
    return relative


def assign_ids(paths: Sequence[PurePosixPath]) -> list[str]:
    """Ids of images, by their paths relative to the data root, in the same order.

    An id is the path without extension. Where it would also be the name of a folder with
    images (``a.jpg`` beside ``a/b.jpg``) it keeps the extension: HDF5 cannot have a dataset
    and a group of one name. Different paths may still get one id: see :func:`find_clashes`.

    Example:
        >>> assign_ids([PurePosixPath("a.jpg"), PurePosixPath("a/b.jpg"), PurePosixPath("c.jpg")])
        ['a.jpg', 'a/b', 'c']
    """
    folders = {str(parent) for path in paths for parent in path.parents}
    stems = [str(path.with_suffix("")) for path in paths]
    return [str(path) if stem in folders else stem for path, stem in zip(paths, stems, strict=True)]


def find_clashes(ids: Sequence[str]) -> list[tuple[int, int]]:
    """Positions ``(first, later)`` of every id that an earlier image has already.

    Example:
        >>> find_clashes(["a", "b", "a"])
        [(0, 2)]
    """
    first: dict[str, int] = {}
    return [(first[name], index) for index, name in enumerate(ids) if first.setdefault(name, index) != index]


class NearFiles:
    """Finds the file that a wrong image path probably meant: other case, extension or accents."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[Path, dict[str, str] | None] = {}

    def hint(self, relative: PurePosixPath) -> str:
        """What there is instead of ``relative``, as the end of a message; empty if nothing is near."""
        if os.path.isdir(self.root / relative):  # noqa: PTH112 (Path.is_dir raises if it is too long)
            return "; that is a folder"
        folder = self.root / relative.parent
        names = self._names(folder)
        if names is None:
            return f"; there is no folder {folder}"
        near = names.get(_key(relative.stem)) or names.get(_key(relative.name))
        if near == relative.name:
            return "; that is a pipe, a device, or a link that leads nowhere"
        return f"; {str(relative.parent / near)!r} is there" if near else ""

    def _names(self, folder: Path) -> dict[str, str] | None:
        if folder not in self._folders:
            try:
                names = sorted(entry.name for entry in folder.iterdir())
            except OSError:
                self._folders[folder] = None
            else:
                self._folders[folder] = {_key(PurePosixPath(name).stem): name for name in reversed(names)}
        return self._folders[folder]


def _inside(path: Path, root: Path) -> str:
    for candidate in (path, path.parent.resolve() / path.name):
        if candidate.is_relative_to(root):
            return candidate.relative_to(root).as_posix()
    raise DatasetError(f"image path '{path}' is outside of {root}; put the label file above its images")


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
