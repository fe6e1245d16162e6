"""What is wrong with label files, format by format: each a clear error with file and position, never a traceback."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from recamlabel.adapters import AdapterOptions, Dataset, detect, load_dataset
from recamlabel.adapters.files.json_file import split_of
from recamlabel.adapters.write import write_labels
from recamlabel.errors import ConfigError, DatasetError, RecamlabelError

ODD = ("a b.jpg", "c,d.jpg", "žluť é.jpg", "🐎.jpg", "sub folder/100%.jpg")
NEEDS_ARROW = pytest.mark.skipif(find_spec("pyarrow") is None, reason="pyarrow is not installed (extra huggingface)")


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (self.path,))


def put(root: Path, files: dict[str, object]) -> Path:
    """Files by name: text, bytes, or anything else as JSON. Images may be empty, as none is decoded."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
            path.write_text(text, encoding="utf-8")
    return root


def coco(images: list[Any], annotations: list[Any], categories: list[Any] | None = None) -> dict[str, Any]:
    cats = [{"id": 3, "name": "cat"}, {"id": 17, "name": "dog"}] if categories is None else categories
    return {"images": images, "annotations": annotations, "categories": cats}


def xml(*objects: str, filename: str = "") -> str:
    return f"<annotation><filename>{filename}</filename>{''.join(objects)}</annotation>"


def thing(name: str, difficult: int = 0) -> str:
    return f"<object><name>{name}</name><difficult>{difficult}</difficult></object>"


def fatal(dataset: Dataset) -> list[str]:
    return [str(problem) for problem in dataset.problems if problem.fatal]


def states(dataset: Dataset) -> dict[str, list[int]]:
    return dict(zip((image.id for image in dataset.images), dataset.labels().tolist(), strict=True))


def error(source: Path, adapter: str = "auto", **options: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        load_dataset(source, adapter, AdapterOptions(**options))
    return str(caught.value)


# ---- truncated and malformed files

JSON_STARTS = {
    "coco": b'{"images": [\n{"id": 1, "file_na',
    "json": b'{"metainfo": {"classes": ["a"]},\n"data_list": [{"img',
}


@pytest.mark.parametrize("adapter", JSON_STARTS)
def test_truncated_json(adapter: str, tmp_path: Path) -> None:
    file = put(tmp_path, {"l.json": JSON_STARTS[adapter]}) / "l.json"
    length = len(JSON_STARTS[adapter].split(b"\n")[1]) + 1
    assert error(file) == (
        f"{file}, row 2, column {length}: truncated: the file ends in the middle of a value; get it again, whole"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            b'{"images": [],\n "annotations": [,]}',
            "row 2, column 18: not valid JSON: invalid character; expected COCO instances",
        ),
        (b'{"images": [{"id": 1.5}], "annotations": []}', r"got `float` at `$.images[0].id`; expected COCO instances"),
        (b'{"images": [], "annotations": [3]}', "Expected `object`, got `int` at `$.annotations[0]`"),
        (b'{"images": [], "annotations": []}', "no list 'categories'; expected COCO instances"),
        (b'{"images": [], "annotations": ["\xff"]}', "expected COCO instances"),
        (b"", "empty; expected COCO instances"),
        (b"[" * 100_000, "expected COCO instances"),
        (b'{"other": ' + b"[" * 100_000, "nested deeper than any label file is"),
    ],
)
def test_malformed_coco(text: bytes, message: str, tmp_path: Path) -> None:
    file = put(tmp_path, {"c.json": text}) / "c.json"
    found = error(file, "coco")
    assert found.startswith(str(file))
    assert message in found


def test_nan_is_read_as_python_writes_it(tmp_path: Path) -> None:
    tree = coco([{"id": 1, "file_name": "a.jpg"}], [{"image_id": 1, "category_id": 3, "area": float("nan")}])
    put(tmp_path, {"c.json": tree, "a.jpg": b""})
    assert states(load_dataset(tmp_path)) == {"a": [1, 0]}


def test_truncated_xml(tmp_path: Path) -> None:
    put(tmp_path, {"JPEGImages/a.jpg": b"", "JPEGImages/b.jpg": b"", "Annotations/b.xml": xml(thing("cat"))})
    put(tmp_path, {"Annotations/a.xml": "<annotation>\n<object><name>cat</na"})
    dataset = load_dataset(tmp_path)
    message = "row 2, column 18: not valid XML: unclosed token; get the file again, whole"
    assert fatal(dataset) == [f"{tmp_path}/Annotations/a.xml: {message}"]
    assert dataset.problems[0].image_id == "a"
    assert states(dataset) == {"a": [-1], "b": [0 + 1]}


