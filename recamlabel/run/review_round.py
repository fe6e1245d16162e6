"""``recamlabel fit RUN``: a run goes on with its own settings, alone or with what a reviewer settled."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recamlabel.config import Config, amend, config_from_tree
from recamlabel.core import ranks
from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.errors import StoreError
from recamlabel.masks.reviewed import ReviewFolder
from recamlabel.run.fit import Hooks, fit
from recamlabel.run.review_record import BEFORE, RECORD, SECTION, redo_digests
from recamlabel.run.rounds import mask_facts, open_part, snapshot
from recamlabel.storage.atomic import write_text
from recamlabel.storage.hdf5 import StoredArrays
from recamlabel.storage.run_folder import RunFolder


def own_settings(
    path: Path, assignments: Iterable[str] = (), overrides: Mapping[str, Any] | None = None
) -> tuple[Path, Config]:
    """The source and the settings of a run, some of them changed.

    Args:
        path: The run.
        assignments: Settings to change, as given to ``--set``.
        overrides: Dotted keys to values.

    Raises:
        StoreError: Not a run, or one that was stopped before it had read its data set.
        ConfigError: A setting that is not possible.
    """
    run = RunFolder.open(path)
    if "source" not in run.state.dataset:
        raise StoreError(f"{path}: the run has no data set yet; `recamlabel fit SOURCE --out {path}` gives it one")
    config = config_from_tree(run.state.config, origin=str(path / "run.toml"))
    return Path(run.state.dataset["source"]), amend(config, assignments, overrides)


def fit_again(
    path: Path,
    assignments: Iterable[str] = (),
    overrides: Mapping[str, Any] | None = None,
    hooks: Hooks | None = None,
) -> RunFolder:
    """Go on with a run: its own source and settings, some of them changed; arguments as :func:`own_settings`."""
    source, config = own_settings(path, assignments, overrides)
    return fit(source, path, config, hooks=hooks)


def fit_with_review(
    path: Path,
    assignments: Iterable[str] = (),
    overrides: Mapping[str, Any] | None = None,
    hooks: Hooks | None = None,
) -> RunFolder:
    """Run a finished run's stages again with its reviewed masks; what was before stays in ``RUN/review/before``.

    Five or more accepted and painted masks overrule the background level where it lies outside their interval,
    and the segmenter learns from them with the weight ``review.weight``; rejected masks teach it nothing.
    Interrupted at any point, the same call continues.

    Args:
        path: The run; its source and settings are used again.
        assignments: Settings to change, as given to ``--set``.
        overrides: Dotted keys to values.
        hooks: What the caller wants to be asked and told.

    Raises:
        StoreError: Not a finished run, or nothing is decided yet.
        ConfigError: A setting that is not possible.
    """
    if ranks.place().rank > 0:
        # Of several processes the first keeps what was before, and compares.
        return fit_again(path, assignments, overrides, hooks)
    run = RunFolder.open(path)
    kinds = ReviewFolder(path).kinds()
    if not kinds:
        raise StoreError(
            f"{path}: no reviewed mask in it; `recamlabel review {path}` is the way to some, then "
            f"`recamlabel review {path} --pull` or --import"
        )
    digest = ReviewFolder(path).digest()
    source, config = own_settings(path, assignments, {**(overrides or {}), "review.use": True})
    with run.lock():
        before = _keep_before(run, digest)
    run = fit(source, path, config, hooks=hooks)
    with run.lock():
        count = {kind: list(kinds.values()).count(kind) for kind in sorted(set(kinds.values()))}
        facts = {"before": mask_facts(before), "after": mask_facts(run), "changed": _changed(before, run)}
        run.update_metrics(SECTION, {"reviewed": count, "digest": digest, **facts}, stage="quality")
    return run


def _keep_before(run: RunFolder, digest: str) -> RunFolder:
    """The run as it is before these decisions have a part in it, kept once for each set of decisions.

    The snapshot says of which decisions it is the state before, and says so before any stage is begun: whatever is
    killed later, the same decisions never take what they have made themselves for what was before them. Decisions
    that come in while a redo is unfinished find the state before that redo.

    Raises:
        StoreError: The run is not finished, and no redo with a review has begun.
    """
    folder = run.path / BEFORE
    kept, done = redo_digests(run)
    left = run.left() if run.state.plan else [name for name in ("quality",) if run.current_key(name) is None]
    # Where a later round is kept, its own maps lie in its folder: they are planned here, and never made here.
    left = [name for name in left if name != "relabel"]
    finished = not left
    if finished and (kept != digest or not run.state.config.get("review", {}).get("use", False)):
        before = open_part(run, folder)
        snapshot(run, before)
    elif kept is not None and (finished or kept != done or kept == digest):
        before = RunFolder.open(folder)
    else:
        state = run.stage_state(left[0])
        raise StoreError(
            f"{run.path}: stage '{left[0]}' is {state}; run `recamlabel fit {run.path}` first, then give it "
            "--with-review"
        )
    write_text(folder / RECORD, json.dumps({"digest": digest}))
    return before


def _changed(before: RunFolder, after: RunFolder) -> float:
    """Mean share of an image's pixels whose pseudo mask is another one now, over the images that both have."""
    one, two = (StoredArrays(run.path / "masks.h5") for run in (before, after))
    old, new = (load_catalog(run.path / CATALOG_FILE).shapes for run in (before, after))
    common = [name for name in new if old.get(name) == new[name]]
    return round(float(np.mean([(one(name) != two(name)).mean() for name in common])), 5) if common else 0.0
