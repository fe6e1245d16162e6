"""Stage ``saliency``: the class maps mixed with a saliency network's maps, as far as both agree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from recamlabel.core import ranks
from recamlabel.core.progress import say, track
from recamlabel.errors import StoreError
from recamlabel.refine.saliency import FLAT, SaliencyMaps, agreement, with_saliency
from recamlabel.stages.calibration import spread
from recamlabel.stages.cost import Cost, megapixels
from recamlabel.stages.graph import Scope, Stage
from recamlabel.stages.map_files import stored_maps, to_store
from recamlabel.stages.view import View, maps_file
from recamlabel.storage.hdf5 import ShardedWriter, open_store
from recamlabel.storage.places import SALIENT_FILE

# Images by which the agreement is measured.
ASKED_IMAGES = 200
_SHOWN = 3
# Of the file.
AGREEMENT = "agreement"


def saliency_maps(scope_or_view: Scope | View) -> SaliencyMaps:
    """Those of ``refine.saliency``."""
    ids = [image.id for image in scope_or_view.catalog.images]
    return SaliencyMaps(Path(scope_or_view.config.refine.saliency), ids)


def run_saliency(view: View) -> Mapping[str, Any]:
    """Write the maps that are refined: the source's mixed with the saliency, all else as it was."""
    known, source = saliency_maps(view), view.config.refine.source
    missing = known.missing()
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (", …" if len(missing) > _SHOWN else "")
        say(f"saliency: {len(missing)} of {len(known.ids)} images have no map ({shown}): their class maps stay")
    flat = 0
    with open_store(view.run.path / maps_file({*view.planned} - {STAGE.name})) as maps:
        agreed = view.once("saliency", lambda: ranks.of_first(lambda: _agreed(view, known, maps[source])))
        weight = view.config.refine.saliency_weight * max(0.0, agreed)
        say(
            f"saliency: agrees with the class maps by {agreed:.2f} (mean correlation): "
            f"a share of {weight:.2f} (refine.saliency_weight={view.config.refine.saliency_weight:g} times that)"
        )
        attributes = {**view.provenance(), "weight": weight, AGREEMENT: agreed}
        with ShardedWriter(view.run.path / SALIENT_FILE, view.key, attributes) as writer:
            todo = writer.todo(view.catalog.images)
            with track("saliency", len(writer.done) + len(todo), start=len(writer.done)) as advance:
                for image in todo:
                    arrays, ids = stored_maps(maps, source, image.id)
                    seen = known.read(image.id, view.catalog.shapes[image.id]) if ids else None
                    if seen is not None and seen.std() < FLAT:
                        flat += 1
                    elif seen is not None and weight > 0:
                        arrays[source] = with_saliency(arrays[source], seen, weight)
                    writer.add(image.id, to_store(arrays, image.id, ids))
                    advance()
            writer.finish()
    flat = sum(ranks.gathered(flat))
    if flat:
        say(f"saliency: {flat} maps are the same everywhere and say nothing: the class maps of those images stay")
    return {"agreement": round(agreed, 4), "weight": round(weight, 4), "missing": len(missing), "flat": flat}


def _agreed(view: View, known: SaliencyMaps, maps: h5py.Group) -> float:
    """The agreement, of other images than the run's that of the run."""
    if view.origin is None:
        return _agreement(view, known, maps)
    with open_store(view.learnt.need(SALIENT_FILE)) as file:
        if AGREEMENT not in file.attrs:
            raise StoreError(
                f"{file.filename}: made by a version that did not keep how far the maps agree; delete it and run "
                f"`recamlabel fit {view.learnt.path}`, which makes it again"
            )
        return float(file.attrs[AGREEMENT])


def _agreement(view: View, known: SaliencyMaps, maps: h5py.Group) -> float:
    """Mean correlation over images with labels; 0 where none has both maps."""
    found = []
    for image in spread([image for image in view.catalog.images if image.present], ASKED_IMAGES):
        seen = known.read(image.id, view.catalog.shapes[image.id])
        if seen is not None:
            found.append(agreement(maps[image.id][()], seen))
    values = [value for value in found if value is not None]
    return float(np.mean(values)) if values else 0.0


STAGE = Stage(
    "saliency",
    1,
    run_saliency,
    "maps mixed with a saliency network's",
    needs=("maps", "probe", "spread"),
    reads=("refine.saliency", "refine.saliency_weight", "refine.source"),
    makes=(SALIENT_FILE,),
    wanted=lambda scope: bool(scope.config.refine.saliency),
    facts=lambda scope: {"images": scope.images, "saliency": saliency_maps(scope).identity()},
    shared=True,
    per_image=True,
    cost=lambda scope: Cost(read=megapixels(scope)),
)