@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;">]>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE a SYSTEM "http://example.com/a.dtd">',
    ],
)
def test_xml_entities_are_refused(head: str, tmp_path: Path) -> None:
    text = f"<?xml version='1.0'?>{head}<annotation><object><name>cat&x;</name></object></annotation>"
    put(tmp_path, {"JPEGImages/a.jpg": b"", "Annotations/a.xml": text})
    put(tmp_path, {"JPEGImages/b.jpg": b"", "Annotations/b.xml": xml(thing("cat"))})
    assert "a.xml: has a document type (<!DOCTYPE …>)" in fatal(load_dataset(tmp_path))[0]


def test_truncated_yaml_and_tags(tmp_path: Path) -> None:
    file = put(tmp_path, {"data.yaml": "train: images\nnames: [cat, dog"}) / "data.yaml"
    assert error(file) == f"{file}, row 2, column 17: not valid YAML: expected ',' or ']', but got '<stream end>'"
    put(tmp_path, {"data.yaml": "train: !!python/object/apply:os.system ['touch /tmp/x']\nnames: [a]\n"})
    assert "row 1, column 8: not valid YAML: could not determine a constructor for the tag" in error(file)


def test_truncated_json_lines_are_named_by_row(tmp_path: Path) -> None:
    rows = '{"file_name": "a.jpg", "labels": ["cat"]}\n{"file_name": "b.jpg", "lab'
    put(tmp_path, {"metadata.jsonl": rows, "a.jpg": b""})
    assert fatal(load_dataset(tmp_path)) == [
        f"{tmp_path}/metadata.jsonl, row 2: column 28: truncated: the file ends in the middle of a value; "
        "get it again, whole"
    ]


@NEEDS_ARROW
def test_parquet(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"file_name": ["a.jpg", "b.jpg"], "labels": [["cat"], []]})
    pyarrow.parquet.write_table(table, tmp_path / "metadata.parquet")
    put(tmp_path, {"a.jpg": b"", "b.jpg": b""})
    assert states(load_dataset(tmp_path)) == {"a": [1], "b": [0]}
    whole = (tmp_path / "metadata.parquet").read_bytes()
    (tmp_path / "metadata.parquet").write_bytes(whole[: len(whole) // 2])
    assert error(tmp_path).startswith(f"{tmp_path}/metadata.parquet: truncated or not valid Parquet: ")
    (tmp_path / "metadata.parquet").write_bytes(pickle.dumps({"a": 1}))
    assert "no Parquet (it does not begin with PAR1)" in error(tmp_path)


# ---- a pickle where data was expected


@pytest.mark.parametrize(
    ("adapter", "name"),
    [
        ("coco", "l.json"),
        ("json", "l.json"),
        ("csv", "labels.csv"),
        ("openimages", "l.csv"),
        ("yolo", "data.yaml"),
        ("auto", "l.pkl"),
        ("auto", "l.json"),
    ],
)
def test_a_pickle_is_never_loaded(adapter: str, name: str, tmp_path: Path) -> None:
    file = put(tmp_path, {name: pickle.dumps(Bomb(tmp_path / "boom"))}) / name
    assert name in error(file, adapter)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize(("adapter", "name"), [("coco", "l.json"), ("csv", "labels.csv"), ("yolo", "data.yaml")])
def test_a_pickle_is_called_one(adapter: str, name: str, tmp_path: Path) -> None:
    file = put(tmp_path, {name: pickle.dumps([1, 2, 3])}) / name
    assert "a Python pickle; it is not loaded, for loading one can run any program" in error(file, adapter)


def test_a_pickled_annotation(tmp_path: Path) -> None:
    put(tmp_path, {"JPEGImages/a.jpg": b"", "Annotations/a.xml": pickle.dumps(Bomb(tmp_path / "boom"))})
    put(tmp_path, {"JPEGImages/b.jpg": b"", "Annotations/b.xml": xml(thing("cat"))})
    assert "a.xml: a Python pickle" in fatal(load_dataset(tmp_path))[0]
    assert not (tmp_path / "boom").exists()


# ---- COCO


def test_coco_ids_that_clash_or_lead_nowhere(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}, {"file_name": "c.jpg"}]
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 3},
        {"id": 1, "image_id": 99, "category_id": 3},
        {"id": 2, "image_id": 99, "category_id": 3},
        {"id": 3, "image_id": 1, "category_id": 4},
        {"id": 4, "category_id": 3},
    ]
    file = put(tmp_path, {"a.jpg": b"", "extra.jpg": b"", "c.json": coco(images, annotations)}) / "c.json"
    dataset = load_dataset(file)
    assert [str(problem) for problem in dataset.problems] == [
        f"{file}: images[1] ('b.jpg'): the id 1 is that of images[0] ('a.jpg') already; every image needs its own",
        f"{file}: images[2]: no id or no file_name; expected both",
        f"{file}: annotations[1]: image_id 99 is not among 'images' (2 annotations have it)",
        f"{file}: annotations[3]: category_id 4 is not among 'categories'",
        f"{file}: annotations[4]: no image_id",
        f"{file}: annotation ids that stand there more than once: 1 (such as 1); image labels do not depend on them",
    ]
    assert dataset.notes[-1] == "images beside these without an entry: 1 (extra.jpg); not read"
    assert states(dataset) == {"a": [1, 0]}


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "categories[1]: id 1 stands there twice, for 'a' and 'b'"),
        ([{"id": 1, "name": "a"}, {"id": 2, "name": "a"}], "categories[1]: the name 'a' stands there twice"),
        ([{"id": 1}], "categories[0]: no id or no name; expected both"),
        ([], "no class: nothing in it has a label"),
    ],
)
def test_coco_categories(categories: list[Any], message: str, tmp_path: Path) -> None:
    file = put(tmp_path, {"c.json": coco([], [], categories)}) / "c.json"
    assert message in error(file)


