"""Stages ``refine`` and ``masks``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from recamlabel.masks.render import render_masks
from recamlabel.progress import track
from recamlabel.refine import walks
from recamlabel.refine.build import build_scores
from recamlabel.refine.edges import EdgeWalk
from recamlabel.stages.base import StageContext
from recamlabel.storage.hdf5 import ShardedWriter, open_store


def run_refine(context: StageContext) -> Mapping[str, Any]:
    """Refine the maps into scores."""
    config = context.config.refine
    total = len(context.catalog.images)
    with ShardedWriter(
        context.run.path / "scores.h5", context.key, {**context.provenance(), "method": config.method}
    ) as writer:
        with (
            open_store(context.run.path / "maps.h5") as maps,
            track(f"refine ({config.method})", total, start=len(writer.done)) as advance,
            ExitStack() as stack,
        ):
            walk = None
            if walks(config.method):
                edges = stack.enter_context(open_store(context.run.path / "edges.h5"))
                walk = EdgeWalk(edges, context.config.affinity, context.device)
            build_scores(context.catalog, maps, config.method, config, writer, advance, context.workers, walk)
        writer.finish()
    return {"method": config.method}


def run_masks(context: StageContext) -> Mapping[str, Any]:
    """Render the masks at the configured threshold."""
    config = context.config.masks
    attributes = {
        **context.provenance(),
        "threshold": config.threshold,
        "ignore_id": context.catalog.dataset.classes.ignore_id,
    }
    with open_store(context.run.path / "scores.h5") as scores, track("masks", len(context.catalog.images)) as advance:
        pixels = render_masks(
            context.catalog, scores, config, context.run.path, context.key, attributes, advance, max(1, context.workers)
        )
    return {"threshold": config.threshold, "pixels": pixels}
