"""Why a stage is outdated, and what to say to whoever uses what it made."""

from __future__ import annotations

from recamlabel.core.progress import say
from recamlabel.storage.run_folder import FINISHED, OUTDATED, RunFolder


def why_outdated(run: RunFolder, stage: str) -> str:
    """What is different for an outdated stage; empty for every other.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> run = RunFolder.create(Path(mkdtemp()))
        >>> for level in (0.4, 0.5):
        ...     run.state.config = {"masks": {"threshold": level}}
        ...     run.finish("masks", f"at {level}", 1.0, [])
        ...     if level == 0.4:
        ...         run.finish("segmenter", "of them", 1.0, [])
        >>> why_outdated(run, "segmenter")
        'masks.threshold 0.4 -> 0.5'
    """
    if run.stage_state(stage) != OUTDATED:
        return ""
    if run.stage_state("masks") != FINISHED:
        return "the masks are not finished"
    made, now = run.state.stages[stage].get("masks_settings", {}), run.state.config.get("masks", {})
    names = [name for name in {**made, **now} if made.get(name) != now.get(name)]
    return ", ".join(f"masks.{name} {made.get(name)} -> {now.get(name)}" for name in names) or "made from other masks"


def outdated_note(run: RunFolder, stage: str) -> str:
    """One line about the outdated segmenter and both ways out; empty where it is not outdated.

    Args:
        run: The run.
        stage: ``segmenter`` for the network, ``segmentation`` for its masks.
    """
    why = why_outdated(run, stage)
    if not why:
        return ""
    ways = f"`recamlabel fit {run.path}` trains it again, the earlier setting makes it current again"
    return f"the segmenter is outdated ({why}); {ways}"


def say_if_outdated(run: RunFolder, stage: str) -> None:
    """Say :func:`outdated_note`, where there is one."""
    note = outdated_note(run, stage)
    if note:
        say(f"note: {note}")