def test_coco_paths(tmp_path: Path) -> None:
    names = ["sub\\a.jpg", "/etc/b.jpg", "../c.jpg", "C:\\d.jpg", str(tmp_path / "e.jpg"), "lost.jpg", "x/../../f.jpg"]
    images = [{"id": index, "file_name": name} for index, name in enumerate(names)]
    annotations = [{"image_id": index, "category_id": 3} for index in range(len(names))]
    put(tmp_path, {"sub/a.jpg": b"", "e.jpg": b"", "c.json": coco(images, annotations)})
    dataset = load_dataset(tmp_path / "c.json")
    assert [image.id for image in dataset.images] == ["sub/a", "e", "lost"]
    found = fatal(dataset)
    assert [text.split(": ")[1] for text in found] == [f"images[{i}] (id {i})" for i in (1, 2, 3, 6, 5)]
    assert "image path '/etc/b.jpg' is outside of" in found[0]
    assert "'..' in it" in found[1] and "is absolute" in found[2] and "'..' in it" in found[3]
    assert found[4].endswith(f"no image 'lost.jpg' below {tmp_path}; fix the path or put the image there")
    assert dataset.problems[-1].image_id == "lost"


def test_coco_states(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]
    annotations = [{"image_id": 1, "category_id": 17, "iscrowd": 1}, {"image_id": 1, "category_id": 3, "iscrowd": 0}]
    file = put(tmp_path, {"a.jpg": b"", "b.jpg": b"", "c.json": coco(images, annotations)}) / "c.json"
    dataset = load_dataset(file)
    assert states(dataset) == {"a": [1, 1], "b": [0, 0]}
    assert "c.json: labels from crowd regions alone: 1; they count as present" in dataset.notes
    assert states(load_dataset(file, options=AdapterOptions(coco_exhaustive=False))) == {"a": [1, 1], "b": [-1, -1]}
    images[1]["neg_category_ids"] = [3]
    put(tmp_path, {"c.json": coco(images, annotations)})
    assert states(load_dataset(file)) == {"a": [1, 1], "b": [0, -1]}
    assert states(load_dataset(file, options=AdapterOptions(coco_exhaustive=True))) == {"a": [1, 1], "b": [0, 0]}


def test_lvis(tmp_path: Path) -> None:
    url = "http://images.cocodataset.org/train2017/000000000009.jpg"
    images = [{"id": 9, "coco_url": url, "neg_category_ids": [3], "not_exhaustive_category_ids": []}]
    file = put(tmp_path, {"lvis_v1_val.json": coco(images, []), "train2017/000000000009.jpg": b""}) / "lvis_v1_val.json"
    assert states(load_dataset(file)) == {"train2017/000000000009": [0, -1]}


@pytest.mark.parametrize(
    ("label", "image"),
    [
        ("c.json", "a.jpg"),
        ("c.json", "images/a.jpg"),
        ("annotations/instances_val2017.json", "val2017/a.jpg"),
        ("annotations/instances_val2017.json", "images/val2017/a.jpg"),
        ("annotations/instances_val.json", "images/val/a.jpg"),
        ("annotations/c.json", "images/a.jpg"),
        ("labels.json", "data/a.jpg"),
        ("train/_annotations.coco.json", "train/a.jpg"),
    ],
)
def test_coco_images_are_found(label: str, image: str, tmp_path: Path) -> None:
    tree = coco([{"id": "x", "file_name": "a.jpg"}], [{"image_id": "x", "category_id": 3}])
    put(tmp_path, {label: tree, image: b""})
    assert load_dataset(tmp_path / label).images[0].path == tmp_path / image
    assert load_dataset(tmp_path).images[0].path == tmp_path / image
    put(tmp_path, {"elsewhere/a.jpg": b""})
    told = load_dataset(tmp_path / label, options=AdapterOptions(image_root=tmp_path / "elsewhere"))
    assert told.images[0].path == tmp_path / "elsewhere/a.jpg"


