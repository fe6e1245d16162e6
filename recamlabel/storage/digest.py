"""What is in a file, as a short text."""

from __future__ import annotations

import hashlib
from pathlib import Path


def content_digest(path: Path) -> str:
    """Hash (16 hex digits) of a file's content, read in pieces. Raises OSError.

    Example:
        >>> from tempfile import mkdtemp
        >>> file = Path(mkdtemp()) / "a"
        >>> _ = file.write_bytes(b"")
        >>> content_digest(file)
        'e3b0c44298fc1c14'
    """
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]
