"""Export of a run to FiftyOne: seconds and peak memory, and whether untouched masks come back to the pixel.

    python benchmarks/review_export.py RUN [--images 10000]

RUN is copied, not changed. With ``--images`` its images are repeated under new ids up to that number, and
the classifier's confidences are left out (one pass over the images, which takes as long as it takes the
network). The database is one of the benchmark's own. Every step is a process of its own, so that its peak
memory is its own; the import of FiftyOne is in it. Then every mask is accepted, one in fifty is saved as the
App saves an edited one (at another resolution, nothing painted), and all is fetched and compared.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from recamlabel.core.memory import peak_megabytes, reset_peak
from recamlabel.data.catalog import load_catalog
from recamlabel.masks.reviewed import ReviewFolder
from recamlabel.review.fiftyone.export import export_review
from recamlabel.review.fiftyone.pull import pull
from recamlabel.review.fiftyone.session import connect
from recamlabel.storage.hdf5 import leaf_paths
from recamlabel.storage.run_folder import RunFolder

NAME = "recamlabel-benchmark"
EDITED = 50
FACTOR = 3
FILES = ("run.toml", "work/dataset.json", "masks.h5", "work/maps.h5", "segmenter.h5", "quality.json")


def copy_run(source: Path, target: Path, images: int | None) -> Path:
    """The parts of a run that are exported; with ``images``, repeated up to that number."""
    target.mkdir()
    for name in FILES:
        if (source / name).is_file():
            shutil.copy(source / name, target / name)
    if images is None:
        shutil.copytree(source / "weights", target / "weights", ignore=shutil.ignore_patterns("*.checkpoint"))
        return target
    catalog = json.loads((target / "work/dataset.json").read_text())
    rows = catalog["images"]
    names = [rows[number % len(rows)]["id"] + ("" if number < len(rows) else f"~{number}") for number in range(images)]
    catalog["images"] = [{**rows[number % len(rows)], "id": name} for number, name in enumerate(names)]
    (target / "work/dataset.json").write_text(json.dumps(catalog))
    quality = json.loads((target / "quality.json").read_text())
    quality = {"order": names, "images": {name: quality["images"][name.partition("~")[0]] for name in names}}
    (target / "quality.json").write_text(json.dumps(quality))
    for name in ("masks.h5", "work/maps.h5", "segmenter.h5"):
        if not (target / name).is_file():
            continue
        with h5py.File(target / name, "a") as file:
            known = set(leaf_paths(file))
            for group in ("", "recam/"):
                for new in names:
                    old = group + new.partition("~")[0]
                    if old in known and group + new not in known:
                        file[group + new] = file[old]  # a hard link
    return target


def start_database(folder: Path) -> subprocess.Popen[bytes]:
    """A MongoDB of the benchmark's own, told to FiftyOne by the environment."""
    spec = find_spec("fiftyone")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("FiftyOne is not installed: pip install 'recamlabel[review]'")
    server = Path(next(iter(spec.submodule_search_locations))) / "db/bin/mongod"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    place = ["--dbpath", str(folder), "--logpath", str(folder / "log"), "--port", port, "--bind_ip", "127.0.0.1"]
    process = subprocess.Popen([server, *place, "--nounixsocket"], stdout=subprocess.DEVNULL)
    os.environ |= {"FIFTYONE_DATABASE_URI": f"mongodb://127.0.0.1:{port}", "FIFTYONE_DATABASE_NAME": "benchmark"}
    time.sleep(3)
    return process


def step(kind: str, path: Path) -> dict[str, float]:
    """One step in this process."""
    run = RunFolder.open(path)
    link = connect(run, NAME)
    reset_peak()
    began = time.monotonic()
    with run.lock():
        if kind == "export":
            export_review(run, link, device="cpu")
        elif kind == "pull":
            pull(run, link)
        else:
            accept(link.load(), link.fiftyone)
    figures = {"seconds": time.monotonic() - began, "peak MB": peak_megabytes()}
    return figures if kind != "pull" else {**figures, **identity(path)}


def accept(data: Any, fo: Any) -> None:
    """Every mask is accepted; some are saved at three times the resolution, as after opening them in the editor."""
    for place, sample in enumerate(data.iter_samples(autosave=True)):
        sample["review_status"] = "accepted"
        if place % EDITED == 0:
            for detection in sample["editable"].detections:
                detection.mask = detection.mask.repeat(FACTOR, axis=0).repeat(FACTOR, axis=1)


def identity(path: Path) -> dict[str, float]:
    """Share of the masks that came back as they were, in percent."""
    review, names = ReviewFolder(path), [image.id for image in load_catalog(path / "work/dataset.json").images]
    with h5py.File(path / "masks.h5") as pseudo:
        same = [np.array_equal(found, pseudo[name][()]) for name in names if (found := review.mask(name)) is not None]
    return {"masks": len(names), "came back": len(same), "identical %": 100 * sum(same) / len(names)}


def main() -> None:
    """Print one line a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int)
    parser.add_argument("--step", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(step(arguments.step, arguments.run)))
        return
    with tempfile.TemporaryDirectory(prefix="recamlabel-bench-") as text:
        folder = Path(text)
        run = copy_run(arguments.run, folder / "run", arguments.images)
        (folder / "mongo").mkdir()
        database = start_database(folder / "mongo")
        try:
            for kind, title in (("export", "export"), ("export", "again"), ("accept", "accept"), ("pull", "pull")):
                command = [sys.executable, __file__, str(run), "--step", kind]
                found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                figures = json.loads(found.splitlines()[-1])
                print(f"{title}: {', '.join(f'{name} {value:.1f}' for name, value in figures.items())}", flush=True)
        finally:
            database.terminate()
            database.wait(timeout=30)


if __name__ == "__main__":
    main()
