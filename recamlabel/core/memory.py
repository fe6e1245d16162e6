"""Peak memory of a stretch of work, for the record of each stage."""

from __future__ import annotations

import contextlib
import math
import sys
from pathlib import Path

CLEAR_REFS = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")


def reset_peak() -> None:
    """Start a new measurement where the system can (Linux); elsewhere the peak is since the start."""
    with contextlib.suppress(OSError):
        CLEAR_REFS.write_text("5")


def peak_megabytes() -> float:
    """Largest resident memory of this process since :func:`reset_peak`, in MB (10^6 bytes).

    Example:
        >>> reset_peak()
        >>> 1 < peak_megabytes() < 1e6
        True
    """
    try:
        lines = STATUS.read_text().splitlines()
        kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
        return kilobytes * 1024 / 1e6
    except (OSError, StopIteration):
        return _since_start()


def _since_start() -> float:
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if sys.platform == "darwin" else used * 1024 / 1e6
