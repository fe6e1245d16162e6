"""The run folder: what is in it, which stages are current, who may write, what happened.

A stage is current if its recorded key equals the hash of its settings, its inputs' keys and
the code's stage version. Its record is removed before it is redone and written after its
outputs are in place, so a killed run never passes for a finished one. What stands on masks that were
rendered again at another setting is outdated, not gone: it is current again with the masks it was made from.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import tomllib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tomli_w
from filelock import FileLock, Timeout

from recamlabel.errors import StoreError
from recamlabel.storage.atomic import write_text

RUN_FILE = "run.toml"
STAGES = (
    "dataset",
    "gate",
    "classifier",
    "cams",
    "recam",
    "maps",
    "fine",
    "probe",
    "affinity",
    "edges",
    "relabel",
    "refine",
    "calibration",
    "masks",
    "segmenter",
    "segmentation",
    "quality",
    "rounds",
)
OPTIONAL_STAGES = ("cams", "fine", "probe", "affinity", "edges", "relabel", "segmenter", "segmentation", "rounds")
# Nothing stands on their outputs and they stand on the data set alone: neither side's redoing forgets the other's.
INDEPENDENT_STAGES = ("gate",)
# The stages after the masks and what they stand on. Equal keys of `masks` mean equal masks, so these records outlive
# a rendering at another setting: outdated while the masks have another key, current once they have theirs again.
STANDS_ON = {
    "segmenter": ("masks",),
    "segmentation": ("segmenter",),
    "quality": ("masks", "segmentation"),
    "rounds": ("quality",),
}
FINISHED, OUTDATED, INCOMPLETE, NOT_RUN = "finished", "outdated", "incomplete", "not run"
FORMAT = 1


def stage_key(stage: str, version: int, settings: Any, inputs: Mapping[str, str] | None = None) -> str:
    """Hash (16 hex digits) of a stage's name, code version, settings and input keys.

    Example:
        >>> stage_key("maps", 1, {"flip": True}) == stage_key("maps", 1, {"flip": True})
        True
    """
    text = json.dumps([stage, version, settings, dict(inputs or {})], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass
class RunState:
    """The content of ``run.toml``."""

    config: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)


class RunFolder:
    """A run folder that exists. Make one with :meth:`create`, find one with :meth:`open`."""

    def __init__(self, path: Path, state: RunState) -> None:
        self.path, self.state = path, state

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run.

        Raises:
            StoreError: No such folder, not a run, or a ``run.toml`` that cannot be read.
        """
        file = path / RUN_FILE
        if not path.exists():
            raise StoreError(f"{path}: no such run folder; `recamlabel fit SOURCE --out {path}` makes one")
        if not file.is_file():
            raise StoreError(f"{path}: not a run folder (no {RUN_FILE}); expected what `recamlabel fit --out` made")
        try:
            tree = tomllib.loads(file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise StoreError(f"{file}: cannot be read ({error})") from None
        if tree.get("format") != FORMAT:
            raise StoreError(
                f"{file}: run format {tree.get('format')!r}, this version reads {FORMAT}; use a new --out folder"
            )
        state = RunState(*(tree.get(name, {}) for name in ("config", "dataset", "versions", "stages")))
        return cls(path, state)

    @classmethod
    def check_place(cls, path: Path) -> None:
        """Refuse, without writing anything, a place where no run can be.

        Raises:
            StoreError: ``path`` is a file, or a folder with something else in it.
        """
        if (path / RUN_FILE).exists():
            return
        if path.exists() and not path.is_dir():
            raise StoreError(f"{path}: a file; --out needs a folder that is new, empty or an earlier run")
        if path.exists() and any(path.iterdir()):
            raise StoreError(
                f"{path}: not empty and not a run folder (no {RUN_FILE}); nothing was written. "
                "Give --out a new folder, an empty one or an earlier run"
            )

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Open ``path`` if it is a run, make it if it is missing or empty.

        Raises:
            StoreError: As :meth:`check_place`.
        """
        cls.check_place(path)
        if (path / RUN_FILE).exists():
            return cls.open(path)
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path, RunState())
        run.save()
        return run

    def save(self) -> None:
        """Write ``run.toml`` atomically."""
        tree = {
            "format": FORMAT,
            **{name: getattr(self.state, name) for name in ("versions", "dataset", "stages", "config")},
        }
        write_text(self.path / RUN_FILE, tomli_w.dumps(_without_none(tree)))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for writing. Raises StoreError at once if another process holds it."""
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(
                f"{self.path}: another recamlabel process is working on this run; wait for it or stop it"
            ) from None
        try:
            # Another process may have written between our reading and our locking.
            self.state = RunFolder.open(self.path).state
            yield
        finally:
            lock.release()

    def is_current(self, stage: str, key: str) -> bool:
        """Whether ``stage`` is finished under exactly this key, its files are there, and so is what it stands on."""
        return self.current_key(stage) == key

    def current_key(self, stage: str) -> str | None:
        """Key of a stage whose results belong to the run as it is; None where it is outdated or not finished."""
        return str(self.state.stages[stage]["key"]) if self.stage_state(stage) == FINISHED else None

    def begin(self, stage: str, keep: Collection[str] = ()) -> None:
        """Forget a stage that is about to be redone, and every later one: they stand on its outputs.

        Independent stages are forgotten alone, and by nobody else.

        Args:
            stage: Its name.
            keep: Later stages whose records stay, because they say themselves what they stand on.
        """
        for name in keep:
            self._say_inputs(name)
        known = [
            self.state.stages.pop(name) for name in self.forgotten_with(stage) if name == stage or name not in keep
        ]
        if known:
            self.save()

    def forgotten_with(self, stage: str) -> list[str]:
        """The recorded stages that go when ``stage`` is redone, itself included."""
        later = () if stage in INDEPENDENT_STAGES else STAGES[STAGES.index(stage) + 1 :]
        names = [stage, *(name for name in later if name not in INDEPENDENT_STAGES)]
        return [name for name in names if name in self.state.stages]

    def finish(self, stage: str, key: str, seconds: float, outputs: list[str], **facts: Any) -> None:
        """Record a finished stage and the files it made (relative to the run folder)."""
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        self.state.stages[stage] = {
            "key": key,
            "finished": finished,
            "seconds": round(seconds, 2),
            "outputs": outputs,
            **facts,
        }
        self._say_inputs(stage)
        self.save()

    def _say_inputs(self, stage: str) -> None:
        """Write into the record what it stands on; runs of earlier versions have records that do not say it."""
        record = self.state.stages.get(stage, {})
        if stage in STANDS_ON and record and "inputs" not in record:
            known = {name: self.state.stages.get(name) for name in STANDS_ON[stage]}
            record["inputs"] = {name: found["key"] for name, found in known.items() if found is not None}
            record["masks_settings"] = dict(self.state.config.get("masks", {}))

    def key_of(self, stage: str) -> str:
        """Key of a finished stage, outdated or not. Raises StoreError if the stage has not been run."""
        try:
            return str(self.state.stages[stage]["key"])
        except KeyError:
            raise StoreError(
                f"{self.path}: stage '{stage}' is not finished; run `recamlabel fit` again, it continues"
            ) from None

    def stage_state(self, stage: str) -> str:
        """``finished``, ``not run``, ``incomplete`` where an output file has gone, or ``outdated``.

        Outdated is what was made from other masks than those that the run has now.

        Example:
            >>> from tempfile import mkdtemp
            >>> run = RunFolder.create(Path(mkdtemp()))
            >>> run.finish("masks", "at 0.4", 1.0, [])
            >>> run.finish("quality", "of them", 1.0, [])
            >>> run.finish("masks", "at 0.5", 1.0, [])
            >>> run.stage_state("masks"), run.stage_state("quality")
            ('finished', 'outdated')
        """
        record = self.state.stages.get(stage)
        if record is None:
            return NOT_RUN
        if not all((self.path / name).exists() for name in record.get("outputs", [])):
            return INCOMPLETE
        return FINISHED if self._stands(record) else OUTDATED

    def _stands(self, record: Mapping[str, Any]) -> bool:
        """Whether what a stage was made from is still what the run holds, back to the masks."""
        below = {name: self.state.stages.get(name, {}) for name in record.get("inputs", {})}
        return all(found.get("key") == record["inputs"][name] and self._stands(found) for name, found in below.items())

    def log(self, **event: Any) -> None:
        """Append one JSON line to ``log.jsonl``, in a single write so that lines stay whole."""
        line = json.dumps({"time": round(time.time(), 3), **event}, ensure_ascii=False) + "\n"
        handle = os.open(self.path / "log.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)

    def events(self) -> list[dict[str, Any]]:
        """All whole lines of ``log.jsonl``, oldest first."""
        file = self.path / "log.jsonl"
        if not file.exists():
            return []
        events = []
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                events.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return events

    def update_metrics(self, section: str, values: Mapping[str, Any]) -> None:
        """Replace one section of ``metrics.json``."""
        write_text(
            self.path / "metrics.json", json.dumps({**self.metrics(), section: values}, indent=2, ensure_ascii=False)
        )

    def metrics(self) -> dict[str, Any]:
        """The content of ``metrics.json``; empty before anything was measured."""
        file = self.path / "metrics.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _without_none(value: Any) -> Any:
    """TOML has no null: leave such keys out, which reads back as the default."""
    if isinstance(value, Mapping):
        return {str(key): _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list | tuple) else value
