"""What the work of a stage sees: its inputs, and the settings it has declared; any other is refused."""

from __future__ import annotations

import types
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import torch

from recamlabel import __version__
from recamlabel.config import Config
from recamlabel.core import ranks
from recamlabel.core.section import Section
from recamlabel.data.catalog import Catalog
from recamlabel.errors import RecamlabelError
from recamlabel.models.inputs import input_size
from recamlabel.stages.graph import FREE, Names, covers
from recamlabel.storage.places import FUSED_FILE, MAPS_FILE, SALIENT_FILE, SPREAD_FILE
from recamlabel.storage.run_folder import RunFolder

CPU_MAP_PIXELS = 300_000
CUDA_MAP_PIXELS = 4_000_000
T = TypeVar("T")


class UndeclaredSettingError(RecamlabelError):
    """A stage read a setting that is not in its key: its result would be taken for current when it is stale."""


class Declared:
    """A section of which some settings are declared; reading another raises :class:`UndeclaredSettingError`.

    Stands in for the section wherever only attributes are read.

    Example:
        >>> from recamlabel.config import Config
        >>> seen = Declared(Config(), "", ("seed", "maps.flip"), "maps")
        >>> seen.maps.flip, seen.seed
        (True, 0)
        >>> seen.maps.scales
        Traceback (most recent call last):
        recamlabel.stages.view.UndeclaredSettingError: stage maps reads maps.scales and does not declare it
    """

    def __init__(self, section: Section, prefix: str, declared: Names, stage: str) -> None:
        self.__dict__.update(_section=section, _prefix=prefix, _declared=declared, _stage=stage)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        section, key = self._section, f"{self._prefix}{name}"
        method = getattr(type(section), name, None)
        if name not in type(section).model_fields and callable(method):
            return types.MethodType(method, self)
        value = getattr(section, name)
        if covers((*self._declared, FREE), key):
            return value
        if isinstance(value, Section) and any(one.startswith(f"{key}.") for one in self._declared):
            return Declared(value, f"{key}.", self._declared, self._stage)
        raise UndeclaredSettingError(f"stage {self._stage} reads {key} and does not declare it")

    def model_copy(self, *, update: dict[str, Any]) -> Declared:
        """As pydantic's, of the section behind; what is set anew may be read."""
        declared = (*self._declared, *(f"{self._prefix}{name}" for name in update))
        return Declared(self._section.model_copy(update=update), self._prefix, declared, self._stage)

    def __reduce__(self) -> tuple[Any, ...]:
        return Declared, (self._section, self._prefix, self._declared, self._stage)


@dataclass(frozen=True)
class Origin:
    """A finished run whose learnt parts are applied to other images (:mod:`recamlabel.run.label`).

    Attributes:
        run: The run.
        catalog: The images that it has learnt from.
        made: What was made of the run once and serves every batch of images: networks, by name.
    """

    run: RunFolder
    catalog: Catalog
    made: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """What a stage's work gets.

    Attributes:
        run: The run folder.
        catalog: Images and labels.
        settings: All settings, for provenance and for what is in no key; the work reads ``config``.
        device: Where networks run.
        stage: Name of the stage.
        key: Of its result.
        declared: The settings that it may read.
        planned: Names of all stages in this run, those of round 1 that a later round stands on included.
        reviewed: Whether reviewed masks are to be used.
        first, previous: Later rounds: the runs of the first round and of the round before.
        origin: Where what has been learnt is taken from, for images that the run may not know; None: it is this run's.
    """

    run: RunFolder
    catalog: Catalog
    settings: Config
    device: torch.device
    stage: str = ""
    key: str = ""
    declared: Names = ()
    planned: Collection[str] = ()
    reviewed: bool = False
    first: RunFolder | None = None
    previous: RunFolder | None = None
    origin: Origin | None = None

    @property
    def learnt(self) -> RunFolder:
        """The run that has the trained networks and all else that was learnt."""
        return self.origin.run if self.origin else self.run

    @property
    def taught(self) -> Catalog:
        """The images that were learnt from."""
        return self.origin.catalog if self.origin else self.catalog

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What ``make`` makes; for images of other data sets it is made once and kept, as it is the same for all."""
        if self.origin is None:
            return make()
        if name not in self.origin.made:
            self.origin.made[name] = make()
        return cast(T, self.origin.made[name])

    @property
    def config(self) -> Config:
        """The settings, of which only the declared ones can be read."""
        return cast(Config, Declared(self.settings, "", self.declared, self.stage))

    @property
    def workers(self) -> int:
        """Worker processes for this machine; this process's part of them where several do a stage."""
        return ranks.portion(self.settings.runtime.worker_count())

    @property
    def maps_file(self) -> str:
        """Name of the file with the maps that are refined."""
        return maps_file(self.planned)

    @property
    def batch_pixels(self) -> int:
        """Pixels of one batch where no gradient is needed."""
        return CUDA_MAP_PIXELS if self.device.type == "cuda" else CPU_MAP_PIXELS

    def alike(self, max_side: int) -> Callable[[tuple[int, int]], tuple[int, int]]:
        """Images of one value of this function of their shape go through a network together."""
        if self.device.type == "cpu":
            return lambda shape: shape
        return lambda shape: input_size(shape, max_side, self.device)

    def provenance(self) -> dict[str, Any]:
        """Root attributes of every HDF5 file that a stage writes."""
        return {
            "software": f"recamlabel {__version__}",
            "stage_key": self.key,
            "class_names": list(self.catalog.dataset.classes.names),
            "dataset_fingerprint": self.catalog.fingerprint(),
            "config": self.settings.model_dump(mode="json"),
        }


def maps_file(stages: Collection[str]) -> str:
    """Name of the file with the maps that a run of these stages refines: of the last of them that makes such maps.

    Example:
        >>> maps_file(["maps"]), maps_file(["maps", "probe"]), maps_file(["maps", "probe", "saliency"])
        ('work/maps.h5', 'work/fused.h5', 'work/salient.h5')
    """
    files = {"saliency": SALIENT_FILE, "spread": SPREAD_FILE, "probe": FUSED_FILE}
    return next((file for stage, file in files.items() if stage in stages), MAPS_FILE)
