"""What a `fit` on an earlier run would do again, and why: said before it is done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recamlabel.config import Config, config_from_tree
from recamlabel.data.catalog import CATALOG_FILE, Catalog, load_catalog
from recamlabel.errors import ConfigError, StoreError
from recamlabel.run.engine import forgotten
from recamlabel.run.plan import Stage
from recamlabel.storage.outdated import why_outdated
from recamlabel.storage.run_folder import RunFolder

SHOWN = 20


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


def duration(seconds: float) -> str:
    """A length of time, in words.

    Example:
        >>> duration(3.2), duration(125), duration(7500)
        ('3 s', '2 min', '2 h 5 min')
    """
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def what_is_redone(
    run: RunFolder, stages: Sequence[Stage], catalog: Catalog, config: Config, origin: Path | str
) -> Redo:
    """Compare a plan with what an earlier run holds.

    Args:
        run: The run as the plan finds it.
        stages: The plan.
        catalog: Images and labels as they are now.
        config: All settings.
        origin: Where the labels are read from.
    """
    gone = set(forgotten(run, stages))
    records = run.state.stages
    stays = [stage.name for stage in stages if stage.name in records and stage.name not in gone]
    redone = [stage.name for stage in stages if stage.name in gone]
    return Redo(
        run.path,
        tuple(setting_changes(run.state.config, config)) if run.state.config else (),
        tuple(_reasons(run, catalog, str(origin), redone)),
        tuple((name, float(records[name].get("seconds", 0.0))) for name in redone),
        tuple(stage.name for stage in stages if stage.name not in stays),
        tuple(stays),
    )


def setting_changes(before: Mapping[str, Any], after: Config) -> Iterator[str]:
    """Settings that differ, old and new; those of ``runtime`` change no result and are left out.

    Example:
        >>> list(setting_changes(Config().model_dump(), Config(seed=3)))
        ['seed 0 -> 3']
    """
    # Settings that an earlier version did not have are at their defaults.
    with suppress(ConfigError):
        before = config_from_tree(before).model_dump()
    old, new = dict(_flat(before)), dict(_flat(after.model_dump()))
    for key in [*new, *(key for key in old if key not in new)]:
        if old.get(key) != new.get(key) and not key.startswith("runtime."):
            yield f"{key} {_short(old.get(key))} -> {_short(new.get(key))}"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            # TOML knows no tuple.
            yield f"{prefix}{key}", json.loads(json.dumps(value, default=str))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _reasons(run: RunFolder, catalog: Catalog, origin: str, redone: Sequence[str]) -> Iterator[str]:
    dataset = run.state.dataset
    if dataset.get("source", origin) != origin:
        yield f"labels are read from {origin}, before from {dataset['source']}"
    if dataset.get("fingerprint", "") not in ("", catalog.fingerprint()):
        yield from _data_changes(run, catalog)
    since = next((why for why in (why_outdated(run, name) for name in redone) if why), "")
    if since and "masks" not in redone:
        yield f"the masks were rendered again since the segmenter was trained ({since})"


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
