"""The corpus of `bad_input.py`: inputs by group and name, what each has to end in, and a word that has to be said."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

READ, REFUSED = "read", "refused"
ACCEPTED = "fit would accept"
CHECK = ("check", "data")
# What a case does with the files that it is made of.
Content = str | bytes | Callable[[Path], object] | Mapping[str, Any] | Sequence[Any]
TINY = (
    *("augment.crop_size=64", "augment.resize_min=64", "augment.resize_max=80", "classifier.batch_size=4"),
    *("classifier.min_steps=3", "classifier.max_steps=3", "recam.batch_size=4", "recam.min_steps=2"),
    *("recam.max_steps=2", "maps.scales=[1.0]", "probe.folds=2", "probe.iterations=1", "probe.fine_sides=[]"),
    *("local.enabled=false", "recam.min_agreement=0", "recam.combine=product", "runtime.workers=1"),
    *("runtime.device=cpu", "segmenter.min_steps=2", "segmenter.max_steps=2", "segmenter.batch_size=4"),
    *("segmenter.predict.scales=[1.0]", "refine.method=none", "segmenter.predict.smooth=none"),
)


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        group, name: For the table.
        expected: ``read`` (exit 0) or ``refused`` (exit 1 or 2).
        word: What standard output or error has to hold, in any case.
        files: By path below the case's folder.
        words: The command line, run in that folder.
        needs_run: Whether ``run`` and ``truth``, a finished run with its data set in ``base``, are there.
    """

    group: str
    name: str
    expected: str
    word: str
    files: Mapping[str, Content] = field(default_factory=dict)
    words: Sequence[str] = CHECK
    needs_run: bool = False

    def make(self, folder: Path, runs: Path) -> None:
        """Write the files into a folder."""
        if self.needs_run:
            shutil.copytree(runs, folder, dirs_exist_ok=True)
            for name in ("run/work/dataset.json", "run/run.toml", "run/work/run.toml"):
                if (folder / name).is_file():
                    text = (folder / name).read_text(encoding="utf-8")
                    (folder / name).write_text(text.replace(str(runs), str(folder)), encoding="utf-8")
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if callable(content):
                content(path)
            elif isinstance(content, bytes):
                path.write_bytes(content)
            else:
                text = content if isinstance(content, str) else json.dumps(content)
                path.write_text(text, encoding="utf-8")


# ---- pieces


@cache
def picture(seed: int = 0, size: tuple[int, int] = (48, 64), kind: str = "PNG", **options: Any) -> bytes:
    """Noise with a coloured square, as a file."""
    from PIL import Image

    random = np.random.default_rng(seed)
    pixels = random.integers(60, 190, (*size, 3)).astype(np.uint8)
    pixels[8:28, 8:28] = ((200, 30, 30), (30, 30, 200), (90, 90, 90))[seed % 3]
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """The picture in another format and mode."""
    from PIL import Image

    stream = io.BytesIO()
    Image.open(io.BytesIO(picture())).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def array_image(array: np.ndarray, kind: str) -> bytes:
    """Pixels as they are, as a file."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


class Boom:
    """Unpickling it makes a file in the folder beside the case's."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, ("touch ../canary/PWNED",)


BOOM = pickle.dumps(Boom())
SETS = ("red", "blue", "red blue", "", "red", "blue")


def below(folder: str, files: Mapping[str, Content]) -> dict[str, Content]:
    """The files in a folder."""
    return {f"{folder}/{name}": content for name, content in files.items()}


def pictures(folder: str = "data/images", suffix: str = "png", names: Sequence[str] = "012345") -> dict[str, Content]:
    """Six pictures, or one for each name."""
    return {f"{folder}/{name}.{suffix}": picture(int(name)) for name in names}


def csv_text(labels: Sequence[str] = SETS, head: str = "image,labels") -> str:
    """A label file of the six pictures."""
    return "\n".join([head, *(f"images/{number}.png,{label}" for number, label in enumerate(labels))]) + "\n"


def with_labels(*labels: str) -> dict[str, Content]:
    """A sound data set whose first labels are other ones."""
    return {**pictures(), "data/labels.csv": csv_text([*labels, *SETS[len(labels) :]])}


def pipe(path: Path) -> None:
    """A named pipe, which nobody writes to."""
    os.mkfifo(path)


def link(target: str) -> Callable[[Path], object]:
    """A symbolic link."""
    return lambda path: path.symlink_to(target)


def loop(path: Path) -> None:
    """A link to itself."""
    path.symlink_to(path.name)


def folder_there(path: Path) -> None:
    """A folder of that name."""
    path.mkdir()


ODD_FILES: dict[str, tuple[Content, str]] = {
    "a pipe": (pipe, "pipe"),
    "a link to /dev/zero": (link("/dev/zero"), "device"),
    "a link to itself": (loop, "no such file"),
    "a folder": (folder_there, "folder"),
    "a pickle": (BOOM, "data/"),
}


# ---- label files


def csv_cases() -> list[Case]:
    """Tables."""
    plain = csv_text()
    one = partial(Case, "csv")
    texts: dict[str, tuple[Content, str, str]] = {
        "as it should be": (plain, READ, ACCEPTED),
        "empty": ("", REFUSED, "empty"),
        "a header alone": ("image,labels\n", REFUSED, "no class"),
        "blank lines alone": ("\n\n \n", REFUSED, "empty"),
        "no header": (plain.split("\n", 1)[1], REFUSED, "no header"),
        "byte-order mark": (b"\xef\xbb\xbf" + plain.encode(), READ, ACCEPTED),
        "UTF-16": (plain.encode("utf-16"), READ, ACCEPTED),
        "UTF-16 without a mark": (plain.encode("utf-16-le"), REFUSED, "UTF-16 without"),
        "UTF-32": (plain.encode("utf-32"), READ, ACCEPTED),
        "Latin-1": (csv_text(["café"]).encode("latin-1"), REFUSED, "not UTF-8"),
        "a NUL": (plain + "\0", REFUSED, "NUL"),
        "a pickle": (BOOM, REFUSED, "pickle"),
        "a picture": (picture(), REFUSED, "not UTF-8"),
        "a zip": (b"PK\x03\x04" + b"\0" * 100, REFUSED, "NUL"),
        "random bytes": (np.random.default_rng(0).bytes(5000), REFUSED, "not UTF-8"),
        "a quote that stays open": (plain + 'images/0.png,"red\n', REFUSED, "not valid CSV"),
        "a cell of 1 MB": (plain + f"images/0.png,{'x' * 2**20}\n", REFUSED, "field larger"),
        "two columns of a name": (csv_text(head="image,image"), REFUSED, "two columns"),
        "too few cells": (plain + "images/0.png\n", REFUSED, "cells: 1"),
        "too many cells": (plain + "images/0.png,red,,,x\n", REFUSED, "cells: 5"),
        "old Mac line ends": (plain.replace("\n", "\r"), READ, ACCEPTED),
        "semicolons": (plain.replace(",", ";"), READ, ACCEPTED),
        "a path out of the folder": (plain + "../../etc/passwd.png,red\n", REFUSED, "'..'"),
        "an absolute path": (plain + "/etc/passwd,red\n", REFUSED, "outside"),
        "a path of Windows": (plain + "C:\\x\\0.png,red\n", REFUSED, "absolute"),
        "backslashes": (plain.replace("/", "\\"), READ, ACCEPTED),
        "a path with ESC": (plain + "images/\x1b[2J.png,red\n", REFUSED, "no image"),
        "a name of 300 bytes": (plain + f"{'n' * 300}.png,red\n", REFUSED, "bytes in one name"),
        "a path of 5,000 bytes": (plain + f"{'n/' * 2500}a.png,red\n", REFUSED, "no image"),
        "an image that is not there": (plain + "images/9.png,red\n", REFUSED, "no image"),
        "a folder as an image": (plain + "images,red\n", REFUSED, "folder"),
        "no image path": (plain + ",red\n", REFUSED, "no image path"),
        "an image twice, alike": (plain + "images/0.png,red\n", READ, "read once"),
        "an image twice, unlike": (plain + "images/0.png,blue\n", REFUSED, "expected one row"),
        "a list as Python writes it": (csv_text(["['red']"]), REFUSED, "list as a program writes"),
        "several separators": (csv_text(["red;blue", "red|blue"]), REFUSED, "more than one mark"),
        "no label at all": (csv_text([""] * 6), REFUSED, "no class"),
        "one label everywhere": (csv_text(["red"] * 6), REFUSED, "none is known to be without"),
        "no column of images": ("a,b\n1,2\n", REFUSED, "no image column"),
        "another value than 0 and 1": (csv_text(["1", "0", "1", "2"], "image,cat"), REFUSED, "expected 1 (present)"),
        "60,000 columns": (wide_table, READ, ACCEPTED),
        "5,000 rows with labels of their own": (many_labels, REFUSED, "no image"),
        "20,000 equal rows": (plain + "images/0.png,red\n" * 20_000, READ, "read once"),
        "a header of 1 MB": ("image,labels," + "x" * 10**6 + "\n", REFUSED, "field larger"),
        "NULs for a megabyte": (b"\0" * 2**20, REFUSED, "NUL"),
    }
    cases = [
        one(name, verdict, word, {**pictures(), "data/labels.csv": text})
        for name, (text, verdict, word) in texts.items()
    ]
    for name, (content, word) in ODD_FILES.items():
        files = {**pictures(), "data/labels.csv": content}
        cases.append(one(f"labels.csv is {name}", REFUSED, word, files, ("check", "data/labels.csv")))
    wrong = {"label_separator=x": "label_separator", "image_column=q": "no column", "labels_column=q": "no column"}
    cases += [
        one(f"data.{setting}", REFUSED, word, with_labels(), (*CHECK, "--set", f"data.{setting}"))
        for setting, word in wrong.items()
    ]
    return cases


