"""How far a run is done again with its review: what ``fit --with-review`` wrote down of it."""

from __future__ import annotations

import json

from recamlabel.masks.reviewed import REVIEW_FOLDER
from recamlabel.storage.run_folder import RunFolder, is_run

SECTION = "with_review"
BEFORE = f"{REVIEW_FOLDER}/before"
# In the snapshot: of which decisions it is the state before.
RECORD = "before.json"


def redo_digests(run: RunFolder) -> tuple[str | None, str | None]:
    """Digests of the decisions that the snapshot is the state before of, and of the last finished redo.

    None where there is no whole snapshot, or no finished redo. Runs of earlier versions have no record in the
    snapshot, but their metrics say of what it was, once finished.
    """
    done = run.metrics().get(SECTION, {}).get("digest")
    folder = run.path / BEFORE
    if not is_run(folder):
        return None, done
    try:
        return str(json.loads((folder / RECORD).read_text(encoding="utf-8"))["digest"]), done
    except (OSError, ValueError, KeyError, TypeError):
        return done, done


def is_unfinished(run: RunFolder) -> bool:
    """Whether a redo with the review was begun and not finished (nor given up by a ``fit`` without ``review.use``)."""
    begun, done = redo_digests(run)
    return begun not in (None, done) and bool(run.state.config.get("review", {}).get("use", False))
