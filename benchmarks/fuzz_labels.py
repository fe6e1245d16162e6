"""Damaged label files of every format, read by the adapters until the time is over.

    python benchmarks/fuzz_labels.py SECONDS [SEED] [--out FOLDER]

Valid data sets of fourteen kinds are written to memory (/dev/shm where there is one). Each execution changes one of
their label files (bytes, lines, cells, values of JSON, odd names, another format's text under this name), reads the
data set with its adapter or by detection, and puts the file back; nothing is decoded. The work is done in a process
of its own with 4 GB more than it has at its start, so that a crash or a hang inside of C is seen too. Counted are
executions, data sets read and refused, and what must not be: exceptions that are no RecamlabelError, executions over
10 s, image paths outside of the data root or ids that are not safe, processes that died. Each kind of finding is kept
once in FOLDER (default: fuzz-findings), with the data set as it was and the traceback. Exit code 1 where there is
one.
"""

from __future__ import annotations

import argparse
import base64
import json
import mmap
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from recamlabel.adapters import ADAPTERS, AdapterOptions, Dataset, load_dataset
from recamlabel.adapters.base import check_image_id
from recamlabel.errors import RecamlabelError

# benchmarks/datasets.py is not the library of that name, which is read with.
sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != Path(__file__).parent.resolve()]
LIMIT, MEMORY = 10.0, 4 * 2**30
COUNTS = ("executions", "read", "refused", "foreign exceptions", "over 10 s", "outside the root", "died")
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
NAMES = ("a", "b", "c d", "é")
OPTIONS = (
    AdapterOptions(classes=("dog", "cat")),
    AdapterOptions(label_separator=";"),
    AdapterOptions(image_column="image"),
    AdapterOptions(labels_column="labels"),
    AdapterOptions(negative_labels=()),
    AdapterOptions(image_root=Path("images")),
)
TOKENS = (
    *("null", "-1", "[]", "{}", "../", "/", "\\", "\0", "\n", "\r", ",", ";", "|", '"', "'", "<", "&", "NaN", "1e999"),
    *("9" * 40, "9" * 400, "x" * 300, "é" * 130, "\u202e", "\U0001f600"),
    *("true", "no", "~", "!!bool x", "!!timestamp x", "&a [*a]", "*a", "? ", "- ", ": ", "#", "---\n", "\t", "    "),
    *("<object>", "</annotation>", "<!DOCTYPE a>", "&lt;", "&#0;", "&#x1b;", "<![CDATA[", "background", "good", "ok"),
    *(
        "[" * 2000,
        "{" * 2000,
        "a: " * 400,
        "0",
        "1.5",
        "__class__",
        "%s%n",
        "=1+1",
        "\x1b[31m",
        "C:",
        "~/a",
        "a/b",
        ".",
    ),
)
BYTES = (
    b"\xff",
    b"\xfe\xff",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\x80\x04",
    b"\0\0",
    b"PAR1",
    b"\x1f\x8b",
    b"\xed\xa0\x80",
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 2**70, float("nan"), float("inf"), "", " ", "\0", "..", "../a", "/etc/passwd"),
    *("a" * 300, "\ud800", "\n", "\u2028", [], {}, [[]], [{}], {"a": 1}, [None], ["cat"], "cat", "background", "good"),
)


@dataclass(frozen=True)
class Kind:
    """A valid data set: its adapter, and how to write it into a folder; what it gives is the source."""

    name: str
    adapter: str
    build: Callable[[Path], Path]


