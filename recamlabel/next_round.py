"""``recamlabel fit RUN --with-review``: the stages again, with what a reviewer settled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recamlabel.config import amend, config_from_tree
from recamlabel.data.catalog import CATALOG_FILE, load_catalog
from recamlabel.errors import StoreError
from recamlabel.masks.reviewed import REVIEW_FOLDER, ReviewFolder
from recamlabel.pipeline import fit
from recamlabel.rounds import mask_facts, open_part, snapshot
from recamlabel.storage.hdf5 import StoredArrays
from recamlabel.workspace import RunFolder

SECTION = "with_review"
BEFORE = f"{REVIEW_FOLDER}/before"


def fit_with_review(
    path: Path, assignments: Iterable[str] = (), overrides: Mapping[str, Any] | None = None
) -> RunFolder:
    """Run a finished run's stages again with its reviewed masks; what was before stays in ``RUN/review/before``.

    Five or more accepted and painted masks overrule the background level where it lies outside their interval,
    and the segmenter learns from them with the weight ``review.weight``; rejected masks teach it nothing.

    Args:
        path: The run; its source and settings are used again.
        assignments: Settings to change, as given to ``--set``.
        overrides: Dotted keys to values.

    Raises:
        StoreError: Not a finished run, or nothing is decided yet.
        ConfigError: A setting that is not possible.
    """
    run = RunFolder.open(path)
    kinds = ReviewFolder(path).kinds()
    if not kinds:
        raise StoreError(
            f"{path}: no reviewed mask in it; `recamlabel review {path}` is the way to some, then "
            f"`recamlabel review {path} --pull` or --import"
        )
    run.key_of("quality")
    digest = ReviewFolder(path).digest()
    before = open_part(run, path / BEFORE)
    # Asked again with nothing new decided, the run is "after" already: what was before stays.
    if run.metrics().get(SECTION, {}).get("digest") != digest:
        with run.lock():
            snapshot(run, before)
    config = amend(config_from_tree(run.state.config, origin=str(path / "run.toml")), assignments, overrides)
    config = amend(config, overrides={"review.use": True})
    run = fit(Path(run.state.dataset["source"]), path, config)
    with run.lock():
        count = {kind: list(kinds.values()).count(kind) for kind in sorted(set(kinds.values()))}
        facts = {"before": mask_facts(before), "after": mask_facts(run), "changed": _changed(before, run)}
        run.update_metrics(SECTION, {"reviewed": count, "digest": digest, **facts})
    return run


def _changed(before: RunFolder, after: RunFolder) -> float:
    """Mean share of an image's pixels whose pseudo mask is another one now."""
    one, two = (StoredArrays(run.path / "masks.h5") for run in (before, after))
    images = load_catalog(after.path / CATALOG_FILE).images
    return round(float(np.mean([(one(image.id) != two(image.id)).mean() for image in images])), 5)
