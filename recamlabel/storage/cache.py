"""Where what can be made or fetched again is kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(given: Path | None) -> Path:
    """The given folder, or ``$RECAMLABEL_CACHE``, or ``recamlabel`` in the user's cache folder."""
    if given is not None:
        return given.resolve()
    if "RECAMLABEL_CACHE" in os.environ:
        return Path(os.environ["RECAMLABEL_CACHE"]).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recamlabel"