def wide_table(path: Path) -> None:
    """60,000 columns of 0 and 1."""
    rows = [",".join(["image", *(f"c{number}" for number in range(60_000))])]
    rows += [",".join([f"images/{number}.png", *["1" if number % 2 else "0"] * 60_000]) for number in range(6)]
    path.write_text("\n".join(rows))


def many_labels(path: Path) -> None:
    """Labels that are all unlike each other."""
    rows = [f"images/{number}x.png,label{number}" for number in range(5_000)]
    path.write_text("\n".join(["image,labels", *rows]))


def name_cases() -> list[Case]:
    """Class names and the files that give them."""
    one = partial(Case, "class names")
    texts: dict[str, tuple[Content, str, str]] = {
        "in another order": ("blue\nred\n", READ, ACCEPTED),
        "empty": ("", REFUSED, "no class name"),
        "background alone": ("background\n", REFUSED, "no class name"),
        "a name twice": ("red\nred\nblue\n", REFUSED, "stands there twice"),
        "one is missing": ("red\n", REFUSED, "unknown class 'blue'"),
        "a slip": ("red\nbleu\n", REFUSED, "did you mean"),
        "Latin-1": ("red\nblü\n".encode("latin-1"), REFUSED, "not UTF-8"),
        "a pickle": (BOOM, REFUSED, "pickle"),
        "70,000 names": ("\n".join(["red", "blue", *map(str, range(70_000))]), REFUSED, "at most 65534"),
        "65,000 names": ("\n".join(["red", "blue", *map(str, range(65_000))]), READ, ACCEPTED),
        "names in two cases": ("red\nblue\nRed\n", READ, "upper and lower case"),
        "a NUL": ("red\nblue\nx\0\n", REFUSED, "NUL"),
    }
    cases = [
        one(f"classes.txt: {name}", verdict, word, {**with_labels(), "data/classes.txt": text})
        for name, (text, verdict, word) in texts.items()
    ]
    odd = {
        "ESC": "\x1b]0;pwned\x07\x1b[31mred",
        "C1 control": "\x9b31mred",
        "right to left": "\u202ered",
        "a formula": "=cmd|'/C calc'!A0",
        "markup of rich": "[red]x[/red][link=http://a]",
        "a script": "<script>alert(1)</script>",
        "a path": "../../canary/x",
        "300 characters": "x" * 300,
        "emoji": "🐸",
        "zero width": "\u200bred",
        "template": "{{7*7}}%s${x}",
        "a device": "CON",
    }
    for name, text in odd.items():
        files = {
            **pictures(),
            "data/labels.csv": "image,labels\n"
            + "".join(f'images/{number}.png,"{text if number % 2 else "blue"}"\n' for number in range(6)),
        }
        separator = ("--set", 'data.label_separator=";"')
        cases.append(one(f"{name}: check", READ, ACCEPTED, files, (*CHECK, *separator)))
        for target in ("csv", "coco", "openimages")[: 3 if name in ("ESC", "a formula", "a path") else 1]:
            words = ("convert", "data", "--to", target, "--out", "out", *separator)
            cases.append(one(f"{name}: convert to {target}", READ, "written", files, words))
    cases.append(
        one(
            "a line separator: convert",
            REFUSED,
            "line break",
            with_labels("a\u2028b"),
            ("convert", "data", "--to", "csv", "--out", "out", "--set", 'data.label_separator=";"'),
        )
    )
    return cases


def coco_tree(**changes: Any) -> dict[str, Any]:
    """Sound instances of the six pictures, with changes."""
    tree: dict[str, Any] = {
        "images": [{"id": number, "file_name": f"images/{number}.png"} for number in range(6)],
        "annotations": [{"id": number, "image_id": number, "category_id": 1 + number % 2} for number in range(5)],
        "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}],
    }
    return tree | changes


