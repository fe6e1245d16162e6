"""The run folder: what is in it, which results belong to it as it is, who may write, what happened.

``run.toml`` holds the settings, for every stage of their plan the key that its result must have, and for every result
that is there the key that it has. One rule says what may be shown, exported, scored and built on: *a result is current
if its key is the planned one and its files are there*. Everything else is outdated, but not lost: back at the settings
that it was made with it is current again. A record is removed before its stage is redone and written after its files
are in place, so a killed run never passes for a finished one.
"""

from __future__ import annotations

import errno
import json
import os
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tomli_w
from filelock import FileLock, Timeout

from recamlabel.core.events import tell
from recamlabel.core.progress import say
from recamlabel.errors import StoreError
from recamlabel.storage.atomic import is_empty, read_lines, write_text
from recamlabel.storage.places import WORK, earlier, placed
from recamlabel.storage.remote import refuse_remote

RUN_FILE, LOG_FILE, METRICS_FILE = "run.toml", f"{WORK}/log.jsonl", "metrics.json"
# Written after the file itself: it is there where that was damaged or deleted.
COPY_FILE = f"{WORK}/run.toml"
FINISHED, OUTDATED, INCOMPLETE, FREED, NOT_RUN = "finished", "outdated", "incomplete", "freed", "not run"
FORMAT = 2
# Format 1 had no plan: there an interrupted redo had removed every record that no longer held.
READ = (1, 2)
# In a section of metrics.json: the stage that it is of.
OWNER = "made_by"


@dataclass
class RunState:
    """The content of ``run.toml``.

    Attributes:
        config: The settings of the last ``fit``.
        dataset: What it was run on.
        versions: Packages that made the newest result; each record has those that made it.
        stages: A record for each result that is there.
        plan: The key that each stage's result must have under these settings.
        inputs: By key of a result that is there, or stands below one, what the key is the hash of.
    """

    config: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    plan: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)


