"""Whether a path is a file to read: not a pipe, which one would wait for, nor a device, which may never end."""

from __future__ import annotations

import stat
from pathlib import Path


def why_neither(path: Path) -> str | None:
    """What a path is instead of a file or a folder; None for these, and where opening says more (missing).

    Example:
        >>> why_neither(Path("/dev/null")), why_neither(Path("/")), why_neither(Path("missing"))
        ('a pipe, socket or device', None, None)
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "a pipe, socket or device"


def why_no_file(path: Path) -> str | None:
    """As :func:`why_neither`, where a folder will not do either."""
    return "a folder" if path.is_dir() else why_neither(path)
