"""A run in five lines: background level, withheld share, doubtful masks, classes not to trust, next step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from recamlabel.storage.outdated import why_outdated
from recamlabel.storage.places import GATE_FILE, placed
from recamlabel.storage.run_folder import FINISHED, RunFolder

QUALITY_FILE, REPORT_FILE = "quality.json", "report.html"
SHAPES: dict[str, dict[str, type]] = {QUALITY_FILE: {"images": dict}, GATE_FILE: {"classes": list}}
VERDICTS = {"do not trust": "do not trust", "weak": "weak:"}
DOUBTFUL = 0.5
NAMED = 5


def summary_lines(run: RunFolder) -> list[str]:
    """What a person should know of a run, and what to do next, a line each.

    Args:
        run: A run in any state; what is not made yet, or is outdated, is said to be so.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> run = RunFolder.create(Path(mkdtemp()) / "run")
        >>> run.finish("masks", "k", 1.0, [], threshold=0.4, threshold_origin="set by hand",
        ...            pixels={"background": 6, "cat": 2, "ignored": 2})
        >>> print("\\n".join(summary_lines(run)[:2]))
        level:    0.40 (set by hand)
        withheld: 20.0 % of the pixels
    """
    return [
        f"level:    {_level(run)}",
        f"withheld: {_withheld(run)}",
        f"doubtful: {_masks(run)}",
        f"classes:  {_classes(run)}",
        f"next:     {next_step(run)}",
    ]


def _rendered(run: RunFolder) -> bool:
    """Whether the present masks are there; PNG files that somebody removed are made from ``masks.h5`` again."""
    state = run.stage_state("masks")
    return state == FINISHED or (state == "incomplete" and (run.path / "masks.h5").is_file())


def _level(run: RunFolder) -> str:
    if not _rendered(run):
        return "no masks yet"
    level, origin = (run.state.stages["masks"].get(name) for name in ("threshold", "threshold_origin"))
    return ("not recorded" if level is None else f"{level:.2f}") + (f" ({origin})" if origin else "")


def _withheld(run: RunFolder) -> str:
    if not _rendered(run):
        return "no masks yet"
    pixels: Mapping[str, int] = run.state.stages["masks"].get("pixels", {})
    return f"{100 * pixels.get('ignored', 0) / max(1, sum(pixels.values())):.1f} % of the pixels"


def _masks(run: RunFolder) -> str:
    tree = _read(run, "quality", QUALITY_FILE)
    if isinstance(tree, str):
        return f"not scored: {tree}"
    rows = tree.get("images", {})
    doubtful = sum(row.get("score", 1.0) < DOUBTFUL for row in rows.values())
    parts = [f"{doubtful} of {_count(len(rows), 'mask')} with a score below {DOUBTFUL}"]
    # Runs of earlier versions did not look for them: then nothing is claimed.
    if isinstance(missing := tree.get("missing"), dict):
        parts.insert(0, _missing(missing))
    if isinstance(kept := tree.get("kept"), dict) and any(kept.values()):
        parts.insert(1, f"{_count(sum(map(len, kept.values())), 'object')} at a level of their own")
    if isinstance(normal := tree.get("normal"), dict) and normal.get("images"):
        fires, images = len(normal.get("fires", ())), _count(normal["images"], "normal image")
        parts.append(f"the segmenter fires on {fires} of {images}")
    return "; ".join(parts)


def _missing(missing: Mapping[str, list[str]]) -> str:
    images = [labels for labels in missing.values() if labels]
    if not images:
        return "no labelled object without a pixel"
    return f"{_count(sum(map(len, images)), 'labelled object')} without a pixel in {_count(len(images), 'image')}"


def _classes(run: RunFolder) -> str:
    useless = [name for name, record in run.state.stages.items() if record.get("useless")]
    if useless:
        return f"none is to be trusted: the training of {', '.join(useless)} learnt nothing (--force)"
    tree = _read(run, "gate", GATE_FILE)
    if isinstance(tree, str):
        return f"not judged: {tree}"
    if tree.get("note"):
        return str(tree["note"])
    verdicts = {verdict: [one["name"] for one in tree["classes"] if one["verdict"] == verdict] for verdict in VERDICTS}
    parts = [f"{words} {_named(verdicts[verdict])}" for verdict, words in VERDICTS.items() if verdicts[verdict]]
    return "; ".join(parts) or "none that is not to be trusted"


def next_step(run: RunFolder) -> str:
    """The command, or the page, that comes next."""
    again = f"recamlabel fit {run.path}"
    if _rendered(run) and run.stage_state("masks") != FINISHED:
        return f"recamlabel masks {run.path}  (writes the mask PNGs again)"
    if run.stage_state("masks") != FINISHED:
        return f"{again}  (continues)"
    for stage in ("segmenter", "segmentation", "quality", "rounds"):
        why = why_outdated(run, stage)
        if why:
            return f"{again}  (makes the {stage} again: {why})"
    expected = [name for name in ("segmenter", "segmentation", "quality") if name in run.state.plan] or ["quality"]
    left = [name for name in expected if run.stage_state(name) != FINISHED]
    if left:
        return f"{again}  (continues with {left[0]})"
    page = run.path / REPORT_FILE
    if not page.is_file():
        return f"recamlabel report {run.path}"
    return f"open {page}, decide on the masks, then recamlabel review {run.path} --import decisions.json"


def _read(run: RunFolder, stage: str, name: str) -> dict[str, Any] | str:
    """A stage's JSON file, or in words why there is none for the run as it is."""
    state = run.stage_state(stage)
    if state != FINISHED:
        return f"{stage} is {state}"
    try:
        tree = json.loads(placed(run.path / name).read_text(encoding="utf-8"))
        if not (isinstance(tree, dict) and SHAPES[name].items() <= {key: type(tree.get(key)) for key in tree}.items()):
            raise ValueError(f"expected {', '.join(SHAPES[name])}")
    except (OSError, ValueError) as error:
        return f"{name} is damaged ({error}); delete it and run `recamlabel fit {run.path}`"
    return tree


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _named(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
