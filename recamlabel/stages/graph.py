"""What a stage is, and what follows from a list of them: plan, keys, what a change redoes, what a round repeats.

A stage is one object. It says which stages it stands on (``needs``), which settings it reads (``reads``), what these
settings point to (``facts``: the content of a weights file, the labels of the training images), which files it makes
and whether it is in a run at all (``wanted``). Its *key* is

    key = hash(name, version, {setting: value}, {fact: value}, {need: key of need})

so equal keys mean equal results, and a key is another one exactly where something below it is. Nothing else in the
package knows an order of stages.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, cast

from recamlabel.config import Config
from recamlabel.core.section import Section
from recamlabel.data.catalog import Catalog
from recamlabel.models.weights import weights_identity
from recamlabel.stages.cost import CostOf, one_pass
from recamlabel.stages.plugins import plugin_facts

# In no key and free to all: where and how fast, never what.
FREE = "runtime"


@dataclass(frozen=True)
class Scope:
    """What a plan is made from.

    Attributes:
        config: All settings.
        catalog: Images and labels.
        reviewed: Digest of the reviewed masks that are to be used; empty where none are.
        settled: Number of labelled images with an accepted or painted mask among them.
        round: 1, or the number of a later round.
        previous: Later rounds: key of the segmenter's masks of the round before.
        given: Keys of stages that are not this plan's to run, by name.
    """

    config: Config
    catalog: Catalog
    reviewed: str = ""
    settled: int = 0
    round: int = 1
    previous: str = ""
    given: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def images(self) -> str:
        """Fingerprint of all images and their labels."""
        return self.catalog.fingerprint()

    @cached_property
    def training(self) -> str:
        """Fingerprint of the training images and their labels."""
        return self.catalog.fingerprint(self.catalog.training_images(self.config.data.train_splits))

    @cached_property
    def pixels(self) -> str:
        """Hash of the images' content alone: corrected labels leave it as it is."""
        hashes = {image.id: self.catalog.hashes[image.id] for image in self.catalog.images}
        return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def weights(self) -> str:
        """Identity of the backbone's first weights; a file is read once, however many stages start from it."""
        return weights_identity(self.config.backbone.weights)

    @cached_property
    def sizes(self) -> Counter[tuple[int, int]]:
        """Number of images of every height and width."""
        return Counter(self.catalog.shapes[image.id] for image in self.catalog.images)

    @cached_property
    def labels(self) -> float:
        """Labels of an image, on average."""
        images = self.catalog.images
        return sum(len(image.present) for image in images) / max(1, len(images))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Every setting by its dotted key."""
        return dict(flatten(self.config.model_dump(mode="json")))


Names = tuple[str, ...]
Work = Callable[[Any], Mapping[str, Any]]
"""What a stage does with a :class:`recamlabel.stages.view.View`; gives facts for its record."""
ByScope = Callable[[Scope], Names]


def _always(scope: Scope) -> bool:
    return True


def _nothing(scope: Scope) -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline; see the module's first lines.

    Attributes:
        name: As ``run.toml``, ``--until`` and ``status`` have it.
        version: Raised when the same inputs give another result than before.
        work: Reads through the view, writes ``makes``, returns facts for the record. None for what is no pass over
            images: the data set (:mod:`recamlabel.run.intake`) and the rounds (:mod:`recamlabel.run.rounds`).
        about: What it does, in a few words, for ``recamlabel stages``.
        needs: Stages whose results it reads; those that are not in a run are left out.
        peeks: Stages whose results it reads where they are there, to warn or to check; not in its key.
        reads: Settings, as ``section.key`` or whole ``section``; where it depends on the settings, a function.
        makes: Files and folders in the run folder.
        sections: Sections of ``metrics.json`` that are its.
        wanted: Whether it is in a run.
        facts: What else its result depends on, by name.
        cache: Its files only spare work: where they are gone, they are made again when somebody needs them.
        on_demand: Not part of ``fit``; made when a command asks for it.
        shared: Whether all processes of a run do its work together (:mod:`recamlabel.core.ranks`): what the work writes
            itself is then for the first of them. Else the first does it, and the others wait.
        per_image: What it makes is made image by image from what was learnt before, or by itself: ``label`` does the
            same for images that the run does not know. Of other stages the result itself is what was learnt.
        cost: How much work it is (:mod:`recamlabel.stages.cost`); without it, one pass of all images.
    """

    name: str
    version: int
    work: Work | None
    about: str
    needs: Names = ()
    peeks: Names = ()
    reads: Names | ByScope = ()
    makes: Names | ByScope = ()
    sections: Names = ()
    wanted: Callable[[Scope], bool] = _always
    facts: Callable[[Scope], Mapping[str, str]] = _nothing
    cache: bool = False
    on_demand: bool = False
    shared: bool = False
    per_image: bool = False
    cost: CostOf = one_pass

    def settings(self, scope: Scope) -> dict[str, Any]:
        """The declared settings with their values, by dotted key."""
        declared = _names(self.reads, scope)
        return {key: value for key, value in scope.settings.items() if covers(declared, key)}


@dataclass(frozen=True)
class Planned:
    """A stage in a plan.

    Attributes:
        stage: What is to be done.
        key: Of its result.
        inputs: What the key is the hash of, in the clear: ``version``, ``settings``, ``facts``, ``needs``.
        makes: Its files.
        declared: The settings it may read.
    """

    stage: Stage
    key: str
    inputs: Mapping[str, Any]
    makes: Names
    declared: Names

    @property
    def name(self) -> str:
        """Of the stage."""
        return self.stage.name


