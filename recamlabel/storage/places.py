"""Where the files of a run lie: what a person uses at its top, the rest below ``work/``."""

from __future__ import annotations

from pathlib import Path

WORK = "work"
# Those that several rooms read.
GATE_FILE, FEATURES_FILE = f"{WORK}/gate.json", f"{WORK}/features.h5"
CAMS_FILE, MAPS_FILE, FINE_FILE = f"{WORK}/cams.h5", f"{WORK}/maps.h5", f"{WORK}/fine.h5"
# What a frozen network says of the training crops.
CROPS_FILE = f"{WORK}/crops.h5"
# Joined: the maps of the refined source with those of the local heads. Fused: these with the probe, all else as in
# maps.h5; in later rounds with the segmenter.
LOCAL_FILE, JOINED_FILE, FUSED_FILE = f"{WORK}/local.h5", f"{WORK}/joined.h5", f"{WORK}/fused.h5"
# Either of the two before, spread along the similarity of patches.
SPREAD_FILE = f"{WORK}/spread.h5"
# Any of those before, mixed with a saliency network's maps.
SALIENT_FILE = f"{WORK}/salient.h5"
SCORES_FILE = f"{WORK}/scores.h5"


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
