"""Running stages of a plan in a run folder; each is skipped while its key holds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from recamlabel.core.allocator import freed_memory_kept
from recamlabel.core.memory import peak_megabytes, reset_peak
from recamlabel.core.progress import say
from recamlabel.run.plan import Stage
from recamlabel.stages import StageContext
from recamlabel.storage.run_folder import INDEPENDENT_STAGES, STANDS_ON, RunFolder


def run_stage(context: StageContext, stage: Stage) -> bool:
    """Run a stage unless it is current. Returns whether it ran."""
    run = context.run
    if run.is_current(stage.name, stage.key):
        say(f"{stage.name}: up to date, skipped")
        return False
    run.begin(stage.name, keep=STANDS_ON if stage.name == "masks" else ())
    run.log(stage=stage.name, event="start", key=stage.key)
    began = time.monotonic()
    reset_peak()
    with freed_memory_kept(context.device):
        facts = {**stage.work(replace(context, key=stage.key)), "peak_mb": round(peak_megabytes(), 0)}
    seconds = time.monotonic() - began
    run.finish(stage.name, stage.key, seconds, list(stage.outputs), **facts)
    run.log(stage=stage.name, event="finish", key=stage.key, seconds=round(seconds, 2))
    say(f"{stage.name}: done in {seconds:.1f} s")
    return True


def invalidate(run: RunFolder, stages: Sequence[Stage]) -> None:
    """Forget the first stage that is out of date and all after it, before anything else is written.

    Otherwise an interrupted redo would leave old results beside new labels.
    """
    for name, kept in _stale(run, stages):
        run.begin(name, keep=kept)


def forgotten(run: RunFolder, stages: Sequence[Stage]) -> list[str]:
    """Names of the recorded stages that :func:`invalidate` would forget."""
    gone = [name for first, kept in _stale(run, stages) for name in run.forgotten_with(first) if name not in kept]
    return list(dict.fromkeys(gone))


def _stale(run: RunFolder, stages: Sequence[Stage]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The stages to begin again, and with each the later ones that stay.

    Where the masks are the first, what stands on masks of the very key that they are to have again stays.
    """
    stale = [stage.name for stage in stages if not run.is_current(stage.name, stage.key)]
    first = next((name for name in stale if name not in INDEPENDENT_STAGES), None)
    if first is not None:
        same = [stage.name for stage in stages if run.state.stages.get(stage.name, {}).get("key") == stage.key]
        yield first, tuple(name for name in same if name in STANDS_ON) if first == "masks" else ()
    yield from ((name, ()) for name in stale if name in INDEPENDENT_STAGES)