def test_split_names() -> None:
    stems = ["instances_train2017", "lvis_v1_val", "Test", "mytrainset", "labels", "instances_minitrain2017", "valid_1"]
    assert [split_of(stem) for stem in stems] == ["train", "val", "test", None, None, "minitrain", "valid"]


# ---- VOC


def voc(root: Path, objects: dict[str, list[str]], lists: dict[str, str] | None = None) -> Path:
    for name, items in objects.items():
        put(root, {f"Annotations/{name}.xml": xml(*items), f"JPEGImages/{name}.jpg": b""})
    return put(root, {f"ImageSets/Segmentation/{name}.txt": text for name, text in (lists or {}).items()})


@pytest.mark.parametrize(("setting", "state"), [("unknown", -1), ("present", 1), ("absent", 0)])
def test_voc_difficult(setting: str, state: int, tmp_path: Path) -> None:
    source = voc(tmp_path, {"a": [thing("cat", 1), thing("dog")], "b": [thing("cat"), thing("cat", 1)]})
    assert states(load_dataset(source, options=AdapterOptions(voc_difficult=setting))) == {
        "a": [state, 1],
        "b": [1, 0],
    }


def test_voc_main_files(tmp_path: Path) -> None:
    put(tmp_path, {f"JPEGImages/{name}.jpg": b"" for name in "abc"})
    put(tmp_path, {"ImageSets/Main/cat_train.txt": "a  1\nb -1\nc  0\n", "ImageSets/Main/dog_train.txt": "a 2\nb 1\n"})
    dataset = load_dataset(tmp_path)
    assert states(dataset) == {"a": [1, 0], "b": [0, 1], "c": [-1, 0]}
    assert fatal(dataset) == [
        f"{tmp_path}/ImageSets/Main/dog_train.txt, row 1: 'a 2'; expected an image name and 1 (there), "
        "-1 (not there) or 0 (difficult)"
    ]


def test_voc_lists(tmp_path: Path) -> None:
    objects = {name: [thing("cat")] for name in ("a", "b", "c", "d")}
    source = voc(tmp_path / "VOC2012", objects, {"train": "a\n../x\n/y\n", "val": "b\na\nlost\n", "trainval": "a\nb\n"})
    dataset = load_dataset(tmp_path)
    assert [(image.id, image.split) for image in dataset.images] == [("a", "train"), ("b", "val"), ("lost", "val")]
    sets = source / "ImageSets/Segmentation"
    assert [text.split(";")[0] for text in fatal(dataset)] == [
        f"{sets}/train.txt, row 2: image path '../x' has '..' in it",
        f"{sets}/train.txt, row 3: image path '/y' is outside of {sets}",
        f"{sets}/val.txt, row 2: 'a.jpg' has labels cat, split val here but labels cat, split train in "
        f"{sets}/train.txt, row 1",
        f"{sets}/val.txt, row 3: no image 'lost.jpg' below {source}/JPEGImages",
    ]
    assert "images in no list: 2 (c, d); not read" in dataset.notes
    mine = put(tmp_path, {"train_aug.txt": "/JPEGImages/c.jpg /SegmentationClassAug/c.png\n"}) / "train_aug.txt"
    listed = load_dataset(tmp_path, options=AdapterOptions(split_lists=(mine,)))
    assert [(image.id, image.split) for image in listed.images] == [("c", "train_aug")]


def test_voc_image_and_annotation_without_the_other(tmp_path: Path) -> None:
    voc(tmp_path, {"a": [thing("cat")]})
    put(tmp_path, {"JPEGImages/b.jpg": b"", "Annotations/c.xml": xml(thing("cat"), filename="../c.jpg")})
    put(tmp_path, {"Annotations/d.xml": xml("<object/>"), "Annotations/e.xml": "<html/>"})
    put(tmp_path, {"Annotations/f.xml": xml(thing("cat"))})
    dataset = load_dataset(tmp_path)
    assert states(dataset) == {"a": [1], "b": [-1], "d": [-1], "e": [-1], "f": [1]}
    found = [text.removeprefix(f"{tmp_path}/Annotations/") for text in fatal(dataset)]
    assert found[0].startswith("c.xml: <filename>: image path '../c.jpg' has '..' in it")
    assert found[1] == "d.xml: object 1: no <name>; expected the class of the object"
    assert found[2] == "e.xml: the root is <html>; expected <annotation> with <object>s"
    assert found[-1].startswith("f.xml: no image 'f.jpg' below")


