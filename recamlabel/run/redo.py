"""What a `fit` on an earlier run would do again, and why: said before it is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recamlabel.config import Config, config_from_tree
from recamlabel.core.progress import duration
from recamlabel.data.catalog import CATALOG_FILE, Catalog, load_catalog
from recamlabel.errors import ConfigError, StoreError
from recamlabel.run.engine import Plan, to_do
from recamlabel.stages.graph import Planned, flatten
from recamlabel.storage.outdated import PLUGIN, changes, why_outdated
from recamlabel.storage.run_folder import RunFolder

SHOWN = 20
# What a fact that differs means, by its name.
FACTS = {
    "weights": "the file or package with the backbone's weights has other content",
    "encoder_weights": "the file or package with the encoder's weights has other content",
    "file": "the file of maps.file has other content",
    "hed": "the weights of HED have other content",
    "sam": "the files of refine.sam have other content",
    "saliency": "the maps of refine.saliency have other content",
    "reviewed": "the reviewed masks are other ones",
    "previous": "the round before is another one",
}


@dataclass(frozen=True)
class Redo:
    """Finished stages that go, and what is different.

    Attributes:
        run: The run folder.
        settings: Settings that differ, such as ``classifier.lr 0.02 -> 0.01``.
        reasons: What else differs, a sentence each.
        stages: Finished stages that are done again, with the seconds they took.
        to_run: All stages that are done, those never finished included.
        current: Stages that stay.
    """

    run: Path
    settings: tuple[str, ...]
    reasons: tuple[str, ...]
    stages: tuple[tuple[str, float], ...]
    to_run: tuple[str, ...]
    current: tuple[str, ...]

    def lines(self) -> list[str]:
        """What to say before a finished stage is done again; nothing where none is.

        Example:
            >>> redo = Redo(Path("run"), ("seed 0 -> 1",), (), (("recam", 61.2), ("maps", 3.0)), (), ())
            >>> print("\\n".join(redo.lines()))
            run: 1 setting differs from what the run was made with
              seed 0 -> 1
            run: redoes recam (61 s), maps (3 s), which took 64 s last time
            (`recamlabel fit run` alone goes on with the run's own settings)
        """
        if not self.stages:
            return []
        lines = [f"{self.run}: {reason}" for reason in self.reasons]
        if self.settings:
            verb = " differs" if len(self.settings) == 1 else "s differ"
            lines.append(f"{self.run}: {len(self.settings)} setting{verb} from what the run was made with")
            lines += [f"  {text}" for text in self.settings[:SHOWN]]
            lines += [f"  and {len(self.settings) - SHOWN} more"] * (len(self.settings) > SHOWN)
        each = ", ".join(f"{name} ({duration(seconds)})" for name, seconds in self.stages)
        total = duration(sum(seconds for _, seconds in self.stages))
        lines.append(f"{self.run}: redoes {each}, which took {total} last time")
        if self.settings:
            lines.append(f"(`recamlabel fit {self.run}` alone goes on with the run's own settings)")
        return lines


def what_is_redone(run: RunFolder, plan: Plan, catalog: Catalog, origin: Path | str) -> Redo:
    """Compare a plan with what an earlier run holds.

    Args:
        run: The run.
        plan: What it is to hold.
        catalog: Images and labels as they are now.
        origin: Where the labels are read from.
    """
    stale = [one.name for one in to_do(run, plan)]
    records = run.state.stages
    redone = [name for name in stale if name in records]
    return Redo(
        run.path,
        tuple(setting_changes(run.state.config, plan.scope.config)) if run.state.config else (),
        tuple(_reasons(run, plan, catalog, str(origin), redone)),
        tuple((name, float(records[name].get("seconds", 0.0))) for name in redone),
        tuple(stale),
        tuple(name for name in plan.names if name not in stale and name in records),
    )


def setting_changes(before: Mapping[str, Any], after: Config) -> Iterator[str]:
    """Settings that differ, old and new; those of ``runtime`` change no result and are left out.

    Example:
        >>> list(setting_changes(Config().model_dump(mode="json"), Config(seed=3)))
        ['seed 0 -> 3']
    """
    # Settings that an earlier version did not have are at their defaults.
    with suppress(ConfigError):
        before = config_from_tree(before).model_dump(mode="json")
    for line in changes(dict(flatten(before)), dict(flatten(after.model_dump(mode="json")))):
        if not line.startswith("runtime."):
            yield line


def _reasons(run: RunFolder, plan: Plan, catalog: Catalog, origin: str, redone: Sequence[str]) -> Iterator[str]:
    dataset = run.state.dataset
    if dataset.get("source", origin) != origin:
        yield f"labels are read from {origin}, before from {dataset['source']}"
    if dataset.get("fingerprint", "") not in ("", catalog.fingerprint()):
        yield from _data_changes(run, catalog)
    if redone and not run.state.plan:
        yield "made by an earlier version of recamlabel, whose results are read and exported, but not built on"
    for one in plan.stages:
        made = run.state.inputs.get(run.state.stages.get(one.name, {}).get("key", ""))
        if one.name in redone and made is not None:
            yield from _other_facts(one, made)
    since = next((why for why in (why_outdated(run, name) for name in redone) if why), "")
    if since and "masks" not in redone:
        yield f"the masks were rendered again since the segmenter was trained ({since})"


def _other_facts(one: Planned, made: Mapping[str, Any]) -> Iterator[str]:
    """What differs that is no setting, and not the images or labels, which have a line of their own."""
    before, now = made.get("facts", {}), one.inputs["facts"]
    for name in (name for name in {**before, **now} if name not in ("images", "training", "pixels")):
        if before.get(name) != now.get(name):
            packages = f"{name}: {before.get(name, 'none')} -> {now.get(name, 'none')}"
            yield f"{one.name}: {packages if name.startswith(PLUGIN) else FACTS.get(name, name)}"
    if made.get("version") != one.inputs["version"]:
        yield f"{one.name}: works differently since the version of recamlabel that the run was made with"


def _data_changes(run: RunFolder, now: Catalog) -> Iterator[str]:
    try:
        before = load_catalog(run.path / CATALOG_FILE)
    except StoreError:
        yield "the images or labels changed"
        return
    old, new = ({image.id: image for image in catalog.images} for catalog in (before, now))
    both = [name for name in new if name in old]
    counts = {
        "added": len(new) - len(both),
        "gone": len(old) - len(both),
        "with other labels": sum(
            (old[name].present, old[name].absent) != (new[name].present, new[name].absent) for name in both
        ),
        "in another split": sum(old[name].split != new[name].split for name in both),
        "with other pixels": sum(before.hashes[name] != now.hashes[name] for name in both),
    }
    changes = [f"{count} image{'s' * (count > 1)} {what}" for what, count in counts.items() if count]
    if before.dataset.classes.names != now.dataset.classes.names:
        changes.append("another class table")
    yield f"the data changed: {', '.join(changes) or 'another order of the images'}"