def put(root: Path, files: dict[str, Any]) -> None:
    """Text, or anything else as JSON."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        path.write_text(text, encoding="utf-8")


def images(root: Path, *folders: str) -> None:
    """Empty files: no image is decoded."""
    for folder in folders:
        put(root, {f"{folder}/{name}.jpg".lstrip("/"): "" for name in NAMES})


def csv_labels(root: Path) -> Path:
    """A column of labels."""
    images(root, "images")
    rows = ["images/a.jpg,cat,train", "images/b.jpg,cat;dog,train", "images/c d.jpg,,train", "images/é.jpg,dog,val"]
    put(root, {"labels.csv": "\n".join(["image,labels,split", *rows])})
    return root


def csv_columns(root: Path) -> Path:
    """A column of 0 and 1 for each class."""
    images(root, "")
    put(root, {"labels.csv": "image\tcat\tdog\na.jpg\t1\t0\nb.jpg\t1\t1\nc d.jpg\t0\t0\né.jpg\t-1\t1\n"})
    put(root, {"classes.txt": "cat\ndog\n"})
    return root / "labels.csv"


def coco(root: Path) -> Path:
    """Instances."""
    images(root, "train2017")
    listed = [{"id": number, "file_name": f"{name}.jpg", "width": 4, "height": 4} for number, name in enumerate(NAMES)]
    marked = [{"id": n, "image_id": n % 3, "category_id": 3 + 14 * (n % 2), "iscrowd": 0} for n in range(4)]
    names = [{"id": 3, "name": "cat"}, {"id": 17, "name": "dog"}]
    put(root, {"annotations/instances_train2017.json": {"images": listed, "annotations": marked, "categories": names}})
    return root


def voc_xml(root: Path) -> Path:
    """Objects of XML files, and lists."""
    images(root, "JPEGImages")
    for name, labels in zip(NAMES, (("cat",), ("cat", "dog"), (), ("dog",)), strict=True):
        objects = "".join(f"<object><name>{label}</name><difficult>0</difficult></object>" for label in labels)
        put(root, {f"Annotations/{name}.xml": f"<annotation><filename>{name}.jpg</filename>{objects}</annotation>"})
    put(root, {"ImageSets/Segmentation/train.txt": "a\nb\nc d\n", "ImageSets/Segmentation/val.txt": "é\n"})
    return root


def voc_main(root: Path) -> Path:
    """Main/CLASS_SPLIT.txt."""
    images(root, "JPEGImages")
    lists = {"train": "a\nb\n", "cat_train": "a  1\nb -1\n", "dog_train": "a -1\nb  0\n"}
    put(root, {f"ImageSets/Main/{name}.txt": text for name, text in lists.items()})
    return root


def open_images(root: Path) -> Path:
    """Verified labels."""
    images(root, "train")
    rows = [f"{name},verification,/m/{n % 2 + 1},{n % 2}" for n, name in enumerate((*NAMES, *NAMES))]
    put(root, {"train-annotations-human-imagelabels.csv": "\n".join(["ImageID,Source,LabelName,Confidence", *rows])})
    put(root, {"class-descriptions.csv": "/m/1,Cat\n/m/2,Dog\n", "train-images.csv": "ImageID,Subset\na,train\n"})
    return root


def yolo(root: Path) -> Path:
    """data.yaml and label files."""
    images(root, "images/train", "images/val")
    put(root, {"labels/train/a.txt": "0 .5 .5 .1 .1\n1 .5 .5 .1 .1\n", "labels/train/b.txt": ""})
    put(root, {"labels/val/a.txt": "1.0 .1 .1 .2 .2 .3 .3\n"})
    put(root, {"data.yaml": "path: .\ntrain: images/train\nval: images/val\nnc: 2\nnames:\n  0: cat\n  1: dog\n"})
    return root


def json_lines(root: Path) -> Path:
    """Hugging Face's metadata.jsonl."""
    images(root, "train")
    labels: tuple[Any, ...] = (["cat"], ["cat", "dog"], [], None)
    rows = [{"file_name": f"{name}.jpg", "labels": one} for name, one in zip(NAMES, labels, strict=True)]
    put(root, {"train/metadata.jsonl": "\n".join(json.dumps(row) for row in rows)})
    return root


def metadata_csv(root: Path) -> Path:
    """Hugging Face's metadata.csv."""
    images(root, "train")
    put(root, {"metadata.csv": "file_name,labels\ntrain/a.jpg,cat;dog\ntrain/b.jpg,cat\ntrain/c d.jpg,\n"})
    return root