# In the order in which a person looks for them.
_TABLES = ("versions", "dataset", "plan", "stages", "config", "inputs")


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
        refuse_remote(path, "a run folder")
        if not path.exists():
            raise StoreError(f"{path}: no such run folder; `recamlabel fit SOURCE --out {path}` makes one")
        if not is_run(path):
            raise StoreError(f"{path}: not a run folder (no {RUN_FILE}); expected what `recamlabel fit --out` made")
        file, copy = path / RUN_FILE, path / COPY_FILE
        try:
            tree = _read_toml(file)
        except StoreError as error:
            if not copy.is_file():
                raise
            tree = _read_toml(copy)
            say(f"warning: {error}; going on with its copy, {COPY_FILE}")
        state = RunState(**{name: tree.get(name, {}) for name in _TABLES})
        return cls(path, state)

    @classmethod
    def check_place(cls, path: Path) -> None:
        """Refuse, without writing anything, a place where no run can be.

        Raises:
            StoreError: ``path`` is a file, or a folder with something else in it.
        """
        refuse_remote(path, "a run folder")
        if is_run(path):
            return
        if path.exists() and not path.is_dir():
            raise StoreError(f"{path}: a file; --out needs a folder that is new, empty or an earlier run")
        if path.exists() and not is_empty(path):
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
        if is_run(path):
            return cls.open(path)
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path, RunState())
        run.save()
        return run

    def save(self) -> None:
        """Write ``run.toml`` atomically."""
        self.state.inputs = self._lineage()
        tree = {
            "format": FORMAT,
            **{name: getattr(self.state, name) for name in _TABLES},
        }
        text = tomli_w.dumps(_without_none(tree))
        write_text(self.path / RUN_FILE, text)
        write_text(self.path / COPY_FILE, text)

    def _lineage(self) -> dict[str, dict[str, Any]]:
        """The inputs of the results that are there and of all they stand on; others are of no use any more."""
        kept: dict[str, dict[str, Any]] = {}
        todo = [record["key"] for record in self.state.stages.values()]
        while todo:
            key = todo.pop()
            if key in self.state.inputs and key not in kept:
                kept[key] = self.state.inputs[key]
                todo += kept[key].get("needs", {}).values()
        return kept

    @contextmanager
    def lock(self, *, reading: bool = False) -> Iterator[None]:
        """Hold the run for writing. Raises StoreError at once if another process holds it.

        Args:
            reading: Nothing of the run will be written: where it lies on a read-only disk, go on without a lock.
        """
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(
                f"{self.path}: another recamlabel process is working on this run; wait for it or stop it"
            ) from None
        except OSError as error:
            if not (reading and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)):
                raise
            yield
            return
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

    def begin(self, stage: str) -> None:
        """Forget the result of a stage that is about to be done again."""
        if self.state.stages.pop(stage, None) is not None:
            self.save()

    def finish(
        self,
        stage: str,
        key: str,
        seconds: float,
        outputs: Sequence[str],
        inputs: Mapping[str, Any] | None = None,
        **facts: Any,
    ) -> None:
        """Record a finished stage: its files (relative to the run folder), and what its key is the hash of."""
        if inputs is not None:
            self.state.inputs[key] = dict(inputs)
        self.state.stages[stage] = {
            "key": key,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 2),
            "outputs": list(outputs),
            **facts,
        }
        self.save()
        for output in outputs:
            # What an earlier version had at the top is made anew below `work/`.
            if (old := earlier(self.path / output)) is not None and (self.path / output).exists():
                old.unlink(missing_ok=True)

    def key_of(self, stage: str, outdated: bool = False) -> str:
        """Key of a finished stage.

        Args:
            stage: Its name.
            outdated: Take the result although it was made at other settings: whoever uses it says so.

        Raises:
            StoreError: The stage has not been run, or is outdated.
        """
        record = self.state.stages.get(stage)
        if record is None or (not outdated and self.stage_state(stage) == OUTDATED):
            state = "not finished" if record is None else "outdated"
            raise StoreError(f"{self.path}: stage '{stage}' is {state}; run `recamlabel fit` again, it continues")
        return str(record["key"])

    def stage_state(self, stage: str) -> str:
        """What there is of a stage.

        Returns:
            ``finished``, ``outdated`` (another key than the planned one), ``not run``, ``incomplete`` (an output file
            has gone), or ``freed`` (the same of a cache, which is made again when somebody needs it).

        Example:
            >>> from tempfile import mkdtemp
            >>> run = RunFolder.create(Path(mkdtemp()))
            >>> run.finish("masks", "at 0.4", 1.0, [])
            >>> run.state.plan = {"masks": "at 0.5"}
            >>> run.stage_state("masks"), run.stage_state("quality")
            ('outdated', 'not run')
            >>> run.state.plan = {"masks": "at 0.4"}
            >>> run.stage_state("masks")
            'finished'
        """
        record = self.state.stages.get(stage)
        if record is None:
            return NOT_RUN
        if self.state.plan and self.state.plan.get(stage) != record["key"]:
            return OUTDATED
        if all((self.path / name).exists() for name in record.get("outputs", [])):
            return FINISHED
        return FREED if record.get("cache") else INCOMPLETE

    def left(self) -> list[str]:
        """The planned stages whose results are not there, in order; of caches only those that were never made."""
        return [name for name in self.state.plan if self.stage_state(name) not in (FINISHED, FREED)]

    def current_keys(self) -> dict[str, str]:
        """The keys of all results that belong to the run as it is."""
        there = (FINISHED, FREED, INCOMPLETE)
        return {name: record["key"] for name, record in self.state.stages.items() if self.stage_state(name) in there}

    def maker(self, file: str) -> str | None:
        """The stage that made a file of the run; None where no record names it."""
        names = {file, file.removeprefix(f"{WORK}/")}
        made = (name for name, record in self.state.stages.items() if names & set(record.get("outputs", [])))
        return next(made, None)

    def artifact(self, file: str) -> Path | None:
        """Path of a file that belongs to the run as it is; None where it is outdated, incomplete or not there."""
        stage = self.maker(file)
        return placed(self.path / file) if stage is not None and self.stage_state(stage) == FINISHED else None

    def need(self, file: str) -> Path:
        """As :meth:`artifact`. Raises StoreError where that gives None; says why, and the way out."""
        path = self.artifact(file)
        if path is None:
            stage = self.maker(file)
            state = "not there yet" if stage is None else f"of stage '{stage}', which is {self.stage_state(stage)}"
            raise StoreError(f"{self.path / file}: {state}; `recamlabel fit {self.path}` makes it")
        return path

    def log(self, **event: Any) -> None:
        """Append one JSON line to ``log.jsonl``, in a single write so that lines stay whole; listeners are told too."""
        record = {"time": round(time.time(), 3), **event}
        line = json.dumps(record, ensure_ascii=False) + "\n"
        file = placed(self.path / LOG_FILE)
        file.parent.mkdir(exist_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)
        tell(record)

    def events(self) -> list[dict[str, Any]]:
        """All whole lines of ``log.jsonl``, oldest first."""
        file = placed(self.path / LOG_FILE)
        if not file.exists():
            return []
        events = []
        for line in read_lines(file):
            try:
                events.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return events

    def update_metrics(self, section: str, values: Mapping[str, Any], stage: str | None = None) -> None:
        """Replace one section of ``metrics.json``.

        Args:
            section: Its name.
            values: Its content.
            stage: The stage that it is of, under the key that the stage is planned with; None: of none.
        """
        owner = {OWNER: {"stage": stage, "key": self.state.plan.get(stage, "")}} if stage else {}
        tree = {**self.metrics(), section: {**values, **owner}}
        write_text(self.path / METRICS_FILE, json.dumps(tree, indent=2, ensure_ascii=False))
        tell({"event": "metrics", "section": section, "values": dict(values)})

    def drop_metrics(self, section: str) -> None:
        """Remove one section of ``metrics.json``."""
        tree = self.metrics()
        if tree.pop(section, None) is not None:
            write_text(self.path / METRICS_FILE, json.dumps(tree, indent=2, ensure_ascii=False))

    def section(self, name: str) -> dict[str, Any]:
        """A section of ``metrics.json`` whose stage is finished under the key that it was written with; else empty.

        Sections of runs of format 1 do not say whose they are and are taken as they are.
        """
        values = dict(self.metrics().get(name, {}))
        owner = values.pop(OWNER, None)
        if owner and self.current_key(owner["stage"]) != owner["key"]:
            return {}
        return values

    def metrics(self) -> dict[str, Any]:
        """The content of ``metrics.json``; empty before anything was measured."""
        file = self.path / METRICS_FILE
        if not file.exists():
            return {}
        try:
            tree = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(tree, dict):
                raise ValueError(f"expected an object, got {type(tree).__name__}")
        except ValueError as error:
            say(f"warning: {file}: damaged ({error}), taken as empty; the next measurement writes it anew")
            return {}
        return tree