# ---- Open Images


def open_images(root: Path, rows: list[str], **files: str) -> Path:
    text = "\n".join(["ImageID,Source,LabelName,Confidence", *rows])
    put(root, {"train-annotations-human-imagelabels.csv": text, "class-descriptions.csv": "/m/1,Cat\n/m/2,Dog\n"})
    return put(root, {name.replace("__", "."): text for name, text in files.items()})


def test_open_images_states(tmp_path: Path) -> None:
    rows = ["a,verification,/m/1,1", "a,verification,/m/2,0", "b,machine,/m/1,0.7", "b,verification,/m/2,1"]
    rows += ["c,verification,/m/1,1", "c,crowdsource-verification,/m/1,0", "c,verification,/m/2,0"]
    put(tmp_path, {f"train/{name}.jpg": b"" for name in "abc"})
    dataset = load_dataset(open_images(tmp_path, rows))
    assert states(dataset) == {"a": [1, 0], "b": [-1, 1], "c": [-1, 0]}
    assert "labels with rows of both 0 and 1: 1 (c: Cat); they are unknown" in dataset.notes
    assert "rows with a confidence between 0 and 1 (or none): 1; these labels are unknown" in dataset.notes


def test_open_images_mistakes(tmp_path: Path) -> None:
    rows = [
        "a,v,/m/1,1",
        "a,v,/m/9,1",
        "a,v,/m/1,yes",
        "lost,v,/m/1,1",
        "../b,v,/m/1,1",
        "/c,v,/m/1,0",
        "a,v",
        ",v,/m/1,1",
    ]
    put(tmp_path, {"train/a.jpg": b"", "train/extra.jpg": b""})
    dataset = load_dataset(open_images(tmp_path, rows))
    file = f"{tmp_path}/train-annotations-human-imagelabels.csv"
    assert fatal(dataset) == [
        f"{file}, row 3: LabelName '/m/9' is not in class-descriptions.csv; add it there",
        f"{file}, row 4: Confidence 'yes'; expected 1 (present), 0 (verified absent) or a machine's score between",
        f"{file}, row 8: cells: 2 here, 4 in the header (ImageID, Source, LabelName, Confidence)",
        f"{file}, row 9: no ImageID; expected the name of an image without extension",
        f"{file}, row 6: ImageID: image path '../b' has '..' in it; expected a path relative to {tmp_path}/train that "
        "stays inside",
        f"{file}, row 7: ImageID: image path '/c' is outside of {tmp_path}/train; put the label file above its images",
        f"{file}, row 5: no image 'lost.jpg' below {tmp_path}/train; fix the path or put the image there",
    ]
    assert dataset.notes[-1] == "images beside these without an entry: 1 (extra.jpg); not read"


def test_open_images_splits_and_descriptions_that_contradict(tmp_path: Path) -> None:
    files = {"val-annotations-human-imagelabels.csv": "ImageID,LabelName,Confidence\na,/m/1,1\n"}
    put(open_images(tmp_path, ["a,v,/m/1,1"]), {**files, "train/a.jpg": b""})
    put(tmp_path, {"class-descriptions.csv": "/m/1,Cat\n/m/1,Dog\n/m/2\n/m/3,Cat\n"})
    dataset = load_dataset(tmp_path)
    assert dataset.classes.names == ("Cat (/m/1)",)
    assert fatal(dataset) == [
        f"{tmp_path}/class-descriptions.csv, row 2: '/m/1' is called 'Cat' above and 'Dog' here; keep one",
        f"{tmp_path}/class-descriptions.csv, row 3: no display name; expected 'LabelName,DisplayName'",
        f"{tmp_path}/val-annotations-human-imagelabels.csv, row 2: ImageID 'a' is of split val here and of train in "
        "train-annotations-human-imagelabels.csv, row 2; an image is in one split",
    ]


# ---- YOLO