def parquet(root: Path) -> Path:
    """Hugging Face's metadata.parquet."""
    import pyarrow
    import pyarrow.parquet

    images(root, "")
    table = pyarrow.table({"file_name": [f"{name}.jpg" for name in NAMES], "labels": [["cat"], ["cat", "dog"], [], []]})
    pyarrow.parquet.write_table(table, root / "metadata.parquet", compression="none")
    return root


def mmpretrain(root: Path) -> Path:
    """Annotations of mmpretrain."""
    images(root, "images")
    items = [{"img_path": f"images/{name}.jpg", "gt_label": [n % 2]} for n, name in enumerate(NAMES)]
    put(root, {"train.json": {"metainfo": {"classes": ["cat", "dog"]}, "data_list": items}})
    return root / "train.json"


def fiftyone(root: Path) -> Path:
    """FiftyOne's labels.json."""
    images(root, "data")
    labels: dict[str, Any] = {"a": "cat", "b": [{"label": "dog", "confidence": 0.5}], "c d": None, "é": [0, 1]}
    put(root, {"labels.json": {"classes": ["cat", "dog"], "labels": labels}})
    return root


def saved(root: Path) -> Path:
    """A Hugging Face data set as its library saves it, with the images inside; none of them is opened."""
    library = import_module("datasets")
    labels = library.Sequence(library.ClassLabel(names=["cat", "dog"]))
    features = library.Features({"image": library.Image(), "labels": labels})
    held = [{"bytes": PNG, "path": f"{name}.png"} for name in NAMES]
    rows = {"image": held, "labels": [[0], [0, 1], [], [1]]}
    library.disable_progress_bars()
    library.DatasetDict({"train": library.Dataset.from_dict(rows, features=features)}).save_to_disk(str(root))
    return root


def class_folders(root: Path) -> Path:
    """Folders; their names are changed, and classes.txt."""
    for number, place in enumerate(("train/cat/a", "train/dog/b", "train/background/c", "val/dog/d")):
        put(root, {f"{place}.jpg": "x" * number})
    put(root, {"classes.txt": "cat\ndog\n"})
    return root


KINDS = [
    *(Kind("csv, labels", "csv", csv_labels), Kind("csv, columns", "csv", csv_columns), Kind("coco", "coco", coco)),
    *(Kind("voc, XML", "voc", voc_xml), Kind("voc, Main", "voc", voc_main), Kind("yolo", "yolo", yolo)),
    *(Kind("open images", "openimages", open_images), Kind("jsonl", "huggingface", json_lines)),
    *(Kind("hf csv", "huggingface", metadata_csv), Kind("mmpretrain", "json", mmpretrain)),
    *(Kind("fiftyone", "json", fiftyone), Kind("class folders", "folder", class_folders)),
]
if find_spec("pyarrow") is not None:
    KINDS.append(Kind("parquet", "huggingface", parquet))
if find_spec("datasets") is not None:
    KINDS.append(Kind("hf saved", "huggingface", saved))


