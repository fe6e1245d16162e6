"""Whether a worker has what the driver has: the same version of the package, the same run, the same weights."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

from recamlabel import __version__
from recamlabel.errors import RecamlabelError, StoreError
from recamlabel.storage.digest import content_digest
from recamlabel.storage.run_folder import RUN_FILE

WEIGHTS = "weights"


def identity_of(run: Path) -> dict[str, str]:
    """Version of the package, and digests of a run's settings, weights and what its masks were rendered with."""
    files = [run / RUN_FILE, *sorted((run / WEIGHTS).glob("*"))]
    return {"recamlabel": __version__, **{str(path.relative_to(run)): content_digest(path) for path in files}}


def check_alike(run: Path, wanted: Mapping[str, str]) -> None:
    """Refuse a machine that has something else than the one that gave the work.

    Args:
        run: The run folder as this machine finds it.
        wanted: :func:`identity_of` where the work was given; empty: nothing is asked.

    Raises:
        StoreError: No such run here, or another one.
        RecamlabelError: Another version of the package.
    """
    if not wanted:
        return
    here = platform.node()
    if wanted["recamlabel"] != __version__:
        raise RecamlabelError(
            f"worker {here}: has recamlabel {__version__}, the driver {wanted['recamlabel']}: their masks may differ; "
            "install the same version on all machines"
        )
    if not run.is_dir():
        raise StoreError(
            f"worker {here}: {run}: no such run folder there; a run must be at the same path on every machine: put it "
            "on a disk that all share, or copy it"
        )
    own = identity_of(run)
    for name in wanted.keys() | own.keys():
        if wanted.get(name) != own.get(name):
            raise StoreError(
                f"worker {here}: {run / name}: not the file that the driver has (digest {own.get(name, 'no such file')}"
                f", expected {wanted.get(name, 'no such file')}); copy the run to that machine again"
            )