def test_yolo_mistakes(tmp_path: Path) -> None:
    put(tmp_path, {f"images/train/{name}.jpg": b"" for name in ("a", "b", "c", "d")})
    put(tmp_path, {"labels/train/a.txt": "0 .5 .5 .1 .1\n7 .5 .5 .1 .1\nx\n1 .5\n", "labels/train/b.txt": ""})
    put(tmp_path, {"labels/train/c.txt": "1.0 .1 .1 .2 .2 .3 .3\n", "labels/train/lost.txt": "0 .5 .5 .1 .1\n"})
    put(tmp_path, {"data.yaml": "path: .\ntrain: images/train\ntest: nothing\nnames:\n  0: cat\n  1: dog\n"})
    dataset = load_dataset(tmp_path)
    assert states(dataset) == {"a": [1, 0], "b": [0, 0], "c": [0, 1], "d": [-1, -1]}
    labels = f"{tmp_path}/labels/train"
    coordinates = "expected the number of a class (0..1) and at least four coordinates"
    assert fatal(dataset) == [
        f"{labels}/lost.txt: a label file without an image below {tmp_path}/images/train; put the image there or take "
        "the file away",
        f"{labels}/a.txt, row 2: class 7 is not among the 2 names (cat, dog)",
        f"{labels}/a.txt, row 3: 'x': {coordinates}",
        f"{labels}/a.txt, row 4: '1 .5': {coordinates}",
    ]
    assert "images without a label file: 1; nothing is known of them" in dataset.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: images\nnames: []\n", "no 'names'; expected a list of class names"),
        ("train: images\nnames: [a, a]\n", "names: 'a' stands there twice"),
        ("train: images\nnc: 3\nnames: [a, b]\n", "nc is 3, but there are 2 names"),
        ("train: images\nnames: {a: 0}\n", "names: 'a': 0; expected a number (from 0) and a name"),
        ("names: [a]\n", "neither 'train' nor 'val'"),
        ("train: nowhere\nnames: [a]\n", "train: no folder or list file 'nowhere' below"),
        ("just text", "expected keys such as 'names:' and 'train:', found str"),
    ],
)
def test_yolo_data_files(text: str, message: str, tmp_path: Path) -> None:
    file = put(tmp_path, {"data.yaml": text, "images/a.jpg": b""}) / "data.yaml"
    found = error(file, "yolo")
    assert found.startswith(f"{file}: ") and message in found


def test_yolo_list_files(tmp_path: Path) -> None:
    put(
        tmp_path,
        {"images/a.jpg": b"", "labels/a.txt": "0 .5 .5 .1 .1\n", "t.txt": "./images/a.jpg\n../b.jpg\nimages\\c.jpg\n"},
    )
    put(tmp_path, {"data.yaml": "train: t.txt\nnames: [cat]\n"})
    dataset = load_dataset(tmp_path)
    assert states(dataset) == {"images/a": [1], "images/c": [-1]}
    assert [text.split(";")[0] for text in fatal(dataset)] == [
        f"{tmp_path}/t.txt, row 2: image path '../b.jpg' has '..' in it",
        f"{tmp_path}/t.txt, row 3: no image 'images/c.jpg' below {tmp_path}",
    ]


# ---- mmpretrain, FiftyOne's labels.json, Hugging Face metadata


def test_mmpretrain_mistakes(tmp_path: Path) -> None:
    items = [
        {"img_path": "a.jpg", "gt_label": [0, 5]},
        {"img_path": "b.jpg", "gt_label": 1},
        {"img_path": "c.jpg"},
        {"gt_label": [0]},
        {"img_path": "../d.jpg", "gt_label": []},
        {"img_path": "a.jpg", "gt_label": [1]},
        {"img_path": "lost.jpg", "gt_label": []},
    ]
    put(tmp_path, {"m.json": {"metainfo": {"classes": ["cat", "dog"]}, "data_list": items}})
    file = put(tmp_path, {f"{name}.jpg": b"" for name in "abce"}) / "m.json"
    dataset = load_dataset(file)
    assert states(dataset) == {"a": [1, 0], "b": [0, 1], "c": [-1, -1], "lost": [0, 0]}
    assert fatal(dataset) == [
        f"{file}: data_list[3]: no img_path; expected the path of the image",
        f"{file}: data_list[0]: class number 5 is not in 0..1; the file lists 2 classes",
        f"{file}: data_list[4]: image path '../d.jpg' has '..' in it; expected a path relative to {tmp_path} "
        "that stays inside",
        f"{file}: data_list[5]: 'a.jpg' has labels dog here but labels cat in data_list[0]; expected one entry an "
        "image, with all its labels",
        f"{file}: data_list[6]: no image 'lost.jpg' below {tmp_path}; fix the path or put the image there",
    ]
    assert dataset.notes[-1] == "images beside these without an entry: 1 (e.jpg); not read"


