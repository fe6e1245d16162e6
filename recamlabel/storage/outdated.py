"""Why a stage is outdated, and what to say to whoever uses what it made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from recamlabel.core.plugins import installed
from recamlabel.core.progress import say
from recamlabel.storage.run_folder import OUTDATED, RunFolder

LONGEST = 40
# Before the setting that names another package's thing: facts of these names are that package and its version.
PLUGIN = "plug-in of "


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """What differs between two tables of settings, old and new.

    Example:
        >>> list(changes({"seed": 0, "maps.flip": True}, {"seed": 3, "maps.flip": True}))
        ['seed 0 -> 3']
    """
    for key in [*after, *(key for key in before if key not in after)]:
        if before.get(key) != after.get(key):
            yield f"{key} {_short(before.get(key))} -> {_short(after.get(key))}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def why_outdated(run: RunFolder, stage: str) -> str:
    """What is different for an outdated stage, or below it; empty for every other.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> run = RunFolder.create(Path(mkdtemp()))
        >>> run.finish("masks", "m1", 1.0, [], inputs={"settings": {"masks.threshold": 0.4}})
        >>> run.finish("segmenter", "s1", 1.0, [], inputs={"needs": {"masks": "m1"}})
        >>> run.state.config, run.state.plan = {"masks": {"threshold": 0.5}}, {"masks": "m2", "segmenter": "s2"}
        >>> why_outdated(run, "segmenter")
        'masks.threshold 0.4 -> 0.5'
    """
    if run.stage_state(stage) != OUTDATED:
        return ""
    return _difference(run, stage, run.key_of(stage, outdated=True))


def _difference(run: RunFolder, stage: str, key: str) -> str:
    """What makes the planned key of a stage another one than ``key``."""
    if stage not in run.state.plan:
        return f"the settings have no stage {stage}"
    inputs = run.state.inputs.get(key)
    if inputs is None:
        return "made by an earlier version of recamlabel"
    before = inputs.get("settings", {})
    different = ", ".join(changes(before, {name: setting(run.state.config, name) for name in before}))
    if different:
        return different
    if packages := ", ".join(other_packages(inputs.get("facts", {}))):
        return packages
    for need, made in inputs.get("needs", {}).items():
        if run.state.plan.get(need) != made:
            return _difference(run, need, made)
    return "the images, the labels, or a file that a setting names, changed"


def other_packages(facts: Mapping[str, Any]) -> Iterator[str]:
    """Packages that a result was made with and that are installed in another version, or not any more.

    Example:
        >>> list(other_packages({"images": "x", f"{PLUGIN}refine.method": "gone 1.0"}))
        ['plug-in of refine.method: gone 1.0 -> not installed']
    """
    for name, made in facts.items():
        if name.startswith(PLUGIN) and (now := installed(str(made))) != made:
            yield f"{name}: {made} -> {now}"


def setting(config: Mapping[str, Any], key: str) -> Any:
    """The value behind a dotted key of nested settings; None where there is none."""
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


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
