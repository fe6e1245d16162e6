"""Whether a path is a file to read: not a pipe, which one would wait for, nor a device, which may never end."""

from __future__ import annotations

import stat
from pathlib import Path


def why_no_file(path: Path) -> str | None:
    """What a path is instead of a file; None for a file, and for a path that opening says more of (missing, a loop).

    Example:
        >>> why_no_file(Path("/dev/null")), why_no_file(Path("/")), why_no_file(Path("missing"))
        ('a pipe, socket or device', 'a folder', None)
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    if stat.S_ISDIR(mode):
        return "a folder"
    return None if stat.S_ISREG(mode) else "a pipe, socket or device"
