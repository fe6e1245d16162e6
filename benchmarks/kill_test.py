"""Every verb that writes, killed again and again: the same command ends as if nothing had happened, and leaves nothing.

    python benchmarks/kill_test.py --out DIR [--kills 220] [--seed 0] [--verbs VERB…]

Draws 12 scenes of 48 x 64 pixels and makes the runs that the verbs start from. Then each command is killed (SIGKILL
to its process group) at a random time, or at the n-th write event, before it, half-way through it or after it, and
repeated, killed again or not, until it ends. What it has made is compared with what the undisturbed command made: HDF5
contents and attributes, weights and pictures byte for byte, JSON and TOML without times. Prints a table, and what
differs; exit code 1 where something is wrong, stuck or left behind.

The commands run in processes forked from this one, which has torch loaded: a fit of a few steps takes seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import mmap
import os
import random
import re
import shutil
import signal
import sys
import threading
import time
import tomllib
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Read when torch is loaded: a process that is forked from one with threads of OpenMP would hang.
os.environ["OMP_NUM_THREADS"] = "1"

import h5py
import numpy as np
import torch
from PIL import Image

import recamlabel.review.page.report as report_pages
import recamlabel.training.loop as training_loop
from recamlabel.cli.main import COMMANDS, cli, run
from recamlabel.review.decisions.identity import identity_of, mask_digest
from recamlabel.review.decisions.runs import Runs
from recamlabel.storage.hdf5 import ShardedWriter, leaf_paths, open_store
from recamlabel.storage.run_folder import RunFolder

COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200)}
LABELS = [["red"], ["blue"], ["red", "blue"], [], ["blue"], ["red"], ["red", "blue"], ["blue"], ["red"], [], ["red"]]
LABELS += [["blue"]]
SETTINGS = (
    *("augment.crop_size=64", "augment.resize_min=64", "augment.resize_max=80"),
    *("classifier.batch_size=4", "classifier.min_steps=3", "classifier.max_steps=3"),
    *("recam.batch_size=4", "recam.min_steps=2", "recam.max_steps=2", "recam.min_agreement=0", "recam.combine=product"),
    *("maps.scales=[1.0]", "probe.folds=2", "probe.iterations=1", "probe.fine_sides=[]", "local.enabled=false"),
    *("segmenter.min_steps=2", "segmenter.max_steps=2", "segmenter.batch_size=4", "segmenter.predict.scales=[1.0]"),
    *("refine.method=none", "runtime.workers=1", "runtime.device=cpu"),
)
PHASES = ("before", "half", "after")
# Images in a shard, and on a page of the report: several of each, so that there is something between them.
SHARD, PAGE = 4, 5
# Times of the undisturbed command, and seconds, after which a command is stuck.
PATIENCE, LEAST = 10.0, 60.0
# What is said where --out holds something, which may be the whole result of a command that was killed as it ended.
REFUSED = re.compile(r"not empty|not an empty folder|is there already")
# Repetitions that are killed too, at most.
LONGEST = 12


# --- What is killed, and where ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shot:
    """A kill: at the n-th event of a kind, or (without a kind) by the clock.

    Args:
        kind: Of the event; "" for one by the clock.
        number: Of the event among its kind, from 1.
        phase: One of ``PHASES``.
        seconds: After which the clock kills.
    """

    kind: str = ""
    number: int = 0
    phase: str = ""
    seconds: float = math.inf


class Board:
    """A few bytes that a process and those forked from it share: what the child was doing when it was killed."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 4096)

    def write(self, **facts: Any) -> None:
        """Replace what is on it."""
        text = json.dumps(facts).encode()[:4094]
        self.memory[: len(text) + 1] = text + b"\n"

    def read(self) -> dict[str, Any]:
        """What is on it; empty where that was cut by the kill."""
        try:
            tree: dict[str, Any] = json.loads(self.memory[:].partition(b"\n")[0])
        except ValueError:
            return {}
        return tree


