"""Bad and odd inputs of every kind, each with what is expected of it; a table of how the command took them.

    python benchmarks/bad_input.py [--only GROUP…] [--every N] [--keep FOLDER]

The corpus is `bad_input_cases.py`: label files of all formats, class names, ids, images, settings, weights, precomputed
maps, decisions, damaged runs, lists of ids, `predict`, `export`, `convert`, `review --import`, `evaluate`. A case is
files, a command line, whether it is read (exit 0) or refused (exit 1 or 2), and a word that has to be said.

Each command runs in a process forked from one that has imported everything. Limits: no traceback, no exit 70, 10 s of
the processor's time (what waits is killed after a minute), 1 GB of memory above that of a fork which does nothing, so
that imports do not count (the largest resident set: the greater of what the kernel reports at the end and of what is
seen each 3 ms), nothing written or run outside of the case's folder (Python's audit events of files and processes,
and a folder beside it that has to stay as it is), no control character on the terminal. Exit code 1 where a case is
not as expected.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.append(str(HERE))
# benchmarks/datasets.py is not the library of that name, which comes first if this folder is the last.
sys.path.sort(key=lambda place: Path(place or ".").resolve() == HERE)

from bad_input_cases import Case, all_cases, make_runs  # noqa: E402 - only now it is found

SECONDS, BYTES, PATIENCE, ADDRESS_SPACE = 10.0, 1e9, 60.0, 4 * 2**30
WARM = (
    *("recamlabel.cli." + name for name in ("check", "convert", "evaluate", "export", "fit", "masks", "predict")),
    *("recamlabel.cli." + name for name in ("report", "review", "status", "compare", "calibrate", "config", "init")),
    *("recamlabel.run.fit", "recamlabel.run.predict", "recamlabel.review.page.report", "recamlabel.export.engine"),
    *("recamlabel.review.decisions.take_in", "recamlabel.review.foreign.read", "recamlabel.review.predicted"),
    *("torch", "timm", "h5py", "sklearn.linear_model", "PIL.Image", "rich.console", "datasets", "pyarrow.parquet"),
    *("matplotlib.font_manager", "matplotlib.backends.backend_agg", "matplotlib.figure"),
)
RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect")
MAKES = {"os.mkdir": 0, "os.remove": 0, "os.rmdir": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1, "os.truncate": 0}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Ended:
    """How a process ended; ``code`` is negative where a signal ended it. Seconds are those of the processor, all that
    went by where it had to be killed."""

    code: int
    seconds: float
    peak: int


@dataclass
class Outcome:
    """What became of a case.

    Attributes:
        verdict: read, refused, exit 70, or the exit code.
        faults: Names of what must not be.
        said: Standard output and error.
    """

    case: Case
    verdict: str
    seconds: float
    above: float
    said: str
    outside: str = ""
    faults: list[str] = field(default_factory=list)


def forked(work: Callable[[], int], patience: float = PATIENCE) -> Ended:
    """Run a function in a process of its own, whose exit code is what it gives; it is killed after a while."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 71
        try:
            os.setsid()
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(code)
    ended, status, usage, seen = 0, 0, None, 0
    while not ended:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if not ended:
            if time.monotonic() - began > patience:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
            seen = max(seen, resident(child))
            time.sleep(0.003)
    assert usage is not None
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    seconds = time.monotonic() - began if os.WIFSIGNALED(status) else usage.ru_utime + usage.ru_stime
    return Ended(os.waitstatus_to_exitcode(status), seconds, max(peak, seen))