def test_fiftyone_labels_file(tmp_path: Path) -> None:
    labels = {
        "a": "cat",
        "b": [{"label": "dog", "confidence": 0.5}, {"label": "cat"}],
        "c": None,
        "d": 1,
        "e": "eel",
        "f": [[1]],
        "lost": [],
        "sub folder/ž.v2": [],
    }
    put(tmp_path, {f"data/{name}.jpg": b"" for name in ("a", "b", "c", "d", "e", "sub folder/ž.v2")})
    file = put(tmp_path, {"labels.json": {"classes": ["cat", "dog"], "labels": labels}}) / "labels.json"
    dataset = load_dataset(tmp_path)
    assert states(dataset) == {
        "a": [1, 0],
        "b": [1, 1],
        "c": [-1, -1],
        "d": [0, 1],
        "e": [0, 0],
        "lost": [0, 0],
        "sub folder/ž.v2": [0, 0],
    }
    assert fatal(dataset) == [
        f"{file}: labels['f']: [1] is no label; expected a class name, the number of a class, or a list",
        f"{file}: labels['e']: class 'eel' is not among the file's 2 classes; add it to 'classes' or fix it",
        f"{file}: labels['lost']: no image 'lost' below {tmp_path}/data; fix the path or put the image there",
    ]


def test_metadata_mistakes(tmp_path: Path) -> None:
    rows = [
        {"file_name": "a.jpg", "labels": ["cat"]},
        {"file_name": "b.jpg", "labels": None},
        {"file_name": "../c.jpg", "labels": []},
        {"labels": []},
        {"file_name": "d.jpg"},
        {"file_name": "e.jpg", "labels": [3]},
        {"file_name": "f.jpg", "objects": {"bbox": [[0, 0, 1, 1]], "category": ["dog"]}},
        {"file_name": "g\\h.jpg", "labels": "cat"},
    ]
    put(tmp_path, {"metadata.jsonl": "\n".join(map(json.dumps, rows)), "g/h.jpg": b""})
    put(tmp_path, {f"{name}.jpg": b"" for name in "abcf"})
    dataset = load_dataset(tmp_path)
    assert states(dataset) == {"a": [1, 0], "b": [-1, -1], "f": [0, 1], "g/h": [1, 0]}
    assert [text.removeprefix(f"{tmp_path}/metadata.jsonl, ").split(";")[0] for text in fatal(dataset)] == [
        "row 3: image path '../c.jpg' has '..' in it",
        "row 4: no file_name among labels",
        "row 5: no labels among file_name",
        "row 6: class number 3, but the classes have no names here",
    ]


# ---- names with spaces, commas, accents and emoji


def odd_source(adapter: str, root: Path) -> Path:
    folder = {"voc": "JPEGImages/", "yolo": "images/"}.get(adapter, "")
    put(root, {folder + name: b"" for name in ODD})
    stems = [name.removesuffix(".jpg") for name in ODD]
    if adapter == "coco":
        images = [{"id": name, "file_name": name} for name in ODD]
        names = [{"id": 1, "name": "Žába, 🐸"}]
        return put(root, {"c.json": coco(images, [{"image_id": name, "category_id": 1} for name in ODD], names)})
    if adapter == "json":
        items = [{"img_path": name, "gt_label": [0]} for name in ODD]
        return put(root, {"m.json": {"metainfo": {"classes": ["Žába, 🐸"]}, "data_list": items}})
    if adapter == "voc":
        put(root, {f"Annotations/{stem}.xml": xml(thing("Žába, 🐸")) for stem in stems})
        return put(root, {"ImageSets/Segmentation/train.txt": "\n".join(stems)})
    if adapter == "yolo":
        put(root, {f"labels/{stem}.txt": "0 .5 .5 .1 .1" for stem in stems})
        return put(root, {"data.yaml": 'train: images\nnames: ["Žába, 🐸"]\n'})
    if adapter == "openimages":
        rows = [f'"{stem}",v,/m/1,1' for stem in stems]
        put(root, {"l.csv": "\n".join(["ImageID,Source,LabelName,Confidence", *rows])})
        return put(root, {"class-descriptions.csv": '/m/1,"Žába, 🐸"\n'})
    rows = [json.dumps({"file_name": name, "labels": ["Žába, 🐸"]}, ensure_ascii=False) for name in ODD]
    return put(root, {"metadata.jsonl": "\n".join(rows)})


@pytest.mark.parametrize("adapter", ["coco", "json", "voc", "yolo", "openimages", "huggingface"])
def test_odd_names(adapter: str, tmp_path: Path) -> None:
    source = odd_source(adapter, tmp_path / "my data, é 🐎")
    assert detect(source)[0].name == adapter
    dataset = load_dataset(source)
    assert fatal(dataset) == []
    assert states(dataset) == {name.removesuffix(".jpg"): [1] for name in ODD}
    assert dataset.classes.names == ("Žába, 🐸",)


# ---- settings of another format