class Trap:
    """Counts the write events of a process below a folder, and kills its process group at one of them.

    Args:
        root: Other places are not looked at.
        shot: Where to kill.
        board: Where it says what it is doing.
    """

    def __init__(self, root: Path, shot: Shot, board: Board) -> None:
        self.root, self.shot, self.board = str(root), shot, board
        self.counts: Counter[str] = Counter()
        self.stage, self.within, self.lock = "", threading.local(), threading.Lock()

    def meet(self, kind: str, path: Any, act: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        """Do what is an event, unless it is a part of another one or lies elsewhere."""
        if getattr(self.within, "event", False) or not str(path).startswith(self.root):
            return act()
        self.within.event = True
        try:
            with self.lock:
                self.counts[kind] += 1
                here = (kind, self.counts[kind]) == (self.shot.kind, self.shot.number)
            if here and self.shot.phase == "before":
                self.fire(path)
            if here and self.shot.phase == "half" and half is not None:
                half()
                self.fire(path)
            result = act()
            if here:
                self.fire(path)
        finally:
            self.within.event = False
        return result

    def fire(self, path: Any) -> None:
        """End this process and all that it has started."""
        self.tell(path=str(path)[len(self.root) + 1 :])
        os.killpg(0, signal.SIGKILL)
        time.sleep(60)

    def tell(self, **facts: Any) -> None:
        """Write on the board where this process is."""
        self.board.write(stage=self.stage, **facts)

    def at(self, stage: str) -> None:
        """A stage of a run begins or ends."""
        self.stage = stage
        self.tell()


def arm(trap: Trap) -> None:
    """Put a trap at everything by which this process writes.

    Functions of other modules are put in the place of theirs here and below, which mypy takes for mistakes.
    """
    _arm_paths(trap)
    _arm_files(trap)
    _arm_hdf5(trap)
    begin, finish = RunFolder.begin, RunFolder.finish

    def began(self: RunFolder, stage: str) -> None:
        trap.at(stage)
        begin(self, stage)

    def finished(self: RunFolder, stage: str, *rest: Any, **facts: Any) -> None:
        finish(self, stage, *rest, **facts)
        trap.at(f"after {stage}")

    RunFolder.begin, RunFolder.finish = began, finished  # type: ignore[method-assign]


def _arm_paths(trap: Trap) -> None:
    """Names: moved, linked, made, deleted. Nothing of these is ever seen half done but a folder that is deleted."""

    def whole(owner: Any, name: str, kind: str, place: int = 0) -> None:
        plain = getattr(owner, name)

        def wrapped(*words: Any, **options: Any) -> Any:
            return trap.meet(kind, words[place], lambda: plain(*words, **options))

        setattr(owner, name, wrapped)

    rmtree = shutil.rmtree

    def remove(path: Any, *rest: Any, **options: Any) -> None:
        def half() -> None:
            entries = sorted(Path(path).iterdir()) if Path(path).is_dir() else []
            for entry in entries[: (len(entries) + 1) // 2]:
                rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()

        trap.meet("rmtree", path, lambda: rmtree(path, *rest, **options), half)

    shutil.rmtree = remove  # type: ignore[assignment]
    for owner, names in ((Path, ("replace", "rename")), (os, ("replace", "rename"))):
        for name in names:
            whole(owner, name, "rename")
    whole(os, "link", "link", 1)
    whole(Path, "symlink_to", "symlink")
    whole(Path, "hardlink_to", "link")
    whole(Path, "mkdir", "mkdir")
    whole(Path, "rmdir", "rmdir")
    whole(Path, "unlink", "unlink")


def _arm_files(trap: Trap) -> None:
    """Contents of files; half-way is a file with half of them."""
    write_bytes, write_text, save, copyfile = Path.write_bytes, Path.write_text, Image.Image.save, shutil.copyfile
    opened, save_array, write, packed = Path.open, np.save, os.write, zipfile.ZipFile.writestr

    def cut(path: Any, content: bytes) -> Callable[[], Any]:
        return lambda: write_bytes(Path(path), content[: len(content) // 2])

    def some_bytes(self: Path, data: Any) -> Any:
        return trap.meet("write bytes", self, lambda: write_bytes(self, data), lambda: cut(self, bytes(data))())

    def some_text(self: Path, data: str, *rest: Any, **options: Any) -> Any:
        return trap.meet(
            "write text", self, lambda: write_text(self, data, *rest, **options), lambda: cut(self, data.encode())()
        )

    def picture(self: Image.Image, place: Any, *rest: Any, **options: Any) -> Any:
        def half() -> None:
            memory = io.BytesIO()
            kind = options.get("format") or Image.registered_extensions()[Path(place).suffix.lower()]
            save(self, memory, *rest, **{**options, "format": kind})
            cut(place, memory.getvalue())()

        return trap.meet("picture", place, lambda: save(self, place, *rest, **options), half)

    def copied(source: Any, target: Any, **options: Any) -> Any:
        return trap.meet("copy", target, lambda: copyfile(source, target, **options), cut(target, b"\0" * 200))

    def array(place: Any, *rest: Any, **options: Any) -> None:
        trap.meet("array", place, lambda: save_array(place, *rest, **options), cut(place, b"\0" * 200))

    def stream(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        """Half-way through what is written line by line: the file is there, and empty."""
        if not set(mode) & set("wax"):
            return opened(self, mode, *rest, **options)
        return trap.meet("open", self, lambda: opened(self, mode, *rest, **options))

    def line(handle: int, data: bytes) -> int:
        place = f"/proc/self/fd/{handle}"
        path = str(Path(place).readlink()) if Path(place).is_symlink() else ""
        done: int = trap.meet("line", path, lambda: write(handle, data), lambda: write(handle, data[: len(data) // 2]))
        return done

    def member(self: zipfile.ZipFile, name: Any, data: Any, *rest: Any, **options: Any) -> None:
        def half() -> None:
            packed(self, name, data[: len(data) // 2], *rest, **options)

        trap.meet("zip", self.filename, lambda: packed(self, name, data, *rest, **options), half)

    zipfile.ZipFile.writestr = member  # type: ignore[method-assign]
    Path.write_bytes, Path.write_text, Path.open = some_bytes, some_text, stream  # type: ignore[assignment]
    Image.Image.save, shutil.copyfile, np.save, os.write = picture, copied, array, line  # type: ignore[assignment]


def _arm_hdf5(trap: Trap) -> None:
    """HDF5 files: made (half-way: there, with nothing in it), a part copied into one (half-way: and on the disk)."""
    make, copy, close = h5py.File.__init__, h5py.Group.copy, h5py.File.close

    def made(self: Any, name: Any, mode: str = "r", *rest: Any, **options: Any) -> None:
        def act() -> None:
            make(self, name, mode, *rest, **options)

        if mode == "r" or not isinstance(name, str | Path):
            act()
        else:
            trap.meet("h5 make", name, act, lambda: (act(), self.flush()))

    def copied(self: Any, source: Any, dest: Any, *rest: Any, **options: Any) -> None:
        def act() -> None:
            copy(self, source, dest, *rest, **options)

        trap.meet("h5 copy", dest.file.filename, act, lambda: (act(), dest.file.flush()))

    def closed(self: Any) -> None:
        writes = bool(self) and self.mode != "r" and self.id.get_access_plist().get_driver() == h5py.h5fd.SEC2
        trap.meet("h5 close", self.filename if writes else "", lambda: close(self))

    h5py.File.__init__, h5py.Group.copy, h5py.File.close = made, copied, closed


# --- One process -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: Exit code; None where it was killed by its shot, -9 where it took too long.
        seconds: Wall time.
        facts: What was on the board.
        counts: Events by kind; of a process that was not killed.
        said: The end of what it printed.
    """

    code: int | None
    seconds: float
    facts: Mapping[str, Any]
    counts: Mapping[str, int]
    said: str


def launch(words: Sequence[str], root: Path, shot: Shot, log: Path, limit: float) -> Ended:
    """Run ``recamlabel words`` in a process forked from this one, in a process group of its own."""
    board, began = Board(), time.monotonic()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(words, root, shot, board, log, writer)
    os.close(writer)
    status, killed = _wait(child, began + min(shot.seconds, limit))
    with os.fdopen(reader, "rb") as pipe:
        counts = json.loads(pipe.read() or b"{}")
    seconds = time.monotonic() - began
    if status == -signal.SIGKILL and (not killed or shot.seconds <= limit):
        status = None
    return Ended(status, seconds, board.read(), counts, log.read_text(errors="replace")[-2000:])


def _wait(child: int, end: float) -> tuple[int, bool]:
    """Exit code of a child, and whether the clock has killed it; it does not outlive this process's interruption."""
    status, killed = None, False
    try:
        while status is None:
            found, code = os.waitpid(child, os.WNOHANG)
            if found:
                status = os.waitstatus_to_exitcode(code)
            elif not killed and time.monotonic() > end:
                _kill(child)
                killed = True
            else:
                time.sleep(0.004)
    finally:
        if status is None:
            _kill(child)
    return status, killed


def _kill(child: int) -> None:
    """The group of a child, or the child alone where it has not made one yet."""
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL) if os.getpgid(child) == child else os.kill(child, signal.SIGKILL)


def _child(words: Sequence[str], root: Path, shot: Shot, board: Board, log: Path, writer: int) -> None:
    """The rest of a forked process."""
    code = 99
    try:
        os.setsid()
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for number in (1, 2):
            os.dup2(said, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  (a number, for as long as the process lives)
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115  (as that)
        trap, plain = Trap(root, shot, board), os.write
        arm(trap)
        code = run(list(words))
        sys.stdout.flush()
        sys.stderr.flush()
        plain(writer, json.dumps(trap.counts).encode())
    finally:
        os._exit(code)


# --- What a command has made -----------------------------------------------------------------------------------------

TIMES = {"finished", "seconds", "peak_mb", "resumed_at", "time", "seconds_total"}
# Appended to by every try; a page that is read, not compared number by number, has times in words.
UNCOMPARED = re.compile(r"(^|/)(\.lock|log\.jsonl)$")
WORDS = re.compile(
    r"\b[\d.]+ (s|min|MB|GB)\b|\b\d+ min \d+ s\b|\bpeak_mb \d+"
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\+00:00)?"
)


def contents(root: Path) -> dict[str, str]:
    """Everything below a folder that is to be equal, as a hash by path; folders too."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_dir():
            found[name] = "folder"
        elif not UNCOMPARED.search(name):
            found[name] = hashlib.sha256(content(path)).hexdigest()[:16]
    return found


def content(path: Path) -> bytes:
    """What of a file is to be equal."""
    data = path.read_bytes()
    if path.suffix == ".h5":
        return _of_hdf5(path)
    if path.suffix == ".toml":
        return json.dumps(_timeless(tomllib.loads(data.decode())), sort_keys=True, default=str).encode()
    if path.name == "masks.json":
        tree = json.loads(data)
        # The second of each is the time of a PNG file.
        return json.dumps({**tree, "files": {name: [row[0], row[2]] for name, row in tree["files"].items()}}).encode()
    if path.suffix == ".json":
        return json.dumps(_timeless(json.loads(data)), sort_keys=True).encode()
    if path.suffix == ".jsonl":
        return json.dumps([_timeless(json.loads(line)) for line in data.decode().splitlines()]).encode()
    if path.suffix in (".pt", ".zip"):
        # Archives say when each part was written. TorchScript's have theirs in any order, and beside code and weights
        # the calls that led there, which are this script's (another line each), and a hash of all parts.
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if not name.endswith((".debug_pkl", "serialization_id")))
            return b"".join(name.encode() + archive.read(name) for name in names)
    if path.suffix == ".html":
        return WORDS.sub("TIME", re.sub(r"(, )?resumed_at [\d.]+", "", data.decode())).encode()
    return data


def _timeless(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _timeless(value) for name, value in tree.items() if name not in TIMES}
    return [_timeless(value) for value in tree] if isinstance(tree, list) else tree


def _of_hdf5(path: Path) -> bytes:
    rows = []
    with h5py.File(path, "r") as file:
        items = [("", file), *((name, file[name]) for name in leaf_paths(file))]
        for name, item in items:
            attributes = sorted((key, str(np.asarray(value).tolist())) for key, value in item.attrs.items())
            row: list[Any] = [name, attributes]
            if isinstance(item, h5py.Dataset):
                array = item[()]
                plain = isinstance(array, np.ndarray) and not array.dtype.hasobject
                raw = array.tobytes() if plain else str(np.asarray(array).tolist()).encode()
                row += [str(item.dtype), item.shape, hashlib.sha256(raw).hexdigest()]
            rows.append(row)
    return json.dumps(rows).encode()


# --- The verbs -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A command that writes.

    Args:
        name: In the table.
        base: The state that it starts from, a key of ``BASES``.
        words: The command; ``{at}`` is the folder that it works in.
        share: Of the kills, relative to other cases.
        long: Takes seconds: kills fall early in what is left, and many tries are one chain.
    """

    name: str
    base: str
    words: tuple[str, ...]
    share: float = 1.0
    long: bool = False


def _sets(*more: str) -> tuple[str, ...]:
    return tuple(word for one in (*SETTINGS, *more) for word in ("--set", one))


FIT = ("fit", "{at}/data", "--out", "{at}/run")
WITH_REVIEW = ("fit", "{at}/run", "--with-review")
ROUNDS = (*FIT, "--rounds", "2", *_sets())
EXPORTS = ("voc", "coco", "mmseg", "yolo", "huggingface", "hdf5", "cvat", "labelstudio")
CASES = (
    Case("fit --rounds 2", "nothing", ROUNDS, 10, long=True),
    Case("fit --with-review", "reviewed", WITH_REVIEW, 8, long=True),
    Case("rounds: fit --with-review", "reviewed rounds", WITH_REVIEW, 4, long=True),
    Case("masks", "fitted", ("masks", "{at}/run", "--threshold", "0.45"), 3),
    Case("rounds: masks", "later round", ("masks", "{at}/run", "--threshold", "0.45"), 3),
    *(
        Case(
            f"export {name}",
            "reviewed",
            ("export", "{at}/run", "--format", name, "--out", "{at}/made/out", "--what", "reviewed"),
        )
        for name in EXPORTS
    ),
    Case("predict", "fitted", ("predict", "{at}/run", "{at}/photos", "--out", "{at}/made/out", "--probabilities"), 3),
    Case(
        "label",
        "fitted",
        ("label", "{at}/data", "--run", "{at}/run", "--out", "{at}/made/out", "--shard-images", "4", "--format", "png"),
        3,
    ),
    Case("report", "reviewed", ("report", "{at}/run", "--truth", "{at}/truth"), 3),
    Case("calibrate", "fitted", ("calibrate", "{at}/run", "--truth", "{at}/truth", "--n", "6"), 3),
    Case("review --import", "fitted", ("review", "{at}/run", "--import", "{at}/decisions.json"), 3),
    Case("evaluate", "fitted", ("evaluate", "{at}/run", "--truth", "{at}/truth"), 2),
    *(
        Case(f"convert --to {name}", "nothing", ("convert", "{at}/data", "--to", name, "--out", "{at}/made/out"), 4 / 3)
        for name in ("csv", "coco", "openimages")
    ),
    Case(
        "export-model",
        "fitted",
        ("export-model", "{at}/run", "--format", "torchscript", "--size", "64x64", "--out", "{at}/made/a/net.pt"),
        2,
    ),
    Case("init", "nothing", ("init", "{at}/photos", "--out", "{at}/made/labels.csv"), 2),
)
# How each state is made from another: the commands, in order.
BASES: dict[str, tuple[str, tuple[tuple[str, ...], ...]]] = {
    "nothing": ("", ()),
    "fitted": ("nothing", ((*FIT, *_sets()),)),
    "reviewed": ("fitted", (("review", "{at}/run", "--import", "{at}/decisions.json"),)),
    "rounds": ("nothing", (ROUNDS,)),
    "reviewed rounds": ("rounds", (("review", "{at}/run", "--import", "{at}/decisions.json"),)),
    "later round": ("rounds", ()),
}
CHANGES = ("run", "made")


@dataclass
class Tally:
    """What came of a case.

    Attributes:
        events: Kills by kind and phase of their event.
        places: Kills by stage, or by the file at which they fell.
        timed: Kills by the clock.
        chains: Commands that were brought to their end.
        wrong, stuck, left: What was found, in words.
    """

    events: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    timed: int = 0
    chains: int = 0
    wrong: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """All of them."""
        return self.timed + self.events.total()


@dataclass(frozen=True)
class Whole:
    """An undisturbed command: what it made, its events, its seconds."""

    made: Mapping[str, str]
    counts: Mapping[str, int]
    seconds: float


class Harness:
    """The folder that everything happens in, and the states that commands start from.

    Args:
        out: A folder of its own; what is in it from an earlier call is used.
        seed: Of the kills.

    Attributes:
        at: Where commands work, always the same place, so that paths in what they make are equal.
    """

    def __init__(self, out: Path, seed: int = 0) -> None:
        self.out, self.random = out.resolve(), random.Random(seed)
        self.at, self.bases = self.out / "at", self.out / "bases"
        self.wholes: dict[str, Whole] = {}
        _warm()
        if not (self.at / "data" / "labels.csv").is_file():
            draw(self.at)

    def base(self, name: str) -> Path:
        """The folder of a state, made where it is missing."""
        place = self.bases / name
        if place.is_dir():
            return place
        parent, commands = BASES[name]
        if parent:
            self.start(parent)
        else:
            self._clear()
        for words in commands:
            if "--import" in words:
                decide(self.at)
            ended = self.run(words, Shot())
            if ended.code != 0:
                raise SystemExit(f"{name}: recamlabel {' '.join(words)} ended with {ended.code}\n{ended.said}")
        if name == "later round":
            keep_later_round(self.at / "run")
        if name == "fitted":
            decide(self.at)
        self._keep(place)
        return place

    def start(self, name: str) -> None:
        """Bring the folder into a state."""
        base = self.base(name)
        self._clear()
        for part in base.iterdir():
            if part.is_dir():
                shutil.copytree(part, self.at / part.name, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy2(part, self.at / part.name)

    def _clear(self) -> None:
        for name in CHANGES:
            shutil.rmtree(self.at / name, ignore_errors=True)
        (self.at / "made").mkdir()
        (self.at / "decisions.json").unlink(missing_ok=True)

    def _keep(self, place: Path) -> None:
        fresh = place.with_name(f"{place.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for name in (*CHANGES, "decisions.json"):
            path = self.at / name
            if path.is_dir():
                shutil.copytree(path, fresh / name, symlinks=True)
            elif path.is_file():
                shutil.copy2(path, fresh / name)
        fresh.rename(place)

    def run(self, words: Sequence[str], shot: Shot, limit: float = 1800) -> Ended:
        """A command in the folder as it is."""
        return launch([word.format(at=self.at) for word in words], self.at, shot, self.out / "said.txt", limit)

    def whole(self, case: Case) -> Whole:
        """The undisturbed command, run once."""
        if case.name not in self.wholes:
            self.start(case.base)
            ended = self.run(case.words, Shot())
            if ended.code != 0:
                raise SystemExit(f"{case.name}: ended with {ended.code} undisturbed\n{ended.said}")
            self.wholes[case.name] = Whole(contents(self.at), ended.counts, ended.seconds)
        return self.wholes[case.name]

    def shot(self, case: Case, whole: Whole) -> Shot:
        """Where to kill next: at an event of a kind, all kinds alike, or by the clock."""
        part = 4 if case.long else 1
        if self.random.random() < 0.2:
            return Shot(seconds=self.random.uniform(0.0, whole.seconds / part))
        kind = self.random.choice(sorted(whole.counts))
        number = self.random.randint(1, max(1, math.ceil(whole.counts[kind] / part)))
        return Shot(kind, number, self.random.choice(PHASES))

    def chain(self, case: Case, tally: Tally, most: int, shots: Sequence[Shot] = ()) -> None:
        """A command killed once or more and then left in peace; what comes of it is looked at.

        Args:
            case: The command.
            tally: Of the case.
            most: Kills, at most.
            shots: The kills; without them they are drawn.
        """
        whole, told = self.whole(case), []
        self.start(case.base)
        limit = max(LEAST, PATIENCE * whole.seconds)
        count = LONGEST if case.long else self.random.choice([1, 1, 2])
        asked = list(shots) or [self.shot(case, whole) for _ in range(count)]
        for shot in asked[: min(most, LONGEST)]:
            ended = self.run(case.words, shot, limit)
            if ended.code is not None:
                break
            told.append(_count(tally, shot, ended, self.at))
        else:
            ended = self.run(case.words, Shot(), limit)
        tally.chains += 1
        how = f"{case.name} [{'; '.join(told)}]"
        self._judge(how, ended, whole, tally)

    def _judge(self, how: str, ended: Ended, whole: Whole, tally: Tally) -> None:
        try:
            made = contents(self.at)
        except (OSError, ValueError, KeyError) as error:
            made = {"": f"unreadable: {error}"}
        extra = sorted(made.keys() - whole.made.keys())
        other = sorted(name for name, value in whole.made.items() if made.get(name) != value)
        lines = ended.said.strip().splitlines()
        # A command that refuses, as what it is to make is there already and whole, has ended.
        refuses = ended.code == 1 and bool(lines) and REFUSED.search(lines[-1]) is not None
        if other and ended.code == 0:
            tally.wrong.append(f"{how}: other content: {', '.join(other[:6])} ({len(other)} in all)")
        elif ended.code != 0 and (other or not refuses):
            tally.stuck.append(f"{how}: exit {ended.code}: {lines[-1] if lines else 'nothing said'}")
        if extra:
            tally.left.append(f"{how}: {', '.join(extra[:6])} ({len(extra)} in all)")
        if (other or extra) and not (self.out / "kept").exists():
            shutil.copytree(self.at, self.out / "kept", symlinks=True)


def _count(tally: Tally, shot: Shot, ended: Ended, at: Path) -> str:
    """Write down a kill; says it in words."""
    stage = str(ended.facts.get("stage", ""))
    if not shot.kind:
        tally.timed += 1
        tally.places[stage or "by time"] += 1
        return f"after {ended.seconds:.2f} s, {stage or 'no stage'}"
    path = str(ended.facts.get("path", "?"))
    tally.events[f"{shot.kind}, {shot.phase}"] += 1
    tally.places[stage or re.sub(r"[\d-][\w-]*\.tmp", "*", path)] += 1
    return f"{shot.phase} {shot.kind} {shot.number} of {path}{f', {stage}' if stage else ''}"


def _warm() -> None:
    """Load what the verbs need, before any process is forked; several shards, checkpoints and pages in each run."""
    torch.set_num_threads(1)
    # Started as a script this folder is looked in first, where `import datasets` finds another benchmark.
    sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != Path(__file__).resolve().parent]
    for name in COMMANDS:
        cli.get_command(None, name)  # type: ignore[arg-type]  # it never looks at its context
    import recamlabel.evaluation.calibration
    import recamlabel.review.page.rounds_pages
    import recamlabel.review.predicted
    import recamlabel.run.fit
    import recamlabel.run.label.verb
    import recamlabel.run.predict
    import recamlabel.run.review_round  # noqa: F401  (loaded is all that is wanted)

    training_loop.CHECKPOINT_SECONDS = -1.0
    ShardedWriter.__init__.__defaults__ = (SHARD,)
    report_pages.PAGE_IMAGES = PAGE


def draw(at: Path) -> None:
    """Scenes of 48 x 64 pixels with their labels, their exact masks, and three photographs for ``predict``."""
    rows = ["image,labels,split"]
    for number, names in enumerate([*LABELS, *LABELS[:3]]):
        generator = np.random.default_rng(number)
        image = generator.integers(90, 130, (48, 64, 3)).astype(np.uint8)
        mask = np.zeros((48, 64), np.uint8)
        for place, name in enumerate(names):
            top, left = 4 + int(generator.integers(0, 16)), 4 + place * 32
            image[top : top + 22, left : left + 22] = COLOURS[name]
            mask[top : top + 22, left : left + 22] = list(COLOURS).index(name) + 1
        new = number >= len(LABELS)
        folder, name = at / "photos" if new else at / "data" / "images", f"{number}.png"
        for place in (folder, at / "truth"):
            place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
        if not new:
            Image.fromarray(mask).save(at / "truth" / name)
            rows.append(f"images/{name},{' '.join(names)},{'val' if number >= 9 else 'train'}")
    (at / "data" / "labels.csv").write_text("\n".join(rows) + "\n")
    (at / "data" / "classes.txt").write_text("red\nblue\n")


def decide(at: Path) -> None:
    """A ``decisions.json`` of all kinds: accepted, painted, rejected, to fix."""
    folder = RunFolder.open(at / "run")
    from recamlabel.data.catalog import CATALOG_FILE, load_catalog

    identity = identity_of(folder, load_catalog(at / "run" / CATALOG_FILE))
    rows = []
    with open_store(at / "run" / "masks.h5") as file:
        for number, name in enumerate(sorted(leaf_paths(file))[:8]):
            mask = file[name][()]
            row: dict[str, Any] = {"image": name, "status": ("accepted", "accepted", "rejected", "fix")[number % 4]}
            row |= {"note": f"note {number}", "time": f"2026-11-22T20:14:{number:02d}.000Z", "mask": mask_digest(mask)}
            if number % 4 == 1:
                mask[4:30, 4:30] = 1
                row["painted"] = Runs.of(mask).to_json()
            rows.append(row)
    tree = {"format": "recamlabel-decisions", "version": 2, "run": vars(identity), "reviewer": "", "decisions": rows}
    (at / "decisions.json").write_text(json.dumps(tree))


def keep_later_round(place: Path) -> None:
    """Make round 2 the kept one, whichever the criterion has chosen."""
    from recamlabel.run.rounds import install, kept_round

    folder = RunFolder.open(place)
    if kept_round(folder) == 1:
        with folder.lock():
            install(folder, 2, folder.key_of("rounds"))


# --- The table -------------------------------------------------------------------------------------------------------


def shares(cases: Sequence[Case], kills: int) -> dict[str, int]:
    """How many kills each case gets."""
    total = sum(case.share for case in cases)
    return {case.name: max(1, round(kills * case.share / total)) for case in cases}


def table(tallies: Mapping[str, Tally]) -> Iterator[str]:
    """The lines of the table, then where the kills fell, then what was found."""
    yield "| verb | kills | by event | by time | commands | wrong | stuck | left behind |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    rows = list(tallies.values())
    for name, one in (*tallies.items(), ("all", None)):
        some = rows if one is None else [one]
        numbers = [
            sum(part.kills for part in some),
            sum(part.events.total() for part in some),
            sum(part.timed for part in some),
            sum(part.chains for part in some),
            *(sum(len(getattr(part, what)) for part in some) for what in ("wrong", "stuck", "left")),
        ]
        yield f"| {name} | {' | '.join(map(str, numbers))} |"
    for title, what in (("by event", "events"), ("where", "places")):
        total: Counter[str] = sum((getattr(one, what) for one in rows), Counter())
        yield f"\n{title}: " + ", ".join(f"{name or '-'} {count}" for name, count in total.most_common())
    for title in ("wrong", "stuck", "left"):
        for one in rows:
            yield from (f"\n{title}: {text}" for text in getattr(one, title))


def main() -> int:
    """All cases; the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="A folder of its own, made anew.")
    parser.add_argument("--kills", type=int, default=220)
    parser.add_argument("--seed", type=int, default=0)
    names = [case.name for case in CASES]
    told = f"Those that begin so: {', '.join(names)}"
    parser.add_argument("--verbs", nargs="*", default=names, metavar="VERB", help=told)
    arguments = parser.parse_args()
    cases = [case for case in CASES if case.name.startswith(tuple(arguments.verbs))]
    # Told to end, it ends its child too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    harness, tallies = Harness(arguments.out, arguments.seed), {}
    wanted = shares(cases, arguments.kills)
    for case in cases:
        tally = tallies[case.name] = Tally()
        began = time.monotonic()
        while tally.kills < wanted[case.name]:
            harness.chain(case, tally, wanted[case.name] - tally.kills)
        bad = [*tally.wrong, *tally.stuck, *tally.left]
        seconds = time.monotonic() - began
        print(f"{case.name}: {tally.kills} kills, {len(bad)} bad, {seconds:.0f} s", *bad, sep="\n  ", file=sys.stderr)
    for line in table(tallies):
        print(line, flush=True)
    return int(any(one.wrong or one.stuck or one.left for one in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
