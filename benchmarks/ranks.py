"""Several processes at one run: masks beside those of one, their training step, and runs whose ranks are killed.

    python benchmarks/ranks.py --out DIR [--images 12] [--kills 10] [--processes 2] [--parts masks steps kills]

On drawn scenes (``recamlabel demo``), with short trainings and every stage of `quick`:

- ``fit`` by one process and by several (gloo): the largest difference of maps and scores, the share of mask labels that
  differ; likewise from the same trained networks, everything after the trainings made again by several; and, for
  comparison, by one process with another number of threads, whose sums are rounded otherwise too;
- the classifier's training step (16 crops of 128 pixels): one process with as many threads as cores, and as many
  processes with one thread each, in turn: seconds by the clock and of processors, of the steps after the first ten;
- ``fit`` by several processes under ``torchrun``, killed (SIGKILL to one rank, chosen by chance) at a time chosen by
  chance, and repeated with the same command until so many kills are done, then left in peace: seconds until all
  processes had ended, whether that was said, and whether the masks are those of the run that nobody disturbed.

Prints tables; exit code 1 where the masks from the same networks, or after the kills, differ by more than 0.1 %, or a
kill left the others running for a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np

from recamlabel.core.devices import usable_cores
from recamlabel.demo.scenes import SceneSettings, make_scenes

FILES = ("work/maps.h5", "work/fine.h5", "work/fused.h5", "work/scores.h5", "masks.h5", "segmenter.h5")
SETTINGS = (
    *("classifier.min_steps=20", "classifier.max_steps=20", "classifier.batch_size=8"),
    *("recam.min_steps=10", "recam.max_steps=10", "recam.batch_size=8"),
    *("segmenter.min_steps=10", "segmenter.max_steps=10", "segmenter.batch_size=8", "runtime.device=cpu"),
    *("probe.folds=2", "probe.iterations=1", "refine.levels=[0.4]"),
    *("augment.crop_size=128", "augment.resize_min=128", "augment.resize_max=192", "local.enabled=false"),
)
# Of the training that is timed: as many steps, of which the first ten are not looked at.
STEPS, WARM = 40, 10
LIMIT = 60.0


def command(source: Path, out: Path, processes: int, settings: Sequence[str]) -> list[str]:
    """``fit`` as a user starts it."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    pairs = [part for setting in settings for part in ("--set", setting)]
    many = launcher if processes > 1 else []
    return [sys.executable, *many, "-m", "recamlabel", "fit", str(source), "--out", str(out), *pairs]