@pytest.mark.parametrize("adapter", ["coco", "json", "voc", "yolo", "openimages", "huggingface", "csv", "folder"])
@pytest.mark.parametrize(("setting", "value"), [("coco_exhaustive", True), ("voc_difficult", "present")])
def test_settings_of_another_format_are_refused(adapter: str, setting: str, value: object, tmp_path: Path) -> None:
    if adapter == setting.split("_")[0]:
        return
    with pytest.raises(
        ConfigError, match=rf"^data\.{setting} is about (COCO files|VOC data sets); the adapter '{adapter}'"
    ):
        load_dataset(tmp_path, adapter, AdapterOptions(**{setting: value}))  # type: ignore[arg-type]


# ---- damage at random


@pytest.mark.parametrize("adapter", ["coco", "json", "voc", "yolo", "openimages", "huggingface"])
def test_damaged_files_never_end_in_a_traceback(adapter: str, tmp_path: Path) -> None:
    source = odd_source(adapter, tmp_path)
    files = [path for path in source.rglob("*") if path.suffix != ".jpg" and path.is_file()]
    chance = random.Random(adapter)
    pieces = [b"null", b"-1", b"[]", b"{}", b"../", b"/", b"\\", b"\0", b"\xff", b"\n", b",", b'"', b"<", b"NaN"]
    pieces.append(b"9" * 400)
    for _ in range(25):
        file = chance.choice(files)
        whole = file.read_bytes()
        place = chance.randrange(len(whole) + 1)
        damaged = [
            whole[:place],
            whole[:place] + chance.choice(pieces) + whole[place + chance.randint(0, 6) :],
            whole[:place] + whole[place + chance.randint(1, 10) :],
        ]
        file.write_bytes(chance.choice(damaged))
        for how in ("auto", adapter):
            with contextlib.suppress(RecamlabelError):
                load_dataset(source, how).labels()
        file.write_bytes(whole)


def test_paths_that_are_too_long(tmp_path: Path) -> None:
    name = "9" * 400
    for source in (tmp_path / name, Path(f"fiftyone:{name}/{name}")):
        with pytest.raises(RecamlabelError):
            load_dataset(source, "csv")
    put(tmp_path, {"c.json": coco([{"id": 1, "file_name": f"{name}.jpg"}], [{"image_id": 1, "category_id": 3}])})
    assert "400 bytes in one name; expected at most 245" in fatal(load_dataset(tmp_path))[0]


def test_yolo_whole_disk_and_pipes(tmp_path: Path) -> None:
    file = put(tmp_path, {"data.yaml": "train: /\nnames: [a]\n"}) / "data.yaml"
    assert error(file) == f"{file}: train: '/' is the whole disk; expected a folder with images"
    put(tmp_path, {"data.yaml": "train: images\nnames: [a]\n", "images/a.jpg": b"", "labels/b.txt": ""})
    os.mkfifo(tmp_path / "labels/a.txt")
    assert "labels/a.txt: a pipe, socket or device; expected a text file" in error(tmp_path)


def test_a_label_file_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "labels.csv")
    for adapter in ("auto", "csv", "coco"):
        found = error(tmp_path / "labels.csv", adapter)
        assert found == f"{tmp_path}/labels.csv: a pipe, socket or device; expected a label file or a folder"


def test_names_that_a_spreadsheet_evaluates_are_kept_and_told(tmp_path: Path) -> None:
    name = "=cmd|'/C calc'!A0"
    put(tmp_path, {"labels.csv": f'image,labels\na.jpg,"{name}"\nb.jpg,b\n', "a.jpg": b"", "b.jpg": b""})
    options = AdapterOptions(label_separator=";")
    written = write_labels(load_dataset(tmp_path, options=options), "csv", tmp_path / "out")
    assert "names that a spreadsheet would take for a formula: 1 (such as \"=cmd|'/C calc'!A0\")" in written.notes[0]
    again = load_dataset(tmp_path / "out", options=AdapterOptions(image_root=tmp_path))
    assert again.classes.names == (name, "b")


def test_what_is_no_file_is_said_and_hides_no_other(tmp_path: Path) -> None:
    put(tmp_path, {"labels.csv": "image,labels\na.jpg,cat\nb.jpg,\nc.jpg,cat\n", "a.jpg": b""})
    (tmp_path / "b.jpg").symlink_to("b.jpg")
    os.mkfifo(tmp_path / "c.jpg")
    found = fatal(load_dataset(tmp_path))
    assert [text.split(";")[0][-30:] for text in found] == [
        f"no image '{name}.jpg' below {tmp_path}"[-30:] for name in "bc"
    ]
    assert all("; that is a pipe, a device, or a link that leads nowhere; fix the path" in text for text in found)
