"""The files of a folder or of a zip archive, read one by one into memory; an archive is never unpacked."""

from __future__ import annotations

import zipfile
from functools import cached_property
from pathlib import Path, PurePosixPath

from recamlabel.errors import StoreError

LARGEST = 2**30
HIDDEN = ("__MACOSX", ".")


class Files:
    """Files by their path below a folder or in an archive, with ``/`` between the parts.

    Args:
        path: The folder or the zip file.

    Raises:
        StoreError: Missing, or a damaged archive.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            try:
                self._archive = zipfile.ZipFile(path)
            except (OSError, zipfile.BadZipFile) as error:
                raise StoreError(f"{path}: not a readable zip archive ({error}); export it again") from None

    @cached_property
    def names(self) -> list[str]:
        """All files, sorted, without hidden ones."""
        if self.path.is_dir():
            found = (path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file())
        else:
            found = (info.filename for info in self._archive.infolist() if not info.is_dir())
        return sorted(name for name in found if not any(part.startswith(HIDDEN) for part in name.split("/")))

    def read(self, name: str) -> bytes:
        """The content of a file. Raises StoreError where it is too large or damaged."""
        if self.path.is_dir():
            return (self.path / name).read_bytes()
        if self._archive.getinfo(name).file_size > LARGEST:
            raise StoreError(f"{self.path}: {name} is larger than {LARGEST >> 20} MiB unpacked; expected masks")
        try:
            return self._archive.read(name)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError) as error:
            raise StoreError(f"{self.path}: {name} in it cannot be read ({error}); export it again") from None

    def folder_of(self, name: str) -> str | None:
        """The folder (with ``/`` at its end, or "") of the file of this name that lies highest, or None."""
        there = [PurePosixPath(path) for path in self.names if PurePosixPath(path).name == name]
        if not there:
            return None
        parent = min(there, key=lambda path: (len(path.parts), str(path))).parent.as_posix()
        return "" if parent == "." else f"{parent}/"