class Graph:
    """Stages in an order in which each comes after those it needs.

    Raises:
        ValueError: Two stages of one name, or one that needs a later or unknown one.
    """

    def __init__(self, stages: Iterable[Stage]) -> None:
        self.stages = tuple(stages)
        self.by_name = {stage.name: stage for stage in self.stages}
        if len(self.by_name) < len(self.stages):
            raise ValueError("two stages have one name")
        before: set[str] = set()
        for stage in self.stages:
            for name in stage.needs:
                if name not in before:
                    raise ValueError(f"stage {stage.name} needs {name}, which does not come before it")
            before.add(stage.name)

    @property
    def names(self) -> Names:
        """Of all stages, in their order."""
        return tuple(self.by_name)

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages)

    def below(self, *names: str) -> Names:
        """The stages that stand on any of these, directly or not, themselves included, in order.

        Example:
            >>> one, two, three = (Stage(n, 1, dict, "", needs=k) for n, k in (("a", ()), ("b", ("a",)), ("c", ())))
            >>> Graph([one, two, three]).below("a")
            ('a', 'b')
        """
        standing = set(names)
        for stage in self.stages:
            if standing & set(stage.needs):
                standing.add(stage.name)
        return tuple(name for name in self.names if name in standing)

    def plan(self, scope: Scope, on_demand: Sequence[str] = ()) -> list[Planned]:
        """The wanted stages with their keys, in order; those of ``scope.given`` only lend their keys."""
        keys = dict(scope.given)
        planned = []
        for stage in self.stages:
            asked = not stage.on_demand or stage.name in on_demand
            if stage.name in scope.given or not asked or not stage.wanted(scope):
                continue
            settings = stage.settings(scope)
            inputs = {
                "version": stage.version,
                "settings": settings,
                "facts": {**stage.facts(scope), **plugin_facts(settings)},
                "needs": {name: keys[name] for name in stage.needs if name in keys},
            }
            keys[stage.name] = result_key(stage.name, inputs)
            makes, declared = _names(stage.makes, scope), _names(stage.reads, scope)
            planned.append(Planned(stage, keys[stage.name], inputs, makes, declared))
        return planned


def result_key(name: str, inputs: Mapping[str, Any]) -> str:
    """Hash (16 hex digits) of a stage's name and of all that its result depends on.

    Example:
        >>> result_key("maps", {"settings": {"maps.flip": True}}) == result_key("maps", {"settings": {}})
        False
    """
    return hashlib.sha256(json.dumps([name, inputs], sort_keys=True).encode()).hexdigest()[:16]


def covers(declared: Sequence[str], key: str) -> bool:
    """Whether a dotted key, or a section that it is in, is among the declared ones.

    Example:
        >>> covers(("refine.crf", "seed"), "refine.crf.iterations"), covers(("refine.crf",), "refine.levels")
        (True, False)
    """
    return any(key == name or key.startswith(f"{name}.") for name in declared)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as dotted keys.

    Example:
        >>> list(flatten({"seed": 0, "maps": {"flip": True}}))
        [('seed', 0), ('maps.flip', True)]
    """
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def but(section: type[Section], prefix: str, *without: str) -> Names:
    """All keys of a section except some, for ``reads``.

    Example:
        >>> from recamlabel.data.config import AugmentConfig
        >>> but(AugmentConfig, "augment", "brightness", "contrast", "saturation", "hue", "grey")
        ('augment.resize_min', 'augment.resize_max', 'augment.crop_size', 'augment.flip', 'augment.views')
    """
    return tuple(f"{prefix}.{name}" for name in section.model_fields if name not in without)


def _names(names: Names | ByScope, scope: Scope) -> Names:
    return names(scope) if callable(names) else names


@dataclass(frozen=True)
class StageLine:
    """What a table of the stages says of one.

    Attributes:
        name, about: Of the stage.
        needs: Stages it stands on.
        reads: Settings it reads; ``section.* but key key`` where it is most of a section.
        makes: Its files.
    """

    name: str
    about: str
    needs: Names
    reads: Names
    makes: Names

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def stage_lines(graph: Graph, config: Config, every: bool = False) -> list[StageLine]:
    """The stages as a table says them.

    Args:
        graph: The stages.
        config: Settings, on which it depends which stages there are and what they read.
        every: Also those that these settings leave out.
    """
    # What is read depends on settings alone, so no data set is needed; a second round shows what rounds need.
    scope = Scope(config, cast(Catalog, None), round=2 if config.rounds > 1 or every else 1)
    chosen = [stage for stage in graph if every or stage.on_demand or stage.wanted(scope)]
    names = {stage.name for stage in chosen}
    return [
        StageLine(
            stage.name,
            stage.about,
            tuple(name for name in stage.needs if name in names),
            tuple(_by_section(_names(stage.reads, scope), scope.settings)),
            _names(stage.makes, scope),
        )
        for stage in chosen
    ]


def _by_section(reads: Names, settings: Mapping[str, Any]) -> Iterator[str]:
    """Settings as a table has room for them: ``recam.* but combine`` for a section that is read but for a few."""
    for section in dict.fromkeys(key.partition(".")[0] for key in reads):
        own = [key for key in reads if key.partition(".")[0] == section]
        left = [key.partition(".")[2] for key in settings if covers((section,), key) and not covers(own, key)]
        if section in own or len(own) <= len(left):
            yield from own
        else:
            whole = {key.partition(".")[0] for key in left if "." in key}
            short = dict.fromkeys(key.partition(".")[0] if key.partition(".")[0] in whole else key for key in left)
            yield f"{section}.*" + (f" but {' '.join(short)}" if left else "")
