"""``recamlabel label``: images a second here, on Ray and from S3, equal masks, kills, memory.

    python benchmarks/label.py OUT [--images 500] [--tiny 100000] [--workers 2] [--size 48 64] [--only NAME…]

Fits a run of short trainings, without the stage `local`, to 40 drawn images (its masks are worth nothing, what they
cost is the same), then labels that many others of the same kind with it, by their labels: in this process (`local`), by
workers of a local Ray cluster (`ray`; extra cluster), from a server of S3 on this machine (`s3`: moto; extra remote),
and in this process killed (SIGKILL) and repeated until it ends (`killed`). Masks of all four are compared. `tiny`
labels ``--tiny`` images of 24 x 32 pixels without labels, by the segmenter. Prints a line each: images, seconds, images
a second, peak memory in MB of the process that was started (of `tiny` also while the first tenth was labelled), pixels
that differ from `local`.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from recamlabel.storage.hdf5 import leaf_paths

CLASSES = {"red": (200, 30, 30), "green": (30, 160, 30), "blue": (30, 30, 200), "white": (230, 230, 230)}
TRAININGS = ("classifier", "recam", "segmenter")
SETTINGS = [f"{name}.{end}_steps=5" for name in TRAININGS for end in ("min", "max")]
SETTINGS += ["local.enabled=false", "probe.folds=2", "segmenter.predict.scales=[1.0]", "segmenter.predict.smooth=none"]
NAMES = ("local", "ray", "killed", "s3", "tiny")
TINY = (24, 32)
# Shards of `tiny`, and those of a tenth.
SHARDS, EARLY = 100, 10
KILLS = 2


@dataclass(frozen=True)
class Measured:
    """One call: seconds, peak resident memory in MB, and that of the time before a tenth of the shards was there."""

    seconds: float
    peak: float
    early: float


def draw(folder: Path, count: int, size: tuple[int, int], seed: int) -> Path:
    """Grey noise with a square for each of one or two classes; the table of labels last, as the mark of all."""
    if (folder / "labels.csv").is_file():
        return folder
    rng, (height, width) = np.random.default_rng(seed), size
    side = height * 3 // 8
    rows = []
    for number in range(count):
        pixels = rng.integers(90, 130, (height, width, 3)).astype(np.uint8)
        names = rng.choice(list(CLASSES), size=rng.integers(1, 3), replace=False)
        for place, name in enumerate(names):
            top, left = rng.integers(0, height - side), place * width // 2 + rng.integers(0, width // 2 - side)
            pixels[top : top + side, left : left + side] = CLASSES[str(name)]
        path = folder / "images" / f"{number // 1000:03}" / f"{number:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, compress_level=1)
        rows.append([path.relative_to(folder).as_posix(), " ".join(names)])
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "labels"], *rows])
    return folder


def fitted(out: Path, size: tuple[int, int]) -> Path:
    """A run of its own kind of images."""
    run = out / "run"
    lines = [part for line in SETTINGS for part in ("--set", line)]
    data = draw(out / "learnt", 40, size, 0)
    command = [
        sys.executable,
        "-m",
        "recamlabel",
        "fit",
        "-q",
        str(data),
        "--out",
        str(run),
        "--force",
        "--yes",
        *lines,
    ]
    subprocess.run(command, check=True)
    return run


def label(source: Path | str, run: Path, out: Path, *more: str, kill_after: float | None = None) -> Measured | None:
    """One call of the verb, watched; None where it was killed."""
    command = [sys.executable, "-m", "recamlabel", "label", "-q", str(source), "--run", str(run), "--out", str(out)]
    began, peak, early = time.monotonic(), 0.0, 0.0
    beginning = True
    process = subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None:
        time.sleep(0.05 if kill_after else 0.5)
        peak = max(peak, _resident(process.pid))
        if beginning:
            early, beginning = peak, len(list((out / "shards").glob("*.parquet"))) < EARLY
        if kill_after is not None and time.monotonic() - began > kill_after:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return Measured(time.monotonic() - began, peak, early)


def _resident(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM")), 0.0)


def masks(out: Path) -> dict[str, np.ndarray]:
    """All masks of an output by image id."""
    found = {}
    for shard in sorted((out / "shards").glob("*.h5")):
        with h5py.File(shard) as file:
            found |= {name: file[name][()] for name in leaf_paths(file)}
    return found


def killed(source: Path, run: Path, out: Path, seconds: float, more: list[str]) -> tuple[Measured, int]:
    """Killed at random times within as many seconds as the whole takes, until it ends."""
    chance, kills, began = random.Random(0), 0, time.monotonic()
    while True:
        limit = chance.uniform(0.3, 0.8) * seconds if kills < KILLS else None
        done = label(source, run, out, *more, kill_after=limit)
        if done is not None:
            return Measured(time.monotonic() - began, done.peak, done.early), kills
        kills += 1


def from_s3(source: Path, run: Path, out: Path, more: list[str]) -> Measured:
    """The same images from a server of S3 on this machine, with an empty cache."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "RECAMLABEL_CACHE": str(out.with_name("cache")),
    }
    import fsspec

    shutil.rmtree(out.with_name("cache"), ignore_errors=True)
    system = fsspec.filesystem("s3")
    system.mkdir("bucket")
    system.put(f"{source}/", "bucket/set", recursive=True)
    try:
        measured = label("s3://bucket/set", run, out, *more)
    finally:
        server.stop()
    assert measured is not None
    return measured