class SeenRun(RunFolder):
    """A run as those processes see it that work with the one that writes: what they would write is left to that one."""

    def save(self) -> None:
        """Nothing: written by the first process."""

    def finish(self, *args: Any, **facts: Any) -> None:
        """Nothing: recorded by the first process."""

    def log(self, **event: Any) -> None:
        """Nothing: said by the first process."""

    def update_metrics(self, section: str, values: Mapping[str, Any], stage: str | None = None) -> None:
        """Nothing: written by the first process."""

    def drop_metrics(self, section: str) -> None:
        """Nothing: written by the first process."""


def is_run(path: Path) -> bool:
    """Whether a folder is a run: it has ``run.toml``, or that file's copy."""
    return (path / RUN_FILE).is_file() or (path / COPY_FILE).is_file()


def _read_toml(file: Path) -> dict[str, Any]:
    """Raises StoreError for a file that is missing, damaged or of another format."""
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise StoreError(f"{file}: cannot be read ({error})") from None
    if tree.get("format") not in READ:
        raise StoreError(
            f"{file}: run format {tree.get('format')!r}, this version reads {' and '.join(map(str, READ))}; "
            "use the version of recamlabel that made it, or a new --out folder"
        )
    return tree


def has_background(run: RunFolder) -> bool:
    """Whether a run's settings have a background; data sets of earlier versions do not say it themselves."""
    return bool(run.state.config.get("data", {}).get("background", True))


def _without_none(value: Any) -> Any:
    """TOML has no null: leave such keys out, which reads back as the default."""
    if isinstance(value, Mapping):
        return {str(key): _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list | tuple) else value
