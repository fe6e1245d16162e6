"""Running stages of a plan in a run folder; each is skipped while its key holds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from recamlabel.memory import peak_megabytes, reset_peak
from recamlabel.plan import Stage
from recamlabel.progress import say
from recamlabel.stages import StageContext
from recamlabel.training.allocator import freed_memory_kept
from recamlabel.workspace import INDEPENDENT_STAGES, RunFolder


def run_stage(context: StageContext, stage: Stage) -> bool:
    """Run a stage unless it is current. Returns whether it ran."""
    run = context.run
    if run.is_current(stage.name, stage.key):
        say(f"{stage.name}: up to date, skipped")
        return False
    run.begin(stage.name)
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
    stale = [stage.name for stage in stages if not run.is_current(stage.name, stage.key)]
    dependent = [name for name in stale if name not in INDEPENDENT_STAGES]
    for name in [*dependent[:1], *(name for name in stale if name in INDEPENDENT_STAGES)]:
        run.begin(name)