def coco_cases() -> list[Case]:
    """COCO's instances."""
    whole, listed = json.dumps(coco_tree()), coco_tree()["images"]

    def more(**row):
        return coco_tree(images=[*listed, row])

    def mark(**row):
        return coco_tree(annotations=[*coco_tree()["annotations"], row])

    texts: dict[str, tuple[Content, str, str]] = {
        "as it should be": (whole, READ, ACCEPTED),
        "cut in half": (whole[: len(whole) // 2], REFUSED, "truncated"),
        "empty": ("", REFUSED, "no adapter recognises"),
        "a pickle": (BOOM, REFUSED, "no adapter recognises"),
        "brackets, 100,000 deep": ("[" * 100_000, REFUSED, "no adapter recognises"),
        "objects, 100,000 deep": ('{"images":' * 100_000, REFUSED, "no adapter recognises"),
        "a list": ([], REFUSED, "no adapter recognises"),
        "null": ("null", REFUSED, "no adapter recognises"),
        "images is a number": (coco_tree(images=3), REFUSED, "$.images"),
        "annotations is null": (coco_tree(annotations=None), REFUSED, "no list 'annotations'"),
        "no categories": ({k: v for k, v in coco_tree().items() if k != "categories"}, REFUSED, "categories"),
        "a category twice": (coco_tree(categories=[{"id": 1, "name": "a"}] * 2), REFUSED, "twice"),
        "a category without a name": (coco_tree(categories=[{"id": 1}]), REFUSED, "no name"),
        "a name that is a list": (coco_tree(categories=[{"id": 1, "name": ["a"]}]), REFUSED, "$.categories[0].name"),
        "a file name with a NUL": (more(id=9, file_name="a.j\0pg"), REFUSED, "no image"),
        "a file name that is a number": (more(id=9, file_name=3), REFUSED, "$.images[6].file_name"),
        "a file name out of the folder": (more(id=9, file_name="../../x.png"), REFUSED, "'..'"),
        "an absolute file name": (more(id=9, file_name="/etc/passwd"), REFUSED, "outside"),
        "a file name with ESC": (more(id=9, file_name="\x1b[2Jx.png"), REFUSED, "no image"),
        "half a surrogate": (whole.replace("images/5.png", "\\ud800.png"), REFUSED, "surrogate"),
        "an id twice": (more(id=0, file_name="images/9.png"), REFUSED, "already"),
        "an id that is a list": (more(id=[1], file_name="images/0.png"), REFUSED, "$.images[6].id"),
        "an image of nowhere": (mark(id=9, image_id=77, category_id=1), REFUSED, "image_id 77"),
        "a category of nowhere": (mark(id=9, image_id=1, category_id=77), REFUSED, "category_id 77"),
        "an id of 400 digits": (whole.replace('"id": 5', f'"id": {"9" * 400}'), READ, ACCEPTED),
        "NaN": (whole.replace('"id": 5', '"id": NaN'), REFUSED, "$.images[5].id"),
        "keys twice": (whole[:-1] + ', "images": []}', REFUSED, "no image in the data set"),
        "a polygon of a million": (mark(id=9, image_id=1, category_id=1, segmentation=[[1.5] * 10**6]), READ, ACCEPTED),
        "UTF-16": (whole.encode("utf-16"), REFUSED, "no adapter recognises"),
    }
    return [
        Case("coco", name, verdict, word, {**pictures(), "data/coco.json": text}, ("check", "data/coco.json"))
        for name, (text, verdict, word) in texts.items()
    ] + [
        Case(
            "coco",
            f"the file is {name}",
            REFUSED,
            word,
            {**pictures(), "data/c.json": content},
            ("check", "data/c.json"),
        )
        for name, (content, word) in ODD_FILES.items()
    ]


def xml(*names: str) -> str:
    """A VOC annotation."""
    objects = "".join(f"<object><name>{name}</name></object>" for name in names)
    return f"<annotation>{objects}</annotation>"


def voc_files(**changes: Content) -> dict[str, Content]:
    """A sound data set of VOC; changes by name, with __ for a slash."""
    files: dict[str, Content] = pictures("data/JPEGImages")
    files |= {f"data/Annotations/{number}.xml": xml(*label.split()) for number, label in enumerate(SETS)}
    return files | {f"data/{name.replace('__', '/')}": content for name, content in changes.items()}


def voc_cases() -> list[Case]:
    """VOC's XML and lists."""
    bomb = "".join(f'<!ENTITY a{n} "{"&a" + str(n - 1) + ";" if n else "ha"}{"&a0;" * 9}">' for n in range(1, 9))
    texts: dict[str, tuple[Content, str, str]] = {
        "as it should be": (xml("red"), READ, ACCEPTED),
        "cut": ("<annotation><object><na", REFUSED, "not valid XML"),
        "empty": ("", REFUSED, "not valid XML"),
        "a billion laughs": (f"<!DOCTYPE a [{bomb}]><annotation>&a8;</annotation>", REFUSED, "DOCTYPE"),
        "a file of the machine": (
            '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + xml("&x;"),
            REFUSED,
            "DOCTYPE",
        ),
        "another root": ("<html/>", REFUSED, "root"),
        "an object without a name": ("<annotation><object/></annotation>", REFUSED, "no <name>"),
        "100,000 deep": ("<annotation>" + "<a>" * 100_000, REFUSED, "not valid XML"),
        "Latin-1 without saying so": (xml("é").encode("latin-1"), REFUSED, "not valid XML"),
        "a pickle": (BOOM, REFUSED, "pickle"),
        "a million objects": (xml(*["red"] * 200_000), READ, ACCEPTED),
        "an unknown encoding": ("<?xml version='1.0' encoding='x-none'?>" + xml("red"), REFUSED, "not valid XML"),
        "UTF-16": (("<?xml version='1.0' encoding='utf-16'?>" + xml("red")).encode("utf-16"), READ, ACCEPTED),
        "a file name out of the folder": (
            xml("red").replace("<annotation>", "<annotation><filename>../x.png</filename>"),
            READ,
            "",
        ),
    }
    cases = [
        Case("voc", name, verdict, word, voc_files(**{"Annotations__0.xml": text}))
        for name, (text, verdict, word) in texts.items()
    ]
    lists = {
        "a list that names no image": ("lost\n", REFUSED, "no class"),
        "a list out of the folder": ("../../x\n", REFUSED, "'..'"),
        "a list with a NUL": ("0\0\n", REFUSED, "NUL"),
        "an empty list": ("", REFUSED, "no class"),
        "a list, as it should be": ("0\n1\n2\n3\n", READ, ACCEPTED),
    }
    cases += [
        Case("voc", name, verdict, word, voc_files(**{"ImageSets__Segmentation__train.txt": text}))
        for name, (text, verdict, word) in lists.items()
    ]
    cases += [
        Case("voc", f"an annotation is {name}", REFUSED, word, voc_files(**{"Annotations__0.xml": content}))
        for name, (content, word) in ODD_FILES.items()
        if name not in ("a link to itself", "a folder")
    ]
    return cases


def open_images_files(rows: str, names: str = "/m/1,Red\n/m/2,Blue\n", **more: Content) -> dict[str, Content]:
    """Open Images; the rows are those of the labels."""
    head = "ImageID,Source,LabelName,Confidence\n"
    whole = "".join(f"{n},v,/m/{1 + n % 2},{int(n < 4)}\n{n},v,/m/{2 - n % 2},0\n" for n in range(6))
    files: dict[str, Content] = pictures("data/train")
    files["data/train-annotations-human-imagelabels.csv"] = head + whole + rows
    return files | {"data/class-descriptions.csv": names} | below("data", more)


def twins(path: Path) -> None:
    """20,931 descriptions, one name twice, as in V7."""
    rows = [f"/m/{number},Name {number}" for number in range(3, 20_931)]
    path.write_text("\n".join(["/m/1,Red", "/m/2,Blue", *rows, "/m/x,Name 7"]))


def many_unknown(path: Path) -> None:
    """Labels of 20,000 classes that the list does not have."""
    rows = [f"{number % 6},v,/m/no{number},1" for number in range(20_000)]
    path.write_text("\n".join(["ImageID,Source,LabelName,Confidence", *rows]))


def open_images_cases() -> list[Case]:
    """Open Images' tables."""
    one = partial(Case, "open images")
    return [
        one("as it should be", READ, ACCEPTED, open_images_files("")),
        one("a label without a name", REFUSED, "/m/9", open_images_files("0,v,/m/9,1\n")),
        one("a confidence that is no number", REFUSED, "Confidence", open_images_files("0,v,/m/1,yes\n")),
        one("a confidence of NaN", REFUSED, "Confidence", open_images_files("0,v,/m/1,nan\n")),
        one("an image that is not there", REFUSED, "no image", open_images_files("lost,v,/m/1,1\n")),
        one("an id out of the folder", REFUSED, "'..'", open_images_files("../x,v,/m/1,1\n")),
        one("a row of two cells", REFUSED, "cells: 2", open_images_files("0,v\n")),
        one("a quote that stays open", REFUSED, "not valid CSV", open_images_files('"0,v\n')),
        one("a cell of 1 MB", REFUSED, "field larger", open_images_files(f"0,{'v' * 2**20},/m/1,1\n")),
        one(
            "Latin-1",
            REFUSED,
            "not UTF-8",
            open_images_files("", more_latin := "/m/1,Ré\n")
            | {"data/class-descriptions.csv": more_latin.encode("latin-1")},
        ),
        one("a label with two names", REFUSED, "keep one", open_images_files("", "/m/1,Red\n/m/1,Rot\n/m/2,Blue\n")),
        one("no names", REFUSED, "not in class-descriptions.csv", open_images_files("", "")),
        one("20,931 names, one twice", READ, ACCEPTED, open_images_files("") | {"data/class-descriptions.csv": twins}),
        one(
            "20,000 labels without a name",
            REFUSED,
            "more like it",
            open_images_files("") | {"data/val-annotations-human-imagelabels.csv": many_unknown},
        ),
    ]


def yolo_files(text: Content, **more: Content) -> dict[str, Content]:
    """YOLO with this data.yaml; more files by name, with __ for a slash."""
    files: dict[str, Content] = pictures("data/images/train")
    for number, label in enumerate(SETS):
        rows = [f"{('red', 'blue').index(name)} .5 .5 .2 .2" for name in label.split()]
        files[f"data/labels/train/{number}.txt"] = "\n".join(rows)
    return files | {"data/data.yaml": text} | {f"data/{name.replace('__', '/')}": one for name, one in more.items()}


def yolo_cases() -> list[Case]:
    """data.yaml, label files, lists."""
    head = "train: images/train\n"
    laughs = "a: &a [x, x]\n" + "".join(
        f"{c}: &{c} [{', '.join([f'*{b}'] * 9)}]\n" for b, c in zip("abcdefg", "bcdefgh", strict=True)
    )
    texts: dict[str, tuple[Content, str, str]] = {
        "as it should be": (head + "names: [red, blue]\n", READ, ACCEPTED),
        "names no, yes": (head + "names: [no, yes]\n", READ, "yes"),
        "names are dates": (head + "names: [2024-01-01, 1.5]\n", READ, "2024-01-01"),
        "names are numbers": (head + "names: [1, 2]\n", READ, ACCEPTED),
        "a name is null": (head + "names: [~, a]\n", REFUSED, "expected a number"),
        "a name is a list": (head + "names: [[a], b]\n", REFUSED, "expected a number"),
        "a name twice": (head + "names: [a, a]\n", REFUSED, "twice"),
        "no names": (head, REFUSED, "no adapter recognises"),
        "nc is wrong": (head + "nc: 9\nnames: [red, blue]\n", REFUSED, "nc is 9"),
        "too few names": (head + "names: [red]\n", REFUSED, "class 1 is not among"),
        "a billion laughs as names": (laughs + head + "names: *h\n", REFUSED, "alias"),
        "a billion laughs as train": (laughs + "train: *h\nnames: [a, b]\n", REFUSED, "alias"),
        "a billion laughs as path": (laughs + head + "path: *h\nnames: [a, b]\n", REFUSED, "alias"),
        "code": (
            "names: !!python/object/apply:os.system ['touch ../canary/PWNED']\n" + head,
            REFUSED,
            "not valid YAML",
        ),
        "a bool that is none": (head + "names: [!!bool x]\n", REFUSED, "not valid YAML"),
        "a time that is none": (head + "names: [!!timestamp x]\n", REFUSED, "not valid YAML"),
        "a float key": (head + "names: {1.5: a}\n", REFUSED, "expected a number"),
        "a list as a key": (head + "? [a]\n: b\nnames: [a]\n", REFUSED, "not valid YAML"),
        "not closed": (head + "names: [a, b\n", REFUSED, "not valid YAML"),
        "tabs": ("train:\timages/train\n\tnames: [a]\n", REFUSED, "no adapter recognises"),
        "10,000 deep": (head + "names: " + "[" * 10_000, REFUSED, "nested deeper"),
        "a folder of nowhere": ("train: nowhere\nnames: [a]\n", REFUSED, "no folder"),
        "the whole disk": ("train: /\nnames: [a]\n", REFUSED, "whole disk"),
        "a device": ("train: /dev/zero\nnames: [a]\n", REFUSED, "device"),
        "empty": ("", REFUSED, "no adapter recognises"),
        "a pickle": (BOOM, REFUSED, "no adapter recognises"),
        "a NUL": (head + "names: ['a\0']\n", REFUSED, "NUL"),
        "a number of 400 digits": (head + f"names: {{{'9' * 400}: a}}\n", REFUSED, "nothing to learn"),
        "numbers with a gap": (head + "names: {0: red, 7: x, 1: blue}\n", READ, ACCEPTED),
    }
    cases = [
        Case("yolo", name, verdict, word, yolo_files(text), ("check", "data/data.yaml"))
        for name, (text, verdict, word) in texts.items()
    ]
    good = head + "names: [red, blue]\n"
    labels = {
        "no coordinates": ("0\n", "at least four"),
        "a word": ("red .5 .5 .1 .1\n", "expected the number"),
        "NaN": ("nan .5 .5 .1 .1\n", "expected the number"),
        "infinity": ("inf .5 .5 .1 .1\n", "expected the number"),
        "a negative number": ("-1 .5 .5 .1 .1\n", "not among"),
        "1e300": ("1e300 .5 .5 .1 .1\n", "not among"),
        "a NUL": ("0 .5 .5 .1 .1\0\n", "NUL"),
        "Latin-1": ("é\n".encode("latin-1"), "not UTF-8"),
        "a pipe": (pipe, "pipe"),
        "a label file of no image": ("", "without an image"),
    }
    for name, (content, word) in labels.items():
        place = "labels__train__lost.txt" if name.endswith("no image") else "labels__train__0.txt"
        cases.append(Case("yolo", f"label file: {name}", REFUSED, word, yolo_files(good, **{place: content})))
    files = yolo_files(
        "train: t.txt\nnames: [red, blue]\n", **{"t.txt": "./images/train/0.png\n../../x.png\n/etc/passwd\n"}
    )
    cases.append(Case("yolo", "a list out of the folder", REFUSED, "'..'", files))
    return cases


def row_cases() -> list[Case]:
    """metadata.jsonl, .csv and .parquet, saved data sets."""
    rows = [json.dumps({"file_name": f"{n}.png", "labels": label.split()}) for n, label in enumerate(SETS)]
    whole = "\n".join(rows) + "\n"

    def row(**values):
        return whole + json.dumps(values) + "\n"

    texts: dict[str, tuple[Content, str, str]] = {
        "as it should be": (whole, READ, ACCEPTED),
        "cut": (whole[:-20], REFUSED, "truncated"),
        "a list as a line": (whole + "[1]\n", REFUSED, "Expected `object`"),
        "a number as labels": (row(file_name="x.png", labels=3), REFUSED, "class number"),
        "an object as labels": (row(file_name="x.png", labels={"a": 1}), REFUSED, "no image"),
        "labels, 900 deep": (
            whole + '{"file_name": "5.png", "labels": ' + "[" * 900 + "]" * 900 + "}\n",
            REFUSED,
            "deep",
        ),
        "labels, 100,000 deep": (whole + '{"file_name": "5.png", "labels": ' + "[" * 100_000, REFUSED, "nested deeper"),
        "no file name": (row(labels=[]), REFUSED, "no file_name"),
        "a NUL in the file name": (row(file_name="a.j\0pg", labels=[]), REFUSED, "no image"),
        "half a surrogate": (whole + '{"file_name": "\\ud800.png", "labels": []}\n', REFUSED, "surrogate"),
        "out of the folder": (row(file_name="../../x.png", labels=[]), REFUSED, "'..'"),
        "a first line without a file name": ("{}\n" + whole, REFUSED, "no labels"),
        "null": (whole + "null\n", REFUSED, "Expected `object`"),
        "a label of 1 MB": (row(file_name="0.png", labels=["x" * 2**20]), REFUSED, "expected one"),
        "a label that is ESC": (row(file_name="0.png", labels=["\x1b[31m"]), REFUSED, "expected one"),
        "a pickle": (BOOM, REFUSED, "no labels"),
    }
    cases = [
        Case("rows", f"jsonl: {name}", verdict, word, {**pictures("data"), "data/metadata.jsonl": text})
        for name, (text, verdict, word) in texts.items()
    ]
    made = parquet_bytes()
    if made is None:
        return cases
    tables: dict[str, tuple[Content, str, str]] = {
        "as it should be": (made, READ, ACCEPTED),
        "cut in half": (made[: len(made) // 2], REFUSED, "Parquet"),
        "flipped bytes in its footer": (made[:-300] + b"\xff" * 200 + made[-100:], REFUSED, "Parquet"),
        "a pickle": (BOOM, REFUSED, "Parquet"),
        "its first bytes alone": (b"PAR1", REFUSED, "Parquet"),
        "a pipe": (pipe, REFUSED, "no labels"),
    }
    cases += [
        Case("rows", f"parquet: {name}", verdict, word, {**pictures("data"), "data/metadata.parquet": content})
        for name, (content, verdict, word) in tables.items()
    ]
    for name, word in {"cut": "truncated", "other columns": "cannot load it", "no list": "cannot load it"}.items():
        cases.append(Case("rows", f"saved: {name}", REFUSED, word, {"data": partial(saved_set, damage=name)}))
    return [*cases, Case("rows", "saved: as it should be", READ, ACCEPTED, {"data": saved_set})]


def parquet_bytes() -> bytes | None:
    """A metadata table, where pyarrow is there."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet
    except ImportError:
        return None
    table = arrow.table({"file_name": [f"{n}.png" for n in range(6)], "labels": [label.split() for label in SETS]})
    stream = io.BytesIO()
    pyarrow.parquet.write_table(table, stream)
    return stream.getvalue()


def saved_set(path: Path, damage: str = "") -> None:
    """A data set by save_to_disk, and what happened to it."""
    import datasets as library

    features = library.Features({"image": library.Image(), "labels": library.Sequence(library.Value("string"))})
    images = [{"bytes": picture(number), "path": f"{number}.png"} for number in range(6)]
    rows = {"image": images, "labels": [label.split() for label in SETS]}
    library.disable_progress_bars()
    library.Dataset.from_dict(rows, features=features).save_to_disk(str(path))
    (file,) = path.glob("*.arrow")
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-3000])
    elif damage == "other columns":
        info = json.loads((path / "dataset_info.json").read_text())
        info["features"]["image2"] = info["features"].pop("image")
        (path / "dataset_info.json").write_text(json.dumps(info))
    elif damage == "no list":
        (path / "dataset_info.json").write_text("[]")


def json_cases() -> list[Case]:
    """mmpretrain's annotations and FiftyOne's labels.json."""
    items = [
        {"img_path": f"images/{n}.png", "gt_label": [("red", "blue").index(x) for x in s.split()]}
        for n, s in enumerate(SETS)
    ]
    meta = {"classes": ["red", "blue"]}

    def more(**row):
        return {"metainfo": meta, "data_list": [*items, row]}

    texts: dict[str, tuple[Content, str, str]] = {
        "as it should be": ({"metainfo": meta, "data_list": items}, READ, ACCEPTED),
        "a class number too large": (
            more(img_path="images/0.png", gt_label=[2**70]),
            REFUSED,
            "class number 1180591620717411303424",
        ),
        "a class number below 0": (more(img_path="images/0.png", gt_label=[-5]), REFUSED, "class number -5"),
        "a label that is a fraction": (more(img_path="images/0.png", gt_label=0.5), REFUSED, "gt_label"),
        "no path": (more(gt_label=[0]), REFUSED, "no img_path"),
        "a path that is a list": (more(img_path=[], gt_label=[0]), REFUSED, "img_path"),
        "a path with a NUL": (more(img_path="a\0.png", gt_label=[0]), REFUSED, "unsafe image id"),
        "out of the folder": (more(img_path="../../x.png", gt_label=[0]), REFUSED, "'..'"),
        "classes are numbers": (
            {"metainfo": {"classes": [1, 2]}, "data_list": items},
            REFUSED,
            "$.metainfo.classes[0]",
        ),
        "classes are a text": ({"metainfo": {"classes": "ab"}, "data_list": items}, REFUSED, "$.metainfo.classes"),
        "classes twice": ({"metainfo": {"classes": ["a", "a"]}, "data_list": items}, REFUSED, "twice"),
        "no classes": ({"metainfo": {}, "data_list": items}, REFUSED, "lists 0 classes"),
        "a list of numbers": ({"metainfo": meta, "data_list": [1, 2]}, REFUSED, "$.data_list[0]"),
        "something else": ({"a": 1}, REFUSED, "no adapter recognises"),
        "100,000 deep": ('{"metainfo": ' + "[" * 100_000, REFUSED, "no adapter recognises"),
        "FiftyOne, labels are a list": ({"classes": ["a"], "labels": [1]}, REFUSED, "no adapter recognises"),
        "FiftyOne, a label of a label": ({"classes": ["red"], "labels": {"0": [[1]]}}, REFUSED, "no image"),
        "FiftyOne, a key out of the folder": ({"classes": ["red"], "labels": {"../../x": 0}}, REFUSED, "no image"),
    }
    return [
        Case("json", name, verdict, word, {**pictures(), "data/labels.json": text}, ("check", "data/labels.json"))
        for name, (text, verdict, word) in texts.items()
    ]


def deep_folders(path: Path) -> None:
    """1,500 folders in each other."""
    path.mkdir()
    here = os.open(path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("a", dir_fd=here)
        deeper = os.open("a", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper


def undecodable(path: Path) -> None:
    """A picture whose name is no UTF-8."""
    (path.parent / os.fsdecode(b"\xff\xfe.png")).write_bytes(picture())


def folder_cases() -> list[Case]:
    """Class folders."""
    good = {
        **pictures("data/red", names="036"),
        **pictures("data/blue", names="147"),
        **pictures("data/good", names="258"),
    }
    one = partial(Case, "folders")
    more: dict[str, tuple[dict[str, Content], str, str]] = {
        "as they should be": ({}, READ, ACCEPTED),
        "a pipe among the pictures": ({"data/red/p.png": pipe}, REFUSED, "a pipe, socket or device"),
        "a link to /dev/zero": ({"data/red/z.png": link("/dev/zero")}, REFUSED, "a pipe, socket or device"),
        "a link to itself": ({"data/red/l.png": loop}, REFUSED, "symbolic links"),
        "a dead link": ({"data/red/l.png": link("nowhere.png")}, REFUSED, "no such image"),
        "a folder that is a link to its parent": ({"data/red/up": link("..")}, READ, ""),
        "1,500 folders in each other": ({"data/red/deep": deep_folders}, REFUSED, "nested deeper"),
        "a folder called ESC": ({f"data/\x1b[31m/{n}.png": picture(n) for n in range(2)}, READ, "x1b"),
        "a folder called with a line break": ({f"data/a\nb/{n}.png": picture(n) for n in range(2)}, READ, ""),
        "a file name that is no UTF-8": ({"data/red/x": undecodable}, REFUSED, "not UTF-8"),
        "an empty picture": ({"data/red/e.png": b""}, REFUSED, "empty file"),
        "a folder without pictures": ({"data/green/a.txt": "x"}, READ, ""),
        "a picture in two folders": ({"data/blue/0.png": picture(0)}, READ, "more than once"),
        "two pictures of one id": ({"data/red/0.jpg": picture(7, kind="JPEG")}, REFUSED, "another picture"),
        "20,000 empty folders": (
            {"data/red/x": lambda path: [(path / str(n)).mkdir(parents=True) for n in range(20_000)]},
            READ,
            ACCEPTED,
        ),
    }
    cases = [one(name, verdict, word, {**good, **files}) for name, (files, verdict, word) in more.items()]
    cases += [
        one("an empty folder", REFUSED, "an empty folder", {"data": folder_there}),
        one("nothing", REFUSED, "no such file", {}),
        one("a path of 5,000 bytes", REFUSED, "no such file", {}, ("check", "x" * 5000)),
        one("a single picture", REFUSED, "single image", {"data/a.png": picture()}, ("check", "data/a.png")),
        one("a device", REFUSED, "a pipe, socket or device", {}, ("check", "/dev/zero")),
        one("a pickle", REFUSED, "pickle", {"data/a.pkl": BOOM}, ("check", "data/a.pkl")),
    ]
    return cases


# ---- images


def png_of(width: int, height: int, depth: int = 8, colour: int = 0, data: bytes | None = None) -> bytes:
    """A PNG of zeros that says this size, packed as tightly as can be."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    if data is None:
        row, packer, parts = bytes(1 + width * depth * {0: 1, 2: 3, 6: 4}[colour] // 8), zlib.compressobj(9), []
        for _ in range(height):
            parts.append(packer.compress(row))
        data = b"".join([*parts, packer.flush()])
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def animation(kind: str) -> bytes:
    """Three frames."""
    from PIL import Image

    frames = [Image.open(io.BytesIO(picture(number))).convert("RGB") for number in range(3)]
    stream = io.BytesIO()
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
    return stream.getvalue()


def ppm(text: bytes) -> bytes:
    """A PPM header and nothing else."""
    return text + b"\0" * 30


def image_cases() -> list[Case]:
    """One odd image among six sound ones."""
    grey = np.random.default_rng(0).integers(0, 2**16, (48, 64)).astype(np.uint16)
    floats = np.random.default_rng(0).random((48, 64)).astype(np.float32)
    png, jpeg = picture(3), picture(3, kind="JPEG")
    contents: dict[str, tuple[str, Content, str, str]] = {
        "PNG as JPEG": ("a.jpg", png, READ, ACCEPTED),
        "JPEG as PNG": ("a.png", jpeg, READ, ACCEPTED),
        "16 bit": ("a.png", lambda path: path.write_bytes(array_image(grey, "PNG")), READ, ACCEPTED),
        "16 bit TIFF": ("a.tif", lambda path: path.write_bytes(array_image(grey, "TIFF")), READ, ACCEPTED),
        "floats": ("a.tif", lambda path: path.write_bytes(array_image(floats, "TIFF")), READ, ACCEPTED),
        "floats with NaN": (
            "a.tif",
            lambda path: path.write_bytes(array_image(floats * np.nan, "TIFF")),
            REFUSED,
            "nan",
        ),
        "integers of millions": (
            "a.tif",
            lambda path: path.write_bytes(array_image(grey.astype(np.int32) * 999, "TIFF")),
            REFUSED,
            "integer pixels",
        ),
        "CMYK": ("a.jpg", lambda path: path.write_bytes(saved("JPEG", "CMYK")), READ, ACCEPTED),
        "1 bit": ("a.png", lambda path: path.write_bytes(saved("PNG", "1")), READ, ACCEPTED),
        "a palette": ("a.png", lambda path: path.write_bytes(saved("PNG", "P")), READ, ACCEPTED),
        "transparent": ("a.png", lambda path: path.write_bytes(saved("PNG", "RGBA")), READ, ACCEPTED),
        "an animated GIF": ("a.gif", lambda path: path.write_bytes(animation("GIF")), READ, ACCEPTED),
        "an animated PNG": ("a.png", lambda path: path.write_bytes(animation("PNG")), READ, ACCEPTED),
        "an animated WebP": ("a.webp", lambda path: path.write_bytes(animation("WEBP")), READ, ACCEPTED),
        "a TIFF of three pages": ("a.tif", lambda path: path.write_bytes(animation("TIFF")), READ, ACCEPTED),
        "one pixel": ("a.png", png_of(1, 1), READ, ACCEPTED),
        "40,000 x 1 pixels": ("a.png", png_of(40_000, 1), READ, ACCEPTED),
        "zero bytes": ("a.png", b"", REFUSED, "empty file"),
        "a kilobyte of zeros": ("a.png", bytes(1024), REFUSED, "zero bytes only"),
        "cut in half": ("a.png", png[: len(png) // 2], REFUSED, "damaged or truncated"),
        "a JPEG cut in half": ("a.jpg", jpeg[: len(jpeg) // 2], REFUSED, "damaged or truncated"),
        "its header alone": ("a.png", png[:33], REFUSED, "damaged"),
        "a flipped byte": ("a.png", png[:200] + b"\xff\xff" + png[202:], REFUSED, "damaged"),
        "a web page": ("a.jpg", "<!DOCTYPE html><html>", REFUSED, "web page"),
        "an SVG": ("a.png", "<svg/>", REFUSED, "SVG"),
        "a HEIC": ("a.jpg", b"\0\0\0\x18ftypheic" + bytes(50), REFUSED, "HEIC"),
        "a Git LFS pointer": ("a.png", "version https://git-lfs.github.com/spec/v1\n", REFUSED, "LFS"),
        "PostScript": ("a.png", "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n", REFUSED, "not an image"),
        "a pickle": ("a.png", BOOM, REFUSED, "not an image"),
        "a zip": ("a.png", b"PK\x03\x04" + bytes(90), REFUSED, "not an image"),
        "a text": ("a.png", "hello", REFUSED, "not an image"),
        "a size of 2^31": ("a.png", png_of(2**31 - 1, 2**31 - 1, data=b""), REFUSED, "megapixels"),
        "a size of 0": ("a.png", png_of(0, 0, data=b""), REFUSED, "damaged header"),
        "a bomb, 20,000 x 20,000, 389 kB": (
            "a.png",
            lambda path: path.write_bytes(png_of(20_000, 20_000)),
            REFUSED,
            "hardly anything",
        ),
        "a bomb, 20,000 x 20,000 of 1 bit": (
            "a.png",
            lambda path: path.write_bytes(png_of(20_000, 20_000, 1)),
            REFUSED,
            "hardly anything",
        ),
        "30,000 x 30,000": ("a.png", lambda path: path.write_bytes(png_of(30_000, 30_000)), REFUSED, "megapixels"),
        "8,000 x 6,000": ("a.png", lambda path: path.write_bytes(png_of(8_000, 6_000, 8, 2)), READ, ACCEPTED),
        "a PPM of a huge size": ("a.ppm", ppm(b"P6 100000 100000 255\n"), REFUSED, "megapixels"),
        "a PPM cut off": ("a.ppm", ppm(b"P6 100 100 255\n"), REFUSED, "damaged"),
        "a BMP of a huge size": (
            "a.bmp",
            b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0),
            REFUSED,
            "megapixels",
        ),
        "a GIF of a huge size": (
            "a.gif",
            b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(20),
            REFUSED,
            "damaged header",
        ),
        "a text chunk of 64 MB, packed": ("a.png", text_bomb, REFUSED, "too large"),
        "an EXIF that is nonsense": ("a.jpg", picture(3, kind="JPEG", exif=b"Exif\0\0" + b"\xff" * 60), READ, ACCEPTED),
        "a pipe": ("a.png", pipe, REFUSED, "that is a pipe"),
        "a link to /dev/zero": ("a.png", link("/dev/zero"), REFUSED, "a device"),
        "a link to /dev/random": ("a.png", link("/dev/urandom"), REFUSED, "a device"),
        "a link to itself": ("a.png", loop, REFUSED, "leads nowhere"),
        "a dead link": ("a.png", link("nowhere"), REFUSED, "leads nowhere"),
        "a folder": ("a.png", folder_there, REFUSED, "folder"),
    }
    cases = []
    for name, (file, content, verdict, word) in contents.items():
        text = csv_text() + f"images/{file},red\n"
        files = {**pictures(), f"data/images/{file}": content, "data/labels.csv": text}
        cases.append(Case("images", name, verdict, word, files))
    return cases


def text_bomb(path: Path) -> None:
    """A picture with a compressed text of 64 MB."""
    content = b"Comment\0\0" + zlib.compress(bytes(64 * 2**20), 9)
    chunk = struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))
    whole = picture(3)
    path.write_bytes(whole[:33] + chunk + whole[33:])


# ---- settings


def setting_cases() -> list[Case]:
    """``--set``, ``--config`` and options."""
    values = {
        "no key": ("classifier", "="),
        "an unknown section": ("clasifier.max_steps=3", "classifier"),
        "an unknown key": ("classifier.max_step=3", "max_steps"),
        "a word for a number": ("classifier.max_steps=many", "classifier.max_steps"),
        "a negative number": ("classifier.max_steps=-1", "classifier.max_steps"),
        "NaN": ("masks.threshold=nan", "masks.threshold"),
        "infinity": ("masks.threshold=inf", "masks.threshold"),
        "a seed of 2^70": (f"seed={2**70}", "seed"),
        "a seed of 2^63 - 2": (f"seed={2**63 - 2}", "seed"),
        "a fraction for a whole number": ("seed=1.5", "seed"),
        "a number of 5,000 digits": ("seed=" + "9" * 5000, "seed"),
        "an unknown choice": ("refine.method=magic", "refine.method"),
        "an unknown variant": ("maps.variant=camm", "maps.variant"),
        "a list for a number": ("seed=[1]", "seed"),
        "a list that stays open": ("maps.scales=[1", "maps.scales"),
        "an empty list of scales": ("maps.scales=[]", "maps.scales"),
        "scales of 0": ("maps.scales=[0]", "scales must lie"),
        "scales of a million": ("maps.scales=[1000000]", "scales must lie"),
        "10,000 brackets": ("maps.scales=" + "[" * 10_000, "maps.scales"),
        "code": ('seed=__import__("os").system("touch ../canary/PWNED")', "seed"),
        "ESC": ("seed=\x1b[31m", "seed"),
        "an empty key": ("=3", "expected section.key=value"),
        "a dot": (".=3", "unknown setting"),
        "a dunder": ("__class__=3", "unknown setting"),
        "a section as a value": ("classifier=3", "classifier"),
        "the colour of the bikeshed": ("runtime.device=gpu", "device"),
        "no such device": ("runtime.device=cuda:99", "cuda"),
        "no workers": ("runtime.workers=-7", "workers"),
        "no such backbone": ("backbone.name=../../etc/passwd", "backbone"),
        "a huge crop": ("augment.crop_size=10000000", "crop_size"),
    }
    words = ("fit", "data", "--out", "out")
    cases = [
        Case("settings", f"--set: {name}", REFUSED, word, with_labels(), (*words, "--set", value))
        for name, (value, word) in values.items()
    ]
    files: dict[str, tuple[Content, str]] = {
        "empty": ("", ACCEPTED),
        "not TOML": ("a = [", "c.toml"),
        "YAML": ("a: 1\n", "c.toml"),
        "an unknown section": ("[x]\ny = 1\n", "x"),
        "a section that is a number": ("classifier = 3\n", "classifier"),
        "a key twice": ("seed = 1\nseed = 2\n", "c.toml"),
        "10,000 brackets": ("a=" + "[" * 10_000, "c.toml"),
        "10,000 dots": ("a" + ".a" * 10_000 + "=1\n", "unknown setting"),
        "a NUL": ("seed = 1\0\n", "c.toml"),
        "Latin-1": ("# é\n".encode("latin-1"), "c.toml"),
        "UTF-16": ("seed = 1\n".encode("utf-16"), "c.toml"),
        "a pickle": (BOOM, "c.toml"),
        "a date": ("seed = 2024-01-01\n", "seed"),
        "a number of 5,000 digits": ("seed = " + "9" * 5000 + "\n", "not valid TOML"),
        "a pipe": (pipe, "c.toml: a pipe"),
        "a link to /dev/zero": (link("/dev/zero"), "device"),
        "a folder": (folder_there, "c.toml"),
        "a link to itself": (loop, "symbolic links"),
    }
    for name, (content, word) in files.items():
        verdict = READ if name == "empty" else REFUSED
        cases.append(
            Case(
                "settings",
                f"--config: {name}",
                verdict,
                word,
                {**with_labels(), "c.toml": content},
                (*CHECK, "--config", "c.toml"),
            )
        )
    cases += [
        Case("settings", "--out is the data", REFUSED, "data", with_labels(), ("fit", "data", "--out", "data")),
        Case("settings", "--out is a file", REFUSED, "out", {**with_labels(), "out": "x"}, words),
        Case("settings", "--out is not empty", REFUSED, "not empty", {**with_labels(), "out/x": "x"}, words),
        Case("settings", "an unknown verb", REFUSED, "did you mean", {}, ("fti", "data")),
        Case("settings", "an unknown adapter", REFUSED, "coco", with_labels(), (*CHECK, "--adapter", "cocoa")),
    ]
    return cases


# ---- weights and maps


def weight_file(what: str) -> Callable[[Path], object]:
    """Weights that are none."""

    def write(path: Path) -> None:
        import torch
        from safetensors.torch import save_file

        if what == "NaN":
            save_file({"conv_stem.weight": torch.full((32, 3, 3, 3), float("nan"))}, str(path))
        elif what == "other names":
            save_file({"a": torch.zeros(3)}, str(path))
        elif what == "other shapes":
            save_file({"conv_stem.weight": torch.zeros(1, 2)}, str(path))
        elif what == "a list":
            torch.save([1, 2], path)
        elif what == "a module":
            torch.save(torch.nn.Linear(1, 1), path)
        else:
            torch.save({"state_dict": {"conv_stem.weight": "no tensor"}}, path)

    return write


def malicious_zip(path: Path) -> None:
    """A .pth as torch writes it, whose pickle runs a command."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", BOOM)
        file.writestr("archive/version", "3\n")


def weight_cases() -> list[Case]:
    """Backbone weights."""

    def header(text):
        return struct.pack("<Q", len(text)) + text

    contents: dict[str, tuple[str, Content]] = {
        "an empty .pth": ("w.pth", b""),
        "a text": ("w.pth", "hello"),
        "a pickle": ("w.pth", BOOM),
        "a zip with a pickle": ("w.pth", malicious_zip),
        "a list": ("w.pth", weight_file("a list")),
        "a module": ("w.pth", weight_file("a module")),
        "no tensor": ("w.pth", weight_file("no tensor")),
        "NaN": ("w.safetensors", weight_file("NaN")),
        "other names": ("w.safetensors", weight_file("other names")),
        "other shapes": ("w.safetensors", weight_file("other shapes")),
        "an empty .safetensors": ("w.safetensors", b""),
        "a header of 2^60": ("w.safetensors", struct.pack("<Q", 2**60)),
        "a header that is no JSON": ("w.safetensors", header(b"{")),
        "a tensor of 2^50": (
            "w.safetensors",
            header(b'{"a":{"dtype":"F32","shape":[1125899906842624],"data_offsets":[0,4503599627370496]}}'),
        ),
        "a pickle as .safetensors": ("w.safetensors", BOOM),
        "another suffix": ("w.bin", b"x"),
        "a pipe": ("w.pth", pipe),
        "a folder": ("w.pth", folder_there),
        "a link to itself": ("w.pth", loop),
        "a link to /dev/zero": ("w.safetensors", link("/dev/zero")),
    }
    settings = [part for line in TINY for part in ("--set", line)]
    return [
        Case(
            "weights",
            name,
            REFUSED,
            "w.",
            {**with_labels(), file: content},
            ("fit", "data", "--out", "out", "--weights", file, *settings),
        )
        for name, (file, content) in contents.items()
    ] + [
        Case(
            "weights",
            "not there",
            REFUSED,
            "w.pth",
            with_labels(),
            ("fit", "data", "--out", "out", "--weights", "w.pth"),
        )
    ]


def map_file(what: str) -> Callable[[Path], object]:
    """Maps as another program might write them."""

    def write(path: Path) -> None:
        import h5py

        with h5py.File(path, "w") as file:
            if what == "a root that is no list":
                file.attrs["class_names"] = "{not JSON"
            named = {"names a number": 3, "names not JSON": "[", "names an object": "{}", "other names": '["a"]'}
            if what in named:
                file.attrs["class_names"] = named[what]
            for number in range(8):
                odd = number == 0
                if what == "a group" and odd:
                    file.create_group(f"cam/images/{number}")
                    continue
                if what == "a soft link loop" and odd:
                    file[f"cam/images/{number}"] = h5py.SoftLink(f"/cam/images/{number}")
                    continue
                if what == "an external link" and odd:
                    file[f"cam/images/{number}"] = h5py.ExternalLink("/etc/passwd", "/a")
                    continue
                if what == "an external link to itself" and odd:
                    file[f"cam/images/{number}"] = h5py.ExternalLink(path.name, f"cam/images/{number}")
                    continue
                if what == "400,000 x 400,000" and odd:
                    made = file.create_dataset(
                        f"cam/images/{number}", (2, 400_000, 400_000), "f4", chunks=(1, 1000, 1000)
                    )
                elif what == "a million maps" and odd:
                    made = file.create_dataset(f"cam/images/{number}", (10**6, 1000, 1000), "f4", chunks=(1, 100, 100))
                else:
                    made = file.create_dataset(f"cam/images/{number}", data=map_values(what, odd))
                ids: Any = {
                    "ids a text": "ab",
                    "ids NaN": [np.nan, 2.0],
                    "ids a scalar": 1,
                    "ids words": ["a", "b"],
                }.get(what, [1, 2])
                ids = {
                    "ids of 0": [0, 1],
                    "ids twice": [1, 1],
                    "ids too large": [1, 2**40],
                    "ids fractions": [1.5, 2.0],
                }.get(what, ids)
                if what != "no ids":
                    made.attrs["class_ids"] = h5py.Empty("f4") if what == "ids empty" else ids

    return write


def map_values(what: str, odd: bool) -> Any:
    """The two maps of an image."""
    values = np.random.default_rng(1).random((2, 16, 20)).astype(np.float32)
    if not odd:
        return values
    changed: dict[str, Any] = {
        "NaN": values * np.nan,
        "infinity": values / 0 if False else np.full_like(values, np.inf),
        "negative": -values,
        "two dimensions": values[0],
        "a scalar": 3.0,
        "words": np.array([b"a", b"b"]),
        "complex": values.astype(np.complex64),
        "no pixel": values[:, :0],
        "three maps": np.concatenate([values, values[:1]]),
        "all zero": values * 0,
        "the largest float64": values.astype(np.float64) * 1e308,
        "a compound": np.zeros(2, [("a", "f4")]),
        "64-bit integers": np.full((2, 4, 4), 2**62),
    }
    return changed.get(what, values)


def map_cases() -> list[Case]:
    """``maps.variant=precomputed``; the run goes on from its classifier."""
    settings = ("maps.variant=precomputed", "maps.file=m.h5", "segmenter.enabled=false", "probe.enabled=false")
    words = ("fit", "run", "--yes", *(part for line in settings for part in ("--set", line)))
    bad = ("names a number", "names not JSON", "names an object", "other names", "a root that is no list", "a group")
    bad += ("a soft link loop", "an external link", "an external link to itself", "400,000 x 400,000", "a million maps")
    bad += (
        "ids a text",
        "ids NaN",
        "ids a scalar",
        "ids words",
        "ids of 0",
        "ids twice",
        "ids too large",
        "ids fractions",
    )
    bad += (
        "no ids",
        "ids empty",
        "NaN",
        "infinity",
        "negative",
        "two dimensions",
        "a scalar",
        "words",
        "complex",
        "no pixel",
    )
    bad += ("three maps", "a compound", "the largest float64")
    # Numbers beyond the two classes are other maps, which nobody asked for.
    fine = ("all zero", "64-bit integers", "as they should be")
    cases = [
        Case(
            "maps",
            name,
            READ if name in fine else REFUSED,
            "masks" if name in fine else "m.h5",
            {"m.h5": map_file(name)},
            words,
            True,
        )
        for name in (*bad, *fine)
    ]
    files: dict[str, Content] = {
        "empty": b"",
        "a pickle": BOOM,
        "a text": "x",
        "a pipe": pipe,
        "a folder": folder_there,
        "a link to itself": loop,
        "a link to /dev/zero": link("/dev/zero"),
        "cut in half": cut_maps,
    }
    cases += [
        Case("maps", f"the file is {name}", REFUSED, "m.h5", {"m.h5": content}, words, True)
        for name, content in files.items()
    ]
    return [*cases, Case("maps", "no file", REFUSED, "m.h5", {}, words, True)]


def cut_maps(path: Path) -> None:
    """Half a file of maps."""
    map_file("as they should be")(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# ---- what is done with a run


def make_runs(runs: Path) -> int:
    """``base`` (a data set), ``truth`` (its masks), ``run`` (a finished run of it), ``decisions.json``."""
    from PIL import Image

    from recamlabel.cli.main import run as run_cli
    from recamlabel.data.catalog import CATALOG_FILE, load_catalog
    from recamlabel.review.decisions.identity import identity_of
    from recamlabel.storage.run_folder import RunFolder

    rows = ["image,labels,split"]
    for place in ("base/images", "truth/images"):
        (runs / place).mkdir(parents=True)
    for number, label in enumerate((*SETS, "red blue", "blue")):
        (runs / f"base/images/{number}.png").write_bytes(picture(number))
        mask = np.zeros((48, 64), np.uint8)
        mask[8:28, 8:28] = 1 + number % 2
        Image.fromarray(mask).save(runs / f"truth/images/{number}.png")
        rows.append(f"images/{number}.png,{label},{'val' if number >= 6 else 'train'}")
    (runs / "base/labels.csv").write_text("\n".join(rows) + "\n")
    (runs / "base/classes.txt").write_text("red\nblue\n")
    settings = [part for line in TINY for part in ("--set", line)]
    code = run_cli(["fit", str(runs / "base"), "--out", str(runs / "run"), "--force", *settings])
    if code == 0:
        identity = identity_of(RunFolder.open(runs / "run"), load_catalog(runs / "run" / CATALOG_FILE))
        tree = {"name": identity.name, "dataset": identity.dataset, "masks": identity.masks}
        (runs / "identity.json").write_text(json.dumps(tree))
    return code


def decisions(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], object]:
    """A sound decisions.json of the run, and what is done to it."""

    def write(path: Path) -> None:
        tree = {
            "format": "recamlabel-decisions",
            "version": 2,
            "run": json.loads((path.parent / "identity.json").read_text()),
            "reviewer": "A",
            "saved": "2026-11-22T20:15:00.000Z",
            "decisions": [{"image": f"images/{n}", "status": "accepted", "note": "", "mask": ""} for n in range(3)],
        }
        result = change(tree)
        tree = tree if result is None else result
        path.write_text(tree if isinstance(tree, str) else json.dumps(tree))

    return write


def entry(**values: Any) -> Callable[[Path], object]:
    """decisions.json whose first decision has other values."""
    return decisions(lambda tree: tree["decisions"][0].update(values))


def decision_cases() -> list[Case]:
    """``review --import``."""

    def run_of(*runs, size=(48, 64)):
        return {"size": list(size), "runs": list(runs)}

    contents: dict[str, tuple[Content, str, str]] = {
        "as it should be": (decisions(lambda tree: None), READ, ""),
        "cut in half": (decisions(lambda tree: json.dumps(tree)[:150]), REFUSED, "not JSON"),
        "empty": ("", REFUSED, "not JSON"),
        "a list": ("[]", REFUSED, "expected the decisions.json"),
        "another format": (decisions(lambda tree: tree.update(format="x")), REFUSED, "expected the decisions.json"),
        "a later version": (decisions(lambda tree: tree.update(version=99)), REFUSED, "version 99"),
        "a version that is a text": (decisions(lambda tree: tree.update(version="2")), REFUSED, "version"),
        "a version that is a list": (decisions(lambda tree: tree.update(version=[2])), REFUSED, "version"),
        "another run": (decisions(lambda tree: tree["run"].update(dataset="x")), REFUSED, "decisions of another run"),
        "no run": (decisions(lambda tree: tree.pop("run") and None), REFUSED, "damaged"),
        "a run that is a number": (decisions(lambda tree: tree.update(run=3)), REFUSED, "damaged"),
        "decisions that are a number": (decisions(lambda tree: tree.update(decisions=3)), REFUSED, "damaged"),
        "a decision that is a number": (decisions(lambda tree: tree.update(decisions=[3])), REFUSED, "decision 1"),
        "a decision that is null": (decisions(lambda tree: tree.update(decisions=[None])), REFUSED, "decision 1"),
        "an unknown status": (entry(status="maybe"), REFUSED, "unknown status"),
        "a status that is a list": (entry(status=[]), REFUSED, "unknown status"),
        "an image twice": (entry(image="images/1"), REFUSED, "twice"),
        "an image of nowhere": (entry(image="../../x"), REFUSED, "has not"),
        "an image that is a number": (entry(image=3), REFUSED, "decision 1"),
        "a note that is a number": (entry(note=3), REFUSED, "decision 1"),
        "a note with a line separator": (entry(note="a\u2028b\u0085c"), READ, ""),
        "a note with half a surrogate": (entry(note="a\ud800"), READ, "recorded"),
        "a note with ESC": (entry(note="\x1b[31m"), READ, ""),
        "a note of 5 MB": (entry(note="x" * 5 * 2**20), READ, ""),
        "a time that is none": (entry(time="soon"), REFUSED, "decision 1"),
        "the year 9999": (entry(time="9999-12-31T23:59:59-23:59"), REFUSED, "calendar"),
        "a mask of another size": (entry(painted=run_of(0, 1, size=(1, 1))), REFUSED, "1x1 pixels"),
        "a mask of 2^40 pixels": (
            entry(painted=run_of(0, 2**40, size=(2**20, 2**20))),
            REFUSED,
            "not pairs of whole numbers",
        ),
        "runs that do not fill": (entry(painted=run_of(0, 5)), REFUSED, "its runs hold 5 pixels"),
        "runs of a negative length": (entry(painted=run_of(0, -5, 0, 3077)), REFUSED, "not pairs of whole numbers"),
        "runs of an unknown class": (entry(painted=run_of(77, 3072)), REFUSED, "holds the values 77"),
        "runs of fractions": (entry(painted=run_of(0, 3072.5)), REFUSED, "not pairs of whole numbers"),
        "runs that are words": (entry(painted={"size": "ab", "runs": "cd"}), REFUSED, "not pairs of whole numbers"),
        "a painted mask": (entry(painted=run_of(0, 3000, 1, 72)), READ, ""),
        "100,000 deep": ('{"format": ' + "[" * 100_000, REFUSED, "not JSON"),
        "Latin-1": ('{"a": "é"}'.encode("latin-1"), REFUSED, "not JSON"),
        "a pickle": (BOOM, REFUSED, "not JSON"),
        "a pipe": (pipe, REFUSED, "d.json: a pipe"),
        "a folder": (folder_there, REFUSED, "no mask in it"),
        "a link to itself": (loop, REFUSED, "symbolic links"),
        "a link to /dev/zero": (link("/dev/zero"), REFUSED, "a pipe, socket or device"),
    }
    words = ("review", "run", "--import", "d.json")
    cases = [
        Case("decisions", name, verdict, word, {"d.json": one}, words, True)
        for name, (one, verdict, word) in contents.items()
    ]
    foreign: dict[str, tuple[str, Content, str]] = {
        "an empty zip": ("t.zip", lambda path: zipfile.ZipFile(path, "w").close(), "no mask in it"),
        "a zip cut off": ("t.zip", b"PK\x03\x04" + bytes(50), "not a readable zip"),
        "a zip out of the folder": ("t.zip", slipping_zip, "no mask in SegmentationClass"),
        "a zip of 1.5 GB of zeros": ("t.zip", zip_bomb, "larger than 1024 MiB"),
        "CVAT's XML with a document type": (
            "t.xml",
            "<!DOCTYPE a [<!ENTITY x 'y'>]><annotations/>",
            "not readable XML",
        ),
        "CVAT's XML cut off": ("t.xml", "<annotations><image id='0' name='images/0.png'", "not readable XML"),
        "CVAT's runs that do not fill": ("t.xml", cvat("1, 2, 3"), "do not fill its box"),
        "CVAT's runs that are words": ("t.xml", cvat("a, b"), "damaged shape"),
        "CVAT's box of 2^30": (
            "t.xml",
            cvat("1", 'left="0" top="0" width="1073741824" height="1073741824"'),
            "do not fill its box",
        ),
        "Label Studio's nonsense": (
            "t.json",
            [{"data": {"image": "images/0.png"}, "annotations": [{"result": [{"value": {"rle": [1, 2, 3]}}]}]}],
            "without any shape",
        ),
        "Label Studio's list of numbers": ("t.json", [1, 2], "expected the decisions.json"),
        "index PNGs of another size": ("masks/images/0.png", png_of(3, 3), "another size than the image"),
        "index PNGs in colour": ("masks/images/0.png", picture(), "in colour"),
        "index PNGs of an unknown class": (
            "masks/images/0.png",
            lambda path: path.write_bytes(array_image(np.full((48, 64), 77, np.uint8), "PNG")),
            "no class id (77)",
        ),
        "index PNGs that are bombs": (
            "masks/images/0.png",
            lambda path: path.write_bytes(png_of(20_000, 20_000)),
            "damaged PNG",
        ),
    }
    for name, (file, content, word) in foreign.items():
        given = file.split("/", 1)[0]
        cases.append(
            Case("decisions", name, REFUSED, word, {file: content}, ("review", "run", "--import", given), True)
        )
    return cases


def slipping_zip(path: Path) -> None:
    """A name that leads out of the folder."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("../../canary/PWNED", "x")
        file.writestr("labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nred:1,1,1::\n")
        file.writestr("SegmentationClass/../../../canary/PWNED.png", picture())


def zip_bomb(path: Path) -> None:
    """annotations.xml of 1.5 GB."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file,
        file.open("annotations.xml", "w") as one,
    ):
        for _ in range(1536):
            one.write(bytes(2**20))


def cvat(runs: str, box: str = 'left="0" top="0" width="4" height="4"') -> str:
    """A mask of CVAT."""
    mask = f'<mask label="red" source="manual" occluded="0" rle="{runs}" {box} z_order="0"/>'
    image = f'<image id="0" name="images/0.png" width="64" height="48">{mask}</image>'
    return f'<?xml version="1.0"?><annotations><version>1.1</version>{image}</annotations>'


def damaged(how: str) -> Callable[[Path], object]:
    """A file of the run after an accident."""

    def write(path: Path) -> None:
        if how == "away":
            path.unlink()
        elif how == "cut":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        elif how == "a pipe":
            path.unlink()
            os.mkfifo(path)
        elif how == "a link to itself":
            path.unlink()
            path.symlink_to(path.name)
        else:
            path.write_bytes(
                {"empty": b"", "noise": np.random.default_rng(0).bytes(3000), "a pickle": BOOM, "a list": b"[]"}[how]
            )

    return write


def run_cases() -> list[Case]:
    """Runs whose files are damaged, and what is asked of them."""
    masks, weights = "run/masks.h5", "run/weights/segmenter.safetensors"
    asks: dict[str, Sequence[str]] = {
        "report": ("report", "run"), "status": ("status", "run"), "fit": ("fit", "run", "--yes"),
        "export": ("export", "run", "--format", "voc", "--out", "out"),
        "evaluate": ("evaluate", "run", "--truth", "truth"),
        "predict": ("predict", "run", "base/images", "--out", "out"),
    }  # fmt: skip
    catalog, gate, log = "run/work/dataset.json", "run/work/gate.json", "run/review/decisions.jsonl"
    table = [
        *((masks, how, "export", REFUSED) for how in ("cut", "away", "a pickle", "a pipe", "a link to itself")),
        *((weights, how, "predict", REFUSED) for how in ("cut", "a pickle", "away", "empty")),
        *((masks, "empty", "report", REFUSED), (masks, "noise", "evaluate", REFUSED), (masks, "cut", "status", READ)),
        *(("run/run.toml", "cut", "status", READ), ("run/run.toml", "empty", "report", READ)),
        *(("run/run.toml", "noise", "status", READ), ("run/metrics.json", "noise", "report", READ)),
        *(
            (catalog, "noise", "status", READ),
            (catalog, "a list", "report", REFUSED),
            (catalog, "a pipe", "status", READ),
        ),
        *(("run/quality.json", "cut", "report", REFUSED), ("run/quality.json", "a list", "report", REFUSED)),
        *((gate, "a list", "report", REFUSED), (gate, "noise", "report", REFUSED)),
        *(("base/images/0.png", "empty", "export", REFUSED), ("base/images/0.png", "away", "report", READ)),
        *(("base/labels.csv", "noise", "fit", REFUSED), ("base/images/0.png", "a pipe", "fit", REFUSED)),
    ]
    cases = [
        Case(
            "runs",
            f"{file.partition('/')[2]} {how}: {ask}",
            verdict,
            Path(file).name if verdict == REFUSED else "",
            {file: damaged(how)},
            asks[ask],
            True,
        )
        for file, how, ask, verdict in table
    ]
    cases += [
        Case("runs", f"as it should be: {name}", READ, "", {}, words, True)
        for name, words in asks.items()
        if name != "fit"
    ]
    cases.append(
        Case(
            "runs",
            "a log of decisions that is none",
            REFUSED,
            "line 1",
            {log: "x\n"},
            asks["report"],
            True,
        )
    )
    cases.append(
        Case(
            "runs",
            "a log of decisions that is a list",
            REFUSED,
            "line 1",
            {log: "[]\n"},
            asks["report"],
            True,
        )
    )
    cases += [Case("runs", f"no run: {name}", REFUSED, "run", {}, words) for name, words in asks.items()]
    return cases


def list_cases() -> list[Case]:
    """Lists of ids, true masks and class lists of `evaluate` and `export`."""
    evaluate, export = ("evaluate", "run", "--truth", "truth"), ("export", "run", "--format", "voc", "--out", "out")
    lists: dict[str, tuple[Content, str, str]] = {
        "as it should be": ("images/0\nimages/1\n", READ, ""),
        "empty": ("", REFUSED, "empty"),
        "an id of nowhere": ("lost\n", REFUSED, "no image"),
        "an id twice": ("0\n0\n", REFUSED, "already"),
        "an id with ESC": ("\x1b[31m\n", REFUSED, "no image"),
        "Latin-1": ("é\n".encode("latin-1"), REFUSED, "not UTF-8"),
        "a NUL": ("0\0\n", REFUSED, "NUL"),
        "a pipe": (pipe, REFUSED, "pipe"),
        "a folder": (folder_there, REFUSED, "folder"),
        "a link to itself": (loop, REFUSED, "symbolic links"),
        "a link to /dev/zero": (link("/dev/zero"), REFUSED, "device"),
        "a pickle": (BOOM, REFUSED, "pickle"),
    }
    cases = [
        Case(
            "lists", f"--ids: {name}: {words[0]}", verdict, word, {"ids.txt": text}, (*words, "--ids", "ids.txt"), True
        )
        for name, (text, verdict, word) in lists.items()
        for words in (evaluate, export)[: 2 if name in ("as it should be", "a pipe", "an id of nowhere") else 1]
    ]
    masks: dict[str, tuple[Content, str]] = {
        "in colour": (picture(), "a colour image"),
        "of another size": (png_of(5, 5), "size"),
        "of an unknown class": (
            lambda path: path.write_bytes(array_image(np.full((48, 64), 99, np.uint8), "PNG")),
            "99",
        ),
        "empty": (b"", "0.png"),
        "cut": (picture()[:60], "0.png"),
        "a pickle": (BOOM, "0.png"),
        "of 30,000 x 30,000": (
            lambda path: path.write_bytes(png_of(30_000, 30_000)),
            "expected at most 400 megapixels",
        ),
        "a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "left out"),
        "a link to /dev/zero": (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "left out"),
    }
    cases += [
        Case(
            "lists",
            f"a true mask: {name}",
            READ if word == "left out" else REFUSED,
            word,
            {"truth/images/0.png": content},
            evaluate,
            True,
        )
        for name, (content, word) in masks.items()
    ]
    cases.append(
        Case("lists", "no true masks", REFUSED, "nowhere", {}, ("evaluate", "run", "--truth", "nowhere"), True)
    )
    for name, text in {"other names": "a\nb\n", "of Python": "['red', 'blue']\n", "empty": ""}.items():
        words = (*evaluate, "--truth-classes", "c.txt")
        cases.append(Case("lists", f"--truth-classes: {name}", REFUSED, "c.txt", {"c.txt": text}, words, True))
    return cases


def predict_cases() -> list[Case]:
    """New images for the segmenter, and targets of exports."""
    words = ("predict", "run", "new", "--out", "out")
    contents: dict[str, tuple[dict[str, Content], str, str]] = {
        "as they should be": ({"new/a.png": picture()}, READ, "masks"),
        "none": ({"new": folder_there}, REFUSED, "new"),
        "not there": ({}, REFUSED, "new"),
        "a text": ({"new/a.png": "hello"}, REFUSED, "not an image"),
        "empty": ({"new/a.png": b""}, REFUSED, "empty"),
        "cut": ({"new/a.png": picture()[:3000]}, REFUSED, "damaged"),
        "a pipe": ({"new/a.png": pipe}, REFUSED, "no image in it"),
        "a link to /dev/zero": ({"new/a.png": link("/dev/zero")}, REFUSED, "no image in it"),
        "a link to itself": ({"new/a.png": loop}, REFUSED, "no image in it"),
        "a bomb": (
            {"new/a.png": lambda path: path.write_bytes(png_of(20_000, 20_000))},
            REFUSED,
            "hardly anything can be in",
        ),
        "one pixel": ({"new/a.png": png_of(1, 1)}, READ, "masks"),
        "one row of 5,000 pixels": ({"new/a.png": png_of(5_000, 1)}, READ, "masks"),
        "a name with ESC": ({"new/\x1b[31m.png": picture()}, READ, "masks"),
        "a name that is markup": ({"new/<img src=x onerror=alert(1)>.png": picture()}, READ, "masks"),
        "two of one id": ({"new/a.png": picture(), "new/a.jpg": picture(1)}, REFUSED, "rename one"),
        "a name of 250 bytes": ({f"new/{'n' * 246}.png": picture()}, REFUSED, "bytes in one name"),
    }
    cases = [
        Case("predict", name, verdict, word, files, words, True) for name, (files, verdict, word) in contents.items()
    ]
    for target in ("voc", "mmseg", "coco", "yolo", "cvat", "labelstudio", "hdf5", "huggingface"):
        asked = ("export", "run", "--format", target, "--out", "out")
        cases.append(Case("export", f"{target}: as it should be", READ, "images in", {}, asked, True))
    one = partial(Case, "export", needs_run=True)
    asked = ("export", "run", "--format", "voc", "--out")
    cases += [
        one("into the run", REFUSED, "inside the run folder", {}, (*asked, "run/out")),
        one("into the data", REFUSED, "inside the data set", {}, (*asked, "base/out")),
        one("into a file", REFUSED, "out", {"out": "x"}, (*asked, "out")),
        one("into a full folder", REFUSED, "out", {"out/a": "x"}, (*asked, "out")),
        one("into a link to itself", REFUSED, "a link that leads to itself", {"out": loop}, (*asked, "out")),
        one("an unknown format", REFUSED, "did you mean", {}, ("export", "run", "--format", "vox", "--out", "out")),
        one("an unknown split", REFUSED, "train", {}, (*asked, "out", "--split", "x\x1b")),
        one("a share of NaN", REFUSED, "got nan", {}, (*asked, "out", "--val", "nan")),
        one("a share of 7", REFUSED, "got 7", {}, (*asked, "out", "--val", "7")),
        one("what is not there", REFUSED, "nothing in this run is reviewed", {}, (*asked, "out", "--what", "reviewed")),
        one(
            "an address with ESC",
            READ,
            "",
            {},
            ("export", "run", "--format", "labelstudio", "--out", "out", "--image-url", "\x1b[31m/"),
        ),
    ]
    return cases


def all_cases() -> list[Case]:
    """The whole corpus."""
    parts = (
        csv_cases,
        name_cases,
        coco_cases,
        voc_cases,
        open_images_cases,
        yolo_cases,
        row_cases,
        json_cases,
        folder_cases,
    )
    parts += (image_cases, setting_cases, weight_cases, map_cases, decision_cases, run_cases, list_cases, predict_cases)
    return [case for part in parts for case in part()]