def run(source: Path, out: Path, processes: int, settings: Sequence[str], threads: int = 1) -> float:
    """Seconds of a ``fit`` that has to end well."""
    began = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    ended = subprocess.run(
        command(source, out, processes, settings), env=environment, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise SystemExit(f"fit by {processes} processes ended with {ended.returncode}:\n{ended.stderr[-3000:]}")
    return time.monotonic() - began


def arrays(path: Path) -> dict[str, np.ndarray]:
    """All data sets of a file by name."""
    found: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def difference(one: Path, other: Path) -> tuple[float, float]:
    """The largest difference of two files' values, and the share of the values that differ."""
    first, second = arrays(one), arrays(other)
    if first.keys() != second.keys():
        raise SystemExit(f"{other} has other images than {one}")
    largest = max(
        float(np.abs(first[name].astype(np.float64) - second[name]).max()) for name in first if first[name].size
    )
    different = sum(int((first[name] != second[name]).sum()) for name in first)
    return largest, different / sum(array.size for array in first.values())


def compare(one: Path, other: Path, what: str) -> float:
    """Print how two runs differ; the share of the masks' labels that do."""
    print(f"\n{what}:\n\n| file | largest difference | share of values that differ |\n|---|---:|---:|")
    shares = {}
    for name in FILES:
        if (one / name).exists() and (other / name).exists():
            largest, shares[name] = difference(one / name, other / name)
            labels = "" if name in ("masks.h5", "segmenter.h5") else f"{largest:.2g}"
            print(f"| {name} | {labels} | {shares[name]:.4%} |")
    sys.stdout.flush()
    return shares["masks.h5"]


def masks(source: Path, out: Path, many: int, images: int) -> float:
    """Print how the masks of several processes differ from those of one; the share, from the same networks."""
    alone, together = run(source, out / "one", 1, SETTINGS), run(source, out / "many", many, SETTINGS)
    print(f"fit of {images} scenes, one thread a process: {alone:.0f} s by 1, {together:.0f} s by {many}")
    compare(out / "one", out / "many", f"{many} processes beside 1, each with trainings of its own")
    shutil.copytree(out / "one", out / "same")
    for name in (*FILES, "work/levels.h5"):
        (out / "same" / name).unlink()
    shutil.rmtree(out / "same/masks")
    run(source, out / "same", many, SETTINGS)
    share = compare(out / "one", out / "same", f"{many} processes from the networks that 1 has trained")
    run(source, out / "threads", 1, [*SETTINGS, "segmenter.enabled=false"], threads=2)
    compare(out / "one", out / "threads", "1 process with 2 threads beside 1 with 1, each with trainings of its own")
    return share


def step_seconds(source: Path, out: Path, processes: int, threads: int) -> tuple[float, float]:
    """Seconds of a classifier's training step by the clock and of processors; the run is stopped after it."""
    shutil.rmtree(out, ignore_errors=True)
    lengths = (f"classifier.min_steps={STEPS}", f"classifier.max_steps={STEPS}", "classifier.batch_size=16")
    settings = [*SETTINGS, *lengths]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with (out.parent / "said.txt").open("w") as said:
        process = subprocess.Popen(command(source, out, processes, settings), env=environment, stdout=said, stderr=said)
        try:
            times: list[tuple[int, float]] = []
            used: list[float] = []
            while not times or times[-1][0] < STEPS:
                if process.poll() is not None:
                    told = (out.parent / "said.txt").read_text()[-2000:]
                    raise SystemExit(f"fit ended with {process.returncode}: {told}")
                time.sleep(0.05)
                times = _steps(out / "work/log.jsonl")
                if len(times) > len(used):
                    used.append(sum(_processor_seconds(one) for one in (process.pid, *children(process.pid))))
        finally:
            process.terminate()
            process.wait()
    pairs = [pair for pair in pairwise(times) if pair[0][0] >= WARM]
    clock = statistics.median((later[1] - sooner[1]) / (later[0] - sooner[0]) for sooner, later in pairs)
    return clock, (used[-1] - used[0]) / (STEPS - WARM)


def _processor_seconds(process: int) -> float:
    """User and system time of a process with its threads."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _steps(log: Path) -> list[tuple[int, float]]:
    """Steps of the classifier and when they were logged."""
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [(row["step"], row["time"]) for row in rows if row["event"] == "step" and row["stage"] == "classifier"]


def children(process: int) -> list[int]:
    """Processes that another one has started; of a launcher, the ranks in their order."""
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return sorted(int(number) for number in listed)


def kill_once(words: list[str], log: Path, after: float, chance: random.Random) -> tuple[str, float, bool] | None:
    """Kill one rank after some seconds; what was going on, seconds until all had ended, whether that was said.

    None where the command had ended before.
    """
    with log.open("w") as said:
        process = subprocess.Popen(words, stdout=said, stderr=said, env={**os.environ, "OMP_NUM_THREADS": "1"})
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            pass
        else:
            return None
        ranks = children(process.pid)
        if not ranks:
            process.kill()
            process.wait()
            return "starting", 0.0, True
        chosen = chance.choice(ranks)
        before = log.read_text()
        os.kill(chosen, signal.SIGKILL)
        began = time.monotonic()
        process.wait(300)
        while any(Path(f"/proc/{rank}").exists() for rank in ranks):
            time.sleep(0.05)
    seconds, text = time.monotonic() - began, log.read_text()
    done = [line.split(":")[0] for line in before.splitlines() if ": done in" in line]
    where = f"rank {ranks.index(chosen)}, after {done[-1] if done else 'the start'}"
    return where, seconds, "recamlabel: rank" in text[len(before) :] or "recamlabel" not in text


def kills(source: Path, out: Path, processes: int, count: int, usual: float, seed: int) -> list[float]:
    """Print a row a kill; the seconds that each took to end the others."""
    chance = random.Random(seed)
    found: list[float] = []
    words = command(source, out, processes, SETTINGS)
    print("| kill | where | seconds until all had ended | said |\n|---:|---|---:|---|")
    while len(found) < count:
        told = kill_once(words, out.parent / "said.txt", chance.uniform(0.1, 0.7) * usual, chance)
        if told is None:
            shutil.rmtree(out)  # it has ended: once more from the beginning
            continue
        found.append(told[1])
        print(f"| {len(found)} | {told[0]} | {told[1]:.1f} | {'yes' if told[2] else 'no'} |", flush=True)
    return found


def steps(source: Path, out: Path, repeats: int) -> None:
    """Print the seconds of a training step by one process and by one a core, in turn."""
    cores = usable_cores()
    rows: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for _ in range(repeats):
        for processes, threads in ((1, cores), (cores, 1)):
            took = step_seconds(source, out / "steps", processes, threads)
            rows.setdefault((processes, threads), []).append(took)
    print("\n| processes | threads of each | seconds a step, by the clock | of processors |\n|---:|---:|---:|---:|")
    for (processes, threads), found in rows.items():
        clock, used = (", ".join(f"{took[part]:.2f}" for took in found) for part in (0, 1))
        print(f"| {processes} | {threads} | {clock} | {used} |", flush=True)


def killed(source: Path, out: Path, many: int, count: int, seed: int) -> tuple[float, float]:
    """Print a row a kill; the longest time until all had ended, and the share of the masks' labels that differ."""
    usual = run(source, out / "undisturbed", many, SETTINGS)
    waited = kills(source, out / "killed", many, count, usual, seed)
    run(source, out / "killed", many, SETTINGS)
    _, share = difference(out / "undisturbed/masks.h5", out / "killed/masks.h5")
    print(
        f"\nafter {count} kills: {share:.4%} of the masks' labels are others; {max(waited):.1f} s at most", flush=True
    )
    return max(waited), share


def main() -> int:
    """All of it, or the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="A folder of its own, made anew.")
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--classes", type=int, default=8)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2, help="Of the timed trainings, in turn.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", nargs="*", default=["masks", "steps", "kills"], choices=["masks", "steps", "kills"])
    arguments = parser.parse_args()
    out, many = arguments.out.resolve(), arguments.processes
    shutil.rmtree(out, ignore_errors=True)
    source = make_scenes(out / "data", SceneSettings(images=arguments.images, classes=arguments.classes)).labels
    waited = share = other = 0.0
    if "masks" in arguments.parts:
        share = masks(source, out, many, arguments.images)
    if "steps" in arguments.parts:
        steps(source, out, arguments.repeats)
    if "kills" in arguments.parts:
        waited, other = killed(source, out, many, arguments.kills, arguments.seed)
    return int(max(share, other) > 1e-3 or waited > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
