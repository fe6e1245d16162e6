"""Where the files of a run lie: what a person uses at its top, the rest below ``work/``."""

from __future__ import annotations

from pathlib import Path

WORK = "work"


def placed(path: Path) -> Path:
    """The place of a file of a run: as asked, or where runs of earlier versions have it, which had no ``work/``.

    Example:
        >>> from tempfile import mkdtemp
        >>> run = Path(mkdtemp())
        >>> placed(run / "work" / "maps.h5").relative_to(run).as_posix()
        'work/maps.h5'
        >>> _ = (run / "maps.h5").write_text("of an earlier version")
        >>> placed(run / "work" / "maps.h5").relative_to(run).as_posix()
        'maps.h5'
    """
    old = earlier(path)
    return old if old is not None and not path.exists() and old.exists() else path


def earlier(path: Path) -> Path | None:
    """Where an earlier version had a file of ``work/``; None for any other."""
    return path.parent.parent / path.name if path.parent.name == WORK else None
