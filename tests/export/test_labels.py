"""Labels written and read back: every state, split, class order and odd name survives, or a note says what does not."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from recamlabel.adapters import AdapterOptions, Dataset, load_dataset
from recamlabel.adapters.base import LabelledImage
from recamlabel.adapters.write import WRITERS, write_labels
from recamlabel.adapters.write_common import Written
from recamlabel.cli.convert import convert
from recamlabel.core.classes import ClassTable
from recamlabel.errors import ConfigError, DatasetError, StoreError

ODD = ("traffic light", "a,b", "žluťoučký 🐎", 'say "hi"', "semi;colon|pipe", "zebra", "image", "split", "x.jpg")


def make(root: Path, names: tuple[str, ...], states: list[list[int]], splits: list[str | None]) -> Dataset:
    """A data set of tiny images; the states are 1, 0 and -1 by image and class."""
    images = []
    for number, (row, split) in enumerate(zip(states, splits, strict=True)):
        path = root / f"sub folder, é/{number} ž🐎.v{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4 + number, 3), (number, 0, 0)).save(path)
        present = frozenset(name for name, state in zip(names, row, strict=True) if state == 1)
        absent = frozenset(name for name, state in zip(names, row, strict=True) if state == 0)
        id_ = path.relative_to(root).with_suffix("").as_posix()
        images.append(LabelledImage(id_, path, present, absent, split))
    return Dataset(root, "csv", ClassTable(names), tuple(images))


def three_states(root: Path, names: tuple[str, ...] = ODD) -> Dataset:
    count = len(names)
    cycle = [[(image + index) % 3 - 1 for index in range(count)] for image in range(4)]
    rows = [[1] * count, [0] * count, [-1] * count, *cycle]
    return make(root, names, rows, ["train", "train", "my fold", "val", None, "train", "val"])


def read_back(written: Written) -> Dataset:
    values = dict(written.settings)
    options = AdapterOptions(
        image_root=Path(values["data.image_root"]),
        image_column=values.get("data.image_column"),
        split_column=values.get("data.split_column"),
    )
    return load_dataset(written.source, "auto", options)


def content(dataset: Dataset) -> dict[str, object]:
    return {image.id: (image.path, image.present, image.absent, image.split) for image in dataset.images}


@pytest.mark.parametrize("target", WRITERS)
def test_three_states_splits_order_and_odd_names_survive(target: str, tmp_path: Path) -> None:
    dataset = three_states(tmp_path / "data")
    again = read_back(write_labels(dataset, target, tmp_path / "out"))
    assert [str(problem) for problem in again.problems if problem.fatal] == []
    assert again.adapter == target
    assert content(again) == content(dataset)
    assert again.classes == dataset.classes
    assert again.root == dataset.root


@pytest.mark.parametrize("target", WRITERS)
def test_a_fully_labelled_set_without_splits_survives(target: str, tmp_path: Path) -> None:
    dataset = make(tmp_path / "data", ("cat", "dog"), [[1, 0], [1, 1], [0, 0]], [None, None, None])
    written = write_labels(dataset, target, tmp_path / "out")
    assert not any("UNKNOWN" in note for note in written.notes)
    assert content(read_back(written)) == content(dataset)


@pytest.mark.parametrize("first", WRITERS)
@pytest.mark.parametrize("second", WRITERS)
def test_twice_converted_is_the_same(first: str, second: str, tmp_path: Path) -> None:
    dataset = three_states(tmp_path / "data", ("b", "a", "c"))
    once = read_back(write_labels(dataset, first, tmp_path / "one"))
    assert content(read_back(write_labels(once, second, tmp_path / "two"))) == content(dataset)


def test_the_csv_file(tmp_path: Path) -> None:
    dataset = make(tmp_path / "data", ("cat", "dog"), [[1, -1], [0, 1]], ["train", None])
    written = write_labels(dataset, "csv", tmp_path / "out")
    rows = list(csv.reader((tmp_path / "out/labels.csv").open(encoding="utf-8")))
    assert rows == [
        ["image", "split", "cat", "dog"],
        ["sub folder, é/0 ž🐎.v0.png", "train", "1", "-1"],
        ["sub folder, é/1 ž🐎.v1.png", "", "0", "1"],
    ]
    assert written.command() == (f"recamlabel check {tmp_path}/out/labels.csv --set data.image_root={tmp_path}/data")


def test_the_open_images_files(tmp_path: Path) -> None:
    dataset = make(tmp_path / "data", ("cat", "dog"), [[1, -1], [-1, -1], [0, 1]], ["train", "train", "val"])
    write_labels(dataset, "openimages", tmp_path / "out")
    texts = {file.name: file.read_text(encoding="utf-8").splitlines() for file in (tmp_path / "out").iterdir()}
    assert texts == {
        "train-annotations-human-imagelabels.csv": [
            "ImageID,Source,LabelName,Confidence",
            '"sub folder, é/0 ž🐎.v0",verification,cat,1',
        ],
        "val-annotations-human-imagelabels.csv": [
            "ImageID,Source,LabelName,Confidence",
            '"sub folder, é/2 ž🐎.v2",verification,cat,0',
            '"sub folder, é/2 ž🐎.v2",verification,dog,1',
        ],
        "class-descriptions.csv": ["LabelName,DisplayName", "cat,cat", "dog,dog"],
        "image-ids.csv": [
            "ImageID,Subset",
            '"sub folder, é/0 ž🐎.v0",train',
            '"sub folder, é/1 ž🐎.v1",train',
            '"sub folder, é/2 ž🐎.v2",val',
        ],
        "classes.txt": ["cat", "dog"],
    }


def test_the_coco_file_and_its_loud_note(tmp_path: Path) -> None:
    dataset = make(tmp_path / "data", ("cat", "dog"), [[1, -1], [0, 1]], [None, None])
    written = write_labels(dataset, "coco", tmp_path / "out")
    tree = json.loads((tmp_path / "out/instances.json").read_text(encoding="utf-8"))
    assert tree["images"] == [
        {"id": 1, "file_name": "sub folder, é/0 ž🐎.v0.png", "height": 3, "width": 4, "neg_category_ids": []},
        {"id": 2, "file_name": "sub folder, é/1 ž🐎.v1.png", "height": 3, "width": 5, "neg_category_ids": [1]},
    ]
    assert tree["annotations"] == [
        {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 2, "iscrowd": 0},
    ]
    assert tree["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert written.notes[0].startswith("COCO CANNOT SAY 'UNKNOWN': 1 unknown labels and 1 absent ones")


def test_coco_ids_are_unique_over_splits(tmp_path: Path) -> None:
    dataset = make(tmp_path / "data", ("cat",), [[1], [1], [1]], ["train", "val", "train"])
    write_labels(dataset, "coco", tmp_path / "out")
    trees = [json.loads(file.read_text()) for file in sorted((tmp_path / "out").iterdir())]
    assert sorted(image["id"] for tree in trees for image in tree["images"]) == [1, 2, 3]
    assert sorted(item["id"] for tree in trees for item in tree["annotations"]) == [1, 2, 3]


def test_what_is_refused(tmp_path: Path) -> None:
    dataset = make(tmp_path / "data", ("cat",), [[1]], [None])
    with pytest.raises(ConfigError, match=r"--to: unknown 'voc'\. The formats are: csv, coco, openimages"):
        write_labels(dataset, "voc", tmp_path / "out")
    with pytest.raises(StoreError, match="not empty; nothing was written"):
        write_labels(dataset, "csv", tmp_path / "data")
    with pytest.raises(DatasetError, match="has a line break in it"):
        write_labels(make(tmp_path / "b", ("a\nb",), [[1]], [None]), "csv", tmp_path / "out")
    blank = LabelledImage(" a", tmp_path / "data/ a.png", frozenset(), frozenset())
    with pytest.raises(DatasetError, match="begins or ends with a blank"):
        write_labels(Dataset(tmp_path / "data", "csv", ClassTable(("cat",)), (blank,)), "csv", tmp_path / "out")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(convert, [str(argument) for argument in arguments])


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "data/a.png")
    (tmp_path / "data/labels.csv").write_text("image,cat,dog\na.png,1,-1\nlost.png,0,1\n")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    result = run(tmp_path / "data", "--to", "coco", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "read as 'csv'" in result.stdout
    assert "NOTE: COCO CANNOT SAY 'UNKNOWN': 1 unknown labels" in result.stderr
    assert "row 3: no image 'lost.png'" in result.stderr
    assert f"read it back with: recamlabel check {tmp_path}/out/instances.json" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")} == before
    again = load_dataset(tmp_path / "out", "coco", AdapterOptions(image_root=tmp_path / "data"))
    assert again.labels().tolist() == [[1, -1], [0, 1]]
    assert isinstance(run(tmp_path / "data", "--to", "csv", "--out", tmp_path / "out").exception, StoreError)


def test_labels_with_problems_are_not_converted(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,cat\na.png,1\n../b.png,0\n")
    result = run(tmp_path / "labels.csv", "--to", "csv", "--out", tmp_path / "out")
    assert isinstance(result.exception, DatasetError)
    assert "problems with the labels: 1; nothing was written" in str(result.exception)
    assert not (tmp_path / "out").exists()