def command(folder: Path, words: Sequence[str]) -> int:
    """The command in a folder, its output in ``said.txt``, what it does outside in ``outside.txt``."""
    from recamlabel.cli.main import run

    os.chdir(folder / "work")
    said = os.open(folder / "said.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process lives
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115 - as that
    os.environ |= {name: str(folder / "work" / "home") for name in ("HOME", "XDG_CACHE_HOME", "RECAMLABEL_CACHE")}
    os.environ |= {"TMPDIR": str(folder / "work"), "COLUMNS": "200", "HF_HOME": str(folder / "work" / "home")}
    tempfile.tempdir = None
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE + address_space(), resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    watch(folder / "work", os.open(folder / "outside.txt", os.O_WRONLY | os.O_CREAT))
    return run(list(words))


def resident(process: int) -> int:
    """Bytes of a process in memory now; where that cannot be seen, 0. Stages of `fit` reset what the kernel counts."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def address_space() -> int:
    """Bytes that this process has mapped."""
    if sys.platform != "linux":
        return 2**40
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def watch(folder: Path, told: int) -> None:
    """Write a line for each file that is written, made or removed outside of the folder, and each process started."""
    inside, harmless = f"{os.path.realpath(folder)}/", ("/dev/null", f"/proc/{os.getpid()}/clear_refs")

    def told_of(event: str, path: object) -> None:
        if isinstance(path, str | bytes | os.PathLike):
            place = os.path.realpath(os.fsdecode(path))
            if not f"{place}/".startswith(inside) and place not in harmless:
                os.write(told, f"{event} {place}\n".encode(errors="backslashreplace"))

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in RUNS:
            os.write(told, f"{event} {arguments[:2]!r}\n".encode(errors="backslashreplace"))
        elif event in MAKES:
            told_of(event, arguments[MAKES[event]])
        elif event == "open":
            _, mode, flags = arguments
            if (isinstance(flags, int) and flags & WRITES) or (isinstance(mode, str) and set(mode) & set("wax+")):
                told_of(event, arguments[0])

    sys.addaudithook(hook)


def run_case(case: Case, folder: Path, runs: Path, idle: int) -> Outcome:
    """Make the inputs of a case in one process, run its command in another, judge."""
    work, canary = folder / "work", folder / "canary"
    for place in (work, work / "home", canary):
        place.mkdir(parents=True)
    (canary / "keep.txt").write_text("as it was")
    made = forked(lambda: case.make(work, runs) or 0, 120.0)
    if made.code:
        raise RuntimeError(f"{case.group}: {case.name}: the inputs could not be made ({made.code})")
    ended = forked(lambda: command(folder, case.words))
    said = (folder / "said.txt").read_text(encoding="utf-8", errors="backslashreplace")
    outside = (folder / "outside.txt").read_text() if (folder / "outside.txt").exists() else ""
    if sorted(path.name for path in canary.iterdir()) != ["keep.txt"]:
        outside += "a file that only foreign code would make is there"
    verdict = {0: "read", 1: "refused", 2: "refused"}.get(ended.code, f"exit {ended.code}")
    outcome = Outcome(case, verdict, ended.seconds, ended.peak - idle, said, outside)
    outcome.faults = list(faults_of(outcome))
    return outcome


def faults_of(one: Outcome) -> Iterable[str]:
    """What must not be, a word each."""
    if "Traceback (most recent" in one.said:
        yield "traceback"
    if one.verdict == "exit 70":
        yield "exit 70"
    elif one.verdict != one.case.expected:
        yield f"{one.verdict} instead of {one.case.expected}"
    if one.seconds > SECONDS:
        yield "over 10 s"
    if one.above > BYTES:
        yield "over 1 GB"
    if one.outside:
        yield "outside"
    if one.case.word.casefold() not in " ".join(one.said.split()).casefold():
        yield f"does not say {one.case.word!r}"
    odd = {c for c in one.said if unicodedata.category(c) == "Cc" and c not in "\n\r\t"}
    if odd:
        yield f"control characters {sorted(odd)}"


def warm() -> None:
    """Import what the commands import."""
    for name in WARM:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    from recamlabel.adapters import ADAPTERS

    ADAPTERS.load_others()
    gc.collect()
    gc.freeze()


def quietly(work: Callable[[], int]) -> int:
    """With what it says left out."""
    for number in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return work()


def run_cases(cases: Sequence[Case], folder: Path) -> list[Outcome]:
    """All cases, each in a folder of its own that is removed where all was as expected."""
    warm()
    runs = folder / "runs"
    needed = any(case.needs_run for case in cases)
    if needed and forked(lambda: quietly(partial(make_runs, runs)), 900.0).code:
        raise RuntimeError("the run that cases damage could not be made")
    idle = forked(lambda: 0).peak
    outcomes = []
    for number, case in enumerate(cases):
        place = folder / f"case{number:03d}"
        outcomes.append(run_case(case, place, runs, idle))
        if outcomes[-1].faults:
            print(f"FAILED {case.group}: {case.name}: {'; '.join(outcomes[-1].faults)}", file=sys.stderr, flush=True)
        else:
            remove(place)
    return outcomes


def remove(folder: Path) -> None:
    """Also folders in each other a thousand times, which Python cannot."""
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """One line a group, one of all, then each failure."""
    heads = ("group", "cases", "as expected", "refused", "read", "exit 70", "tracebacks", "over 10 s", "over 1 GB")
    lines = [f"| {' | '.join((*heads, 'outside', 'slowest, s', 'most MB'))} |", f"|---|{'---:|' * (len(heads) + 2)}"]
    groups = list(dict.fromkeys(one.case.group for one in outcomes))
    for name in (*groups, "all"):
        some = [one for one in outcomes if name in (one.case.group, "all")]
        counts = [len(some), sum(not one.faults for one in some)]
        counts += [sum(one.verdict == verdict for one in some) for verdict in ("refused", "read", "exit 70")]
        counts += [sum(what in one.faults for one in some) for what in ("traceback", *heads[-2:], "outside")]
        most = f"{max(one.seconds for one in some):.1f} | {max(0, *(one.above for one in some)) / 1e6:.0f}"
        lines.append(f"| {name} | {' | '.join(map(str, counts))} | {most} |")
    for one in outcomes:
        if one.faults:
            last = (one.said.strip().splitlines() or [""])[-1][:300]
            what = "; ".join(one.faults)
            lines.append(f"FAILED {one.case.group}: {one.case.name}: {what}\n    `{' '.join(one.case.words)}`: {last}")
            lines += [f"    outside: {line}" for line in one.outside.splitlines()[:3]]
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Run the corpus, print the table."""
    cases = all_cases()
    groups = list(dict.fromkeys(case.group for case in cases))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=groups, default=groups)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every N-th case alone")
    parser.add_argument("--keep", type=Path, help="an empty folder where the inputs of failures stay")
    given = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a fork of a process with OpenMP's threads would wait for ever
    chosen = [case for case in cases if case.group in given.only][:: given.every]
    memory = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    place = Path(tempfile.mkdtemp(prefix="recamlabel-bad-", dir=memory)).resolve()
    try:
        outcomes = run_cases(chosen, place)
        if given.keep is not None:
            remove(place / "runs")
            shutil.copytree(place, given.keep, symlinks=True, ignore=skip_pipes, dirs_exist_ok=True)
    finally:
        remove(place)
    print("\n".join(table(outcomes)))
    return int(any(one.faults for one in outcomes))


def skip_pipes(folder: str, names: list[str]) -> list[str]:
    """What cannot be copied."""
    return [name for name in names if (Path(folder) / name).is_fifo() or (Path(folder) / name).is_socket()]


if __name__ == "__main__":
    sys.exit(main())
