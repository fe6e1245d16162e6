"""The masks of one batch of images: by the run's whole chain where labels are known, by its segmenter where not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recamlabel import __version__
from recamlabel.config import Config, config_from_tree
from recamlabel.core.devices import pick_device
from recamlabel.core.progress import say, track
from recamlabel.data.catalog import CATALOG_FILE, Catalog, load_catalog
from recamlabel.data.passes import batches_by_shape
from recamlabel.errors import StoreError
from recamlabel.run.rounds import ROUNDS_FOLDER, kept_round
from recamlabel.segment.folder import predict_folder
from recamlabel.segment.masks import smoothing
from recamlabel.stages import GRAPH, REPEATED
from recamlabel.stages.graph import Planned, Scope
from recamlabel.stages.networks import PREDICTOR, load_predictor
from recamlabel.stages.view import Origin, View
from recamlabel.storage.outdated import say_if_outdated, why_outdated
from recamlabel.storage.run_folder import RunFolder, RunState


@dataclass(frozen=True)
class Chain:
    """What a run does to images.

    Attributes:
        origin: The run, and what was loaded of it.
        config: Its settings, with the workers of this machine.
        labelled: Whether labels are known.
        device: Where networks run.
    """

    origin: Origin
    config: Config
    labelled: bool
    device: str = "auto"

    @classmethod
    def open(cls, run: Path, labelled: bool, device: str = "auto", workers: int | None = None) -> Chain:
        """Of a finished run.

        Raises:
            StoreError: No run, or one without a data set.
        """
        folder = RunFolder.open(run)
        config = config_from_tree(folder.state.config, origin=str(run / "run.toml"))
        if workers is not None:
            config = config.model_copy(update={"runtime": config.runtime.model_copy(update={"workers": workers})})
        return cls(Origin(folder, load_catalog(run / CATALOG_FILE, config.data.background)), config, labelled, device)

    @property
    def run(self) -> RunFolder:
        """The run."""
        return self.origin.run

    @property
    def supported(self) -> bool:
        """Whether the segmenter has a part in the quality of masks: only one that learnt from the run's masks."""
        return self.config.segmenter.enabled and self.run.current_key("segmenter") is not None

    def stage_key(self) -> str:
        """Key of what makes the masks: of the run's masks, or of its segmenter. Raises StoreError where it is none."""
        if self.labelled:
            return self.run.key_of("masks")
        return self.run.key_of("segmenter", outdated=True)

    def refuse_changed_run(self) -> None:
        """Raises StoreError where the run is not any more what it was when it was opened."""
        now = replace(self, origin=replace(self.origin, run=RunFolder.open(self.run.path)))
        if now.stage_key() != self.stage_key():
            raise StoreError(
                f"{self.run.path}: the run has changed while its masks were made; run the same command again with a "
                "new --out, or when the run is as it was: finished shards are kept"
            )

    def say_what_is_outdated(self) -> None:
        """What a person should know of a run whose segmenter did not learn from its present masks."""
        if not self.labelled:
            say_if_outdated(self.run, "segmenter")
        elif self.config.segmenter.enabled and not self.supported:
            why = why_outdated(self.run, "segmenter") or "it is not trained yet"
            say(f"note: the quality is without the segmenter's support ({why})")

    def make(self, catalog: Catalog, folder: Path) -> None:
        """Write ``masks.h5`` and ``masks/<id>.png``; with labels ``quality.json`` too.

        Args:
            catalog: The images with their labels.
            folder: Empty; also takes all that is made on the way.
        """
        if self.labelled:
            self._by_labels(catalog, folder)
        else:
            self._by_segmenter(catalog, folder)

    def _by_segmenter(self, catalog: Catalog, folder: Path) -> None:
        table = self.origin.catalog.dataset.classes
        view = View(
            self.run,
            catalog,
            self.config,
            pick_device(self.device),
            "segmenter",
            declared=PREDICTOR,
            origin=self.origin,
        )
        attributes = {
            "software": f"recamlabel {__version__}",
            "class_names": list(table.names),
            "model_keys": {"segmenter": self.stage_key()},
            "ignore_id": table.ignore_id,
        }
        crf = smoothing(self.config.segmenter.predict)
        predictor = load_predictor(view)
        batches = batches_by_shape(catalog, catalog.images, view.batch_pixels, alike=view.alike(predictor.max_side))
        with track("predict", len(catalog.images)) as advance:
            predict_folder(catalog, predictor, table, folder, attributes, advance, crf=crf, batches=batches)

    def _by_labels(self, catalog: Catalog, folder: Path) -> None:
        own = RunFolder(folder, RunState())
        kept, records = kept_round(self.run), self.run.state.stages
        # What an earlier setting has left, and the present ones do not ask for, takes no part.
        asked = self.run.state.plan or records
        learnt = [one.name for one in GRAPH if not one.per_image and one.name in records and one.name in asked]
        given = {name: records[name]["key"] for name in learnt}
        scope = Scope(self.config, catalog, given=given)
        stages = self._chain(scope)
        if kept == 1:
            self._run(own, scope, stages)
            return
        first = [one for one in stages if one.name not in REPEATED]
        self._run(own, scope, first)
        # The maps of the kept round take the place of those that they are made from, which nobody reads any more.
        later = replace(scope, round=kept, given={**given, **{one.name: one.key for one in first}})
        previous = RunFolder.open(self.run.path / ROUNDS_FOLDER / str(kept - 1))
        names = (*later.given, *(one.name for one in self._chain(later)))
        self._run(own, later, self._chain(later), first=own, previous=previous, planned=names)

    def _chain(self, scope: Scope) -> list[Planned]:
        """The stages that make something of each image."""
        wanted = [one for one in GRAPH.plan(scope) if one.stage.per_image]
        return [one for one in wanted if one.name != "segmentation" or self.supported]

    def _run(self, own: RunFolder, scope: Scope, stages: list[Planned], **more: Any) -> None:
        more.setdefault("planned", (*scope.given, *(one.name for one in stages)))
        view = View(own, scope.catalog, self.config, pick_device(self.device), origin=self.origin, **more)
        for one in stages:
            assert one.stage.work is not None
            one.stage.work(replace(view, stage=one.name, key=one.key, declared=one.declared))
