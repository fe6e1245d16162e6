"""Pages that show two rounds of one run beside each other: ``rounds.html`` and ``before-after.html``."""

from __future__ import annotations

from pathlib import Path

from recamlabel.review.compare.page import write_comparison
from recamlabel.review.compare.runs import compare_runs
from recamlabel.review.page.tables import review_rows
from recamlabel.storage.run_folder import RunFolder

COMPARISONS = {
    # The first round against the one that is kept, or where that is the first against the last.
    "rounds.html": ("rounds/1", "rounds/{other}"),
    # The run itself, with a review behind it, against what it was before.
    "before-after.html": ("review/before", "."),
}


def write_round_pages(run: RunFolder) -> list[Path]:
    """Write the comparison pages that the run has two sides for, and remove those of a choice taken back.

    Args:
        run: A finished run.

    Returns:
        The pages written.

    Raises:
        StoreError: A file of a round is damaged.
        DatasetError: An image cannot be read.
    """
    written = []
    valid = {"rounds.html": run.stage_state("rounds") == "finished", "before-after.html": bool(review_rows(run))}
    for name, sides in COMPARISONS.items():
        folders = [run.path / side.format(other=_other_round(run)) for side in sides]
        if not valid[name]:
            (run.path / name).unlink(missing_ok=True)
        elif all((folder / "masks.h5").is_file() for folder in folders):
            first, second = (RunFolder.open(folder) for folder in folders)
            written.append(write_comparison(compare_runs(first, second), run.path / name))
    return written


def _other_round(run: RunFolder) -> int:
    kept = int(run.state.stages.get("rounds", {}).get("kept", 1))
    return kept if kept > 1 else int(run.state.config.get("rounds", 2))
