"""Which image files there are, by listing each folder once instead of asking for every file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from recamlabel.adapters.base import IMAGE_SUFFIXES


class FolderListing:
    """Names of the files of folders below ``root``; a folder is listed when it is first asked for.

    100,000 ``stat`` calls take seconds on a local disk and minutes on a network share; a
    listing takes one call for some hundred names.

    Example:
        >>> from tempfile import mkdtemp
        >>> root = Path(mkdtemp())
        >>> _ = (root / "a.jpg").write_bytes(b"")
        >>> FolderListing(root).has(PurePosixPath("a.jpg")), FolderListing(root).has(PurePosixPath("x/b.jpg"))
        (True, False)
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[str, frozenset[str]] = {}
        self._stems: dict[str, dict[str, list[str]]] = {}

    def names(self, folder: str = "") -> frozenset[str]:
        """Names of the files (not folders) in ``root/folder``; empty where it cannot be listed."""
        if folder not in self._folders:
            try:
                with os.scandir(self.root / folder) as entries:
                    names = frozenset(entry.name for entry in entries if _is_file(entry))
            except (OSError, ValueError):  # no folder, no permission, or no name that can be one
                names = frozenset()
            self._folders[folder] = names
        return self._folders[folder]

    def stems(self, folder: str = "") -> dict[str, list[str]]:
        """File names of ``root/folder`` by their names without extension."""
        if folder not in self._stems:
            grouped: dict[str, list[str]] = {}
            for name in self.names(folder):
                grouped.setdefault(PurePosixPath(name).stem, []).append(name)
            self._stems[folder] = grouped
        return self._stems[folder]

    def with_extension(self, name: str) -> str | None:
        """The first image file that ``name`` (a path without extension) stands for; None if there is none."""
        folder, _, stem = name.rpartition("/")
        matching = sorted(other for other in self.stems(folder).get(stem, ()) if is_image_name(other))
        return (f"{folder}/" if folder else "") + matching[0] if matching else None

    def has(self, path: PurePosixPath) -> bool:
        """Whether ``root/path`` is a file."""
        folder, _, name = str(path).rpartition("/")
        return name in self.names(folder)

    def unlisted(self, paths: Iterable[PurePosixPath]) -> list[str]:
        """Image files in the folders asked for so far that are not among ``paths``, sorted."""
        expected = {str(path) for path in paths}
        unlisted_files = []
        for folder, names in self._folders.items():
            prefix = f"{folder}/" if folder else ""
            unlisted_files += [prefix + name for name in names if is_image_name(name) and prefix + name not in expected]
        return sorted(unlisted_files)


def _is_file(entry: os.DirEntry[str]) -> bool:
    """False, not an error, for a link that leads to itself: the others of its folder are there all the same."""
    try:
        return entry.is_file()
    except OSError:
        return False


def is_image_name(name: str) -> bool:
    """Whether a file of this name counts as an image; hidden files do not.

    Example:
        >>> is_image_name("a.JPG"), is_image_name("._a.jpg"), is_image_name("a.txt")
        (True, False, False)
    """
    # A Path for every name of a large folder is several times slower.
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122


def images_below(folder: Path) -> list[Path]:
    """The image files in a folder and anywhere below it, hidden ones aside, in path order."""
    return sorted(path for path in folder.rglob("*") if is_image_name(path.name) and path.is_file())


def find_image_folder(candidates: Sequence[Path], names: Sequence[str]) -> Path | None:
    """The candidate folder with the most of some of the named files; the first of equals.

    Args:
        candidates: Folders, the likeliest first; they need not exist.
        names: Image paths as a label file has them.

    Returns:
        None if not one of the files is in any candidate.
    """
    some = [name.replace("\\", "/") for name in names[:: max(1, len(names) // 20)][:20]]
    best, most = None, 0
    for folder in dict.fromkeys(candidates):
        there = sum(is_file(folder / name) for name in some)
        if there > most:
            best, most = folder, there
    return best


def is_file(path: Path) -> bool:
    """Whether there is such a file; False, not an error, for a name that no file can have (too long, NUL)."""
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises for these)


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder; False for a name that nothing can have."""
    return os.path.exists(path)  # noqa: PTH110 (as above)