def mutate_bytes(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """One to three changes of bytes or lines."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        start, length = chance.randrange(len(data) + 1), chance.choice((0, 0, 1, 3, 10, 40))
        token = chance.choice(BYTES) if chance.random() < 0.1 else chance.choice(TOKENS).encode()
        lines = data.split(b"\n")
        one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        kind = chance.randrange(9)
        if kind == 0:
            data = data[:start]
        elif kind <= 3:
            data = data[:start] + token + data[start + length :]
        elif kind == 4:
            data = data[:start] + data[start + length + 1 :]
        elif kind == 5:
            data = data[:start] + data[start : start + length] * chance.choice((2, 3, 50)) + data[start:]
        elif kind == 6:
            lines[one], lines[other] = lines[other], chance.choice((lines[one], lines[other], b"", token))
            data = b"\n".join(lines)
        elif kind == 7:
            data = swapped_cell(lines, one, token, chance)
        else:
            data = chance.choice(others) if chance.random() < 0.2 else data[:start] + chance.choice(others)[start:]
    return data


def swapped_cell(lines: list[bytes], row: int, token: bytes, chance: random.Random) -> bytes:
    """A word of a line, replaced."""
    mark = next((mark for mark in (b",", b"\t", b";", b": ", b" ") if mark in lines[row]), b",")
    cells = lines[row].split(mark)
    cells[chance.randrange(len(cells))] = token
    return b"\n".join([*lines[:row], mark.join(cells), *lines[row + 1 :]])


def mutate_json(data: bytes, chance: random.Random) -> bytes:
    """A value, or a key, somewhere in a tree."""
    tree = json.loads(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        places = list(_places(tree))
        if not places:
            break
        box, key = chance.choice(places)
        what = chance.randrange(6)
        if what == 0 and isinstance(box, dict):
            box[str(chance.choice(TOKENS))] = box.pop(key)
        elif what == 1:
            del box[key]
        elif what == 2:
            box[key] = [box[key]] * chance.choice((0, 1, 2))
        else:
            box[key] = deepcopy(chance.choice(VALUES))
    return json.dumps(tree).encode()


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    pairs = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    for key, value in pairs:
        yield tree, key
        yield from _places(value)


def mutate(name: str, data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """A changed label file; of JSON half of the time its tree."""
    if chance.random() < 0.5:
        if name.endswith(".json"):
            return mutate_json(data, chance)
        if name.endswith(".jsonl"):
            lines = data.split(b"\n")
            row = chance.randrange(len(lines))
            return b"\n".join([*lines[:row], mutate_json(lines[row], chance), *lines[row + 1 :]])
    return mutate_bytes(data, chance, others)


class TooSlowError(Exception):
    """An execution took more than its time."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TooSlowError in the midst of what takes longer."""

    def stop(*_: object) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Fuzzer:
    """The data sets, the counts (shared with the process that watches), and what was found."""

    def __init__(self, place: Path, out: Path, chance: random.Random, counts: np.ndarray) -> None:
        self.place, self.out, self.chance, self.counts = place, out, chance, counts
        self.sources = [kind.build(place / f"set{number}" / "data") for number, kind in enumerate(KINDS)]
        self.files = [
            [path for path in sorted((place / f"set{number}").rglob("*")) if path.suffix != ".jpg" and path.is_file()]
            for number in range(len(KINDS))
        ]
        self.whole = {path: path.read_bytes() for files in self.files for path in files}
        self.seen: set[str] = set()

    def count(self, what: str) -> None:
        """One more."""
        self.counts[COUNTS.index(what)] += 1

    def once(self) -> None:
        """One execution."""
        number = self.chance.randrange(len(KINDS))
        self.counts[-1] = number
        changed = self.chance.sample(
            self.files[number], k=1 + (self.chance.random() < 0.1 and len(self.files[number]) > 1)
        )
        for path in changed:
            path.write_bytes(mutate(path.name, self.whole[path], self.chance, list(self.whole.values())))
        moved = self._rename_folder(number) if KINDS[number].adapter == "folder" else None
        try:
            self._read(number)
        finally:
            self.count("executions")
            for path in changed:
                path.write_bytes(self.whole[path])
            if moved is not None:
                moved[1].rename(moved[0])

    def _rename_folder(self, number: int) -> tuple[Path, Path] | None:
        folder = self.sources[number] / self.chance.choice(("train", "train/cat", "train/dog", "val"))
        new = self.chance.choice(TOKENS).replace("/", "-").replace("\0", "")[:80]
        target = folder.with_name(new) if new.strip(".") else folder
        if target.exists():
            return None
        folder.rename(target)
        return folder, target

    def _read(self, number: int) -> None:
        adapter = "auto" if self.chance.random() < 0.3 else KINDS[number].adapter
        options = self.chance.choice(OPTIONS) if self.chance.random() < 0.15 else None
        try:
            with time_limit(LIMIT):
                dataset = load_dataset(self.sources[number], adapter, options)
                dataset.labels()
        except RecamlabelError:
            self.count("refused")
        except TooSlowError:
            self.count("over 10 s")
            self.keep(number, "over 10 s", traceback.format_exc())
        except Exception as error:
            self.count("foreign exceptions")
            last = traceback.extract_tb(error.__traceback__)[-1]
            self.keep(
                number, f"{type(error).__name__} {Path(last.filename).name} {last.lineno}", traceback.format_exc()
            )
        else:
            self.count("read")
            self._check(number, dataset)

    def _check(self, number: int, dataset: Dataset) -> None:
        for image in dataset.images:
            try:
                check_image_id(image.id)
                inside = image.path.is_relative_to(dataset.root) and ".." not in image.path.parts
                inside &= "\0" not in str(image.path)
            except RecamlabelError:
                inside = False
            if not inside:
                self.count("outside the root")
                self.keep(number, "outside the root", f"{image.id!r} {image.path!r} {dataset.root!r}")

    def keep(self, number: int, what: str, text: str) -> None:
        """Copy the data set as it is, once for each kind of finding."""
        if what in self.seen:
            return
        self.seen.add(what)
        keep(self.place / f"set{number}", self.out, f"{KINDS[number].name}: {what}", text)


def keep(data: Path, out: Path, what: str, text: str) -> None:
    """A finding: the data set and what was said."""
    taken = len(list(out.glob("finding-*"))) if out.is_dir() else 0
    target = out / f"finding-{taken + 1}"
    shutil.copytree(data, target)
    (target / "error.txt").write_text(f"{what}\n{text}", encoding="utf-8", errors="backslashreplace")
    print(f"finding: {what}; kept in {target}", flush=True)


def work(place: Path, out: Path, seed: str, until: float, counts: np.ndarray) -> None:
    """What the child process does."""
    # What packages bring is imported now, before the memory is limited.
    ADAPTERS.load_others()
    if find_spec("datasets") is not None:
        import_module("datasets")
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    os.environ |= {"RECAMLABEL_CACHE": str(place / "cache"), "HF_HOME": str(place / "cache")}
    fuzzer = Fuzzer(place, out, random.Random(seed), counts)
    while time.monotonic() < until:
        fuzzer.once()


def watched(place: Path, out: Path, seed: str, until: float, counts: np.ndarray) -> bool:
    """Fuzz in a child process until the time is over; False where it died or hung before that."""
    child = os.fork()
    if child == 0:
        try:
            work(place, out, seed, until, counts)
        except BaseException:
            traceback.print_exc()
            os._exit(3)
        os._exit(0)
    last, moved = -1, time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if counts[0] != last:
            last, moved = int(counts[0]), time.monotonic()
        elif time.monotonic() - moved > 3 * LIMIT:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.05)
    if status:
        counts[COUNTS.index("died")] += 1
        number = int(counts[-1])
        keep(place / f"set{number}", out, f"{KINDS[number].name}: the process ended with status {status}", "")
    return status == 0


def fuzz(seconds: float, seed: int, out: Path) -> dict[str, int]:
    """Fuzz for some seconds; the counts by name."""
    # The last number is that of the data set being read.
    counts = np.frombuffer(mmap.mmap(-1, 8 * (len(COUNTS) + 1)), np.int64)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    until, round_number = time.monotonic() + seconds, 0
    while time.monotonic() < until and counts[COUNTS.index("died")] < 20:
        with tempfile.TemporaryDirectory(prefix="recamlabel-fuzz-", dir=memory) as place:
            watched(Path(place).resolve(), out, f"{seed}/{round_number}", until, counts)
        round_number += 1
    return dict(zip(COUNTS, counts[:-1].tolist(), strict=True))


def main(arguments: list[str] | None = None) -> int:
    """Fuzz, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=float)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"), help="where inputs that failed are kept")
    given = parser.parse_args(arguments)
    found = fuzz(given.seconds, given.seed, given.out)
    print(f"| {' | '.join(found)} |\n|{'---:|' * len(found)}")
    print(f"| {' | '.join(f'{number:,}' for number in found.values())} |")
    return int(any(found[name] for name in COUNTS[3:]) or not found["executions"])


if __name__ == "__main__":
    sys.exit(main())
