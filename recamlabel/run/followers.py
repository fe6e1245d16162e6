"""What the other processes of a run do, where a launcher has started several: the shared stages, with the first one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from recamlabel.config import Config
from recamlabel.core import ranks
from recamlabel.core.allocator import freed_memory_kept
from recamlabel.core.devices import pick_device
from recamlabel.errors import ConfigError, StoreError
from recamlabel.refine import walks
from recamlabel.stages import GRAPH
from recamlabel.stages.graph import Stage
from recamlabel.stages.view import View
from recamlabel.storage.run_folder import RunFolder, SeenRun


def do_stage(stage: Stage, view: View) -> Mapping[str, Any]:
    """The work of a stage; with all processes of the run where it is one that they share."""
    assert stage.work is not None
    if not (stage.shared and ranks.in_team()):
        return stage.work(view)
    with ranks.together(view):
        return stage.work(view)


def refuse_small_batches(config: Config) -> None:
    """Raises ConfigError where a batch has no image for each of the processes that a launcher has started."""
    world = ranks.place().world
    trained = {
        "classifier": True,
        "recam": True,
        "affinity": walks(config.refine.method) and config.refine.edges != "hed",
    }
    for name, wanted in {**trained, "segmenter": config.segmenter.enabled}.items():
        size = getattr(config, name).batch_size
        if wanted and size < world:
            raise ConfigError(
                f"{name}.batch_size: a batch of {size} images has none for each of {world} processes; start at most "
                f"{size} (--nproc-per-node {size}), or raise {name}.batch_size"
            )


@contextmanager
def dismissed() -> Iterator[None]:
    """At its end, where nothing failed, the other processes are told that nothing more is to do."""
    yield
    if ranks.in_team():
        with ranks.together(None):
            pass


def follow(out: Path, device: str) -> RunFolder:
    """Do the shared stages that the first process asks for, until it has done all.

    Args:
        out: The run folder; on a disk that all processes see.
        device: As ``runtime.device``.

    Returns:
        The finished run.
    """
    own = pick_device(device)
    while True:
        with ranks.together(None) as view:
            if view is None:
                return RunFolder.open(out)
            if not view.run.path.is_dir():
                raise StoreError(
                    f"{view.run.path}: not seen by this process, and the first one works there; a run of several "
                    "machines has to lie, like its images, on a disk that all of them have at the same path"
                )
            stage = GRAPH.by_name[view.stage]
            assert stage.work is not None
            # The first process holds the device of its own.
            with freed_memory_kept(own):
                stage.work(replace(view, device=own, run=SeenRun(view.run.path, view.run.state)))