def line(name: str, images: int, measured: Measured, differing: Any) -> None:
    """A row of the table."""
    rate = images / measured.seconds
    print(
        f"| {name} | {images} | {measured.seconds:.0f} | {rate:.1f} | {measured.peak:.0f} | {differing} |", flush=True
    )


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--tiny", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--size", type=int, nargs=2, default=(48, 64), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--shard-images", type=int, default=125)
    parser.add_argument("--only", nargs="*", default=NAMES, choices=NAMES)
    asked = parser.parse_args()
    size = (asked.size[0], asked.size[1])
    run = fitted(asked.out, size)
    print("| what | images | seconds | images/s | peak MB | pixels that differ |\n|---|---:|---:|---:|---:|---:|")
    if set(asked.only) - {"tiny"}:
        _compared(asked, run, size)
    if "tiny" in asked.only:
        source = draw(asked.out / f"tiny-{asked.tiny}", asked.tiny, TINY, 2)
        shutil.rmtree(asked.out / "out-tiny", ignore_errors=True)
        measured = label(
            source, run, asked.out / "out-tiny", "--no-labels", "--shard-images", str(asked.tiny // SHARDS or 1)
        )
        assert measured is not None
        line(f"tiny, by the segmenter; {measured.early:.0f} MB after a tenth", asked.tiny, measured, "")


def _compared(asked: argparse.Namespace, run: Path, size: tuple[int, int]) -> None:
    source = draw(asked.out / f"new-{asked.images}", asked.images, size, 1)
    more = ["--shard-images", str(asked.shard_images)]
    places = {name: asked.out / f"out-{name}" for name in NAMES}
    for name in asked.only:
        shutil.rmtree(places[name], ignore_errors=True)
    first = label(source, run, places["local"], *more, "--workers", str(asked.workers))
    assert first is not None
    line(f"local, {asked.workers} processes refine", asked.images, first, 0)
    known = masks(places["local"])
    if "ray" in asked.only:
        measured = label(source, run, places["ray"], *more, "--engine", "ray", "--workers", str(asked.workers))
        assert measured is not None
        line(f"ray, {asked.workers} workers", asked.images, measured, differing(known, masks(places["ray"])))
    if "killed" in asked.only:
        measured, kills = killed(source, run, places["killed"], first.seconds, more)
        line(f"local, killed {kills} times", asked.images, measured, differing(known, masks(places["killed"])))
    if "s3" in asked.only:
        measured = from_s3(source, run, places["s3"], [*more, "--workers", str(asked.workers)])
        line("local, images from S3", asked.images, measured, differing(known, masks(places["s3"])))


def differing(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> int:
    """Pixels; all of an image that is not in both."""
    if one.keys() != other.keys():
        raise SystemExit(f"other images: {len(one)} and {len(other)}")
    return sum(int((one[name] != other[name]).sum()) for name in one)


if __name__ == "__main__":
    main()
