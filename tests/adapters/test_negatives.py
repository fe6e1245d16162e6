"""Labels that say 'nothing is there', through the one place that all formats share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recamlabel.adapters import AdapterOptions, Dataset, load_dataset
from recamlabel.adapters.negatives import NEGATIVE_NAMES, name_key
from recamlabel.config import load_config
from recamlabel.errors import DatasetError


def put(root: Path, files: dict[str, str]) -> Path:
    """Files by name; an image's text makes it a picture of its own, as the folder adapter compares bytes."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def csv(root: Path, *rows: str, header: str = "image,labels") -> Path:
    put(root, {f"{row.split(',')[0]}": "" for row in rows})
    return put(root, {"labels.csv": "\n".join([header, *rows])})


def read(source: Path, **options: object) -> Dataset:
    return load_dataset(source, "auto", AdapterOptions(**options))  # type: ignore[arg-type]


def states(dataset: Dataset) -> dict[str, list[int]]:
    return dict(zip((image.id for image in dataset.images), dataset.labels().tolist(), strict=True))


def coco(root: Path) -> Path:
    tree = {
        "images": [{"id": number, "file_name": f"{name}.jpg"} for number, name in enumerate("abc")],
        "annotations": [{"image_id": 0, "category_id": 1}, {"image_id": 1, "category_id": 2}],
        "categories": [{"id": 1, "name": "dent"}, {"id": 2, "name": "Good"}, {"id": 3, "name": "rust"}],
    }
    return put(root, {"instances.json": json.dumps(tree), "a.jpg": "", "b.jpg": "", "c.jpg": ""})


NOTE = "'{0}': read as 'nothing is there' (1 image); --set 'data.negative_labels=[]' makes it a class"


def test_csv(tmp_path: Path) -> None:
    dataset = read(csv(tmp_path, "a.jpg,dent", "b.jpg,OK", "c.jpg,dent;rust"))
    assert dataset.classes.names == ("dent", "rust")
    assert states(dataset) == {"a": [1, 0], "b": [0, 0], "c": [1, 1]}
    assert dataset.problems == () and NOTE.format("OK") in dataset.notes


def test_folders(tmp_path: Path) -> None:
    dataset = read(put(tmp_path, {"dent/a.jpg": "1", "good/b.jpg": "2", "rust/c.jpg": "3"}))
    assert dataset.classes.names == ("dent", "rust")
    assert states(dataset) == {"dent/a": [1, 0], "good/b": [0, 0], "rust/c": [0, 1]}
    assert NOTE.format("good") in dataset.notes


def test_coco(tmp_path: Path) -> None:
    dataset = read(coco(tmp_path))
    assert dataset.classes.names == ("dent", "rust")
    assert states(dataset) == {"a": [1, 0], "b": [0, 0], "c": [0, 0]}
    assert NOTE.format("Good") in dataset.notes
    # Where a missing category says nothing, 'good' still says that nothing is there.
    assert states(read(tmp_path, coco_exhaustive=False)) == {"a": [1, -1], "b": [0, 0], "c": [-1, -1]}


def test_yolo(tmp_path: Path) -> None:
    put(
        tmp_path,
        {"images/a.jpg": "", "labels/a.txt": "0 .5 .5 .1 .1\n", "images/b.jpg": "", "labels/b.txt": "1 0 0 1 1"},
    )
    dataset = read(put(tmp_path, {"data.yaml": "train: images\nnames: [dent, normal]\n"}))
    assert dataset.classes.names == ("dent",) and states(dataset) == {"a": [1], "b": [0]}


def test_metadata_lines(tmp_path: Path) -> None:
    rows = [{"file_name": "a.jpg", "labels": ["dent"]}, {"file_name": "b.jpg", "labels": ["no_defect"]}]
    dataset = read(put(tmp_path, {"metadata.jsonl": "\n".join(map(json.dumps, rows)), "a.jpg": "", "b.jpg": ""}))
    assert dataset.classes.names == ("dent",) and states(dataset) == {"a": [1], "b": [0]}


def test_a_column_of_its_own(tmp_path: Path) -> None:
    dataset = read(csv(tmp_path, "a.jpg,1,0,0", "b.jpg,,,1", "c.jpg,0,1,0", header="image,dent,rust,ok"))
    assert dataset.classes.names == ("dent", "rust")
    assert states(dataset) == {"a": [1, 0], "b": [0, 0], "c": [0, 1]}, "unknown beside 'ok' is absent"


def test_no_defect_between_labels_with_spaces_is_one_label(tmp_path: Path) -> None:
    dataset = read(csv(tmp_path, "a.jpg,dent rust", "b.jpg,dent", "c.jpg,rust", "d.jpg,no defect"))
    assert dataset.classes.names == ("dent", "rust") and states(dataset)["d"] == [0, 0]


@pytest.mark.parametrize("build", ["csv", "folder"])
def test_a_contradiction_is_a_problem_of_that_image(build: str, tmp_path: Path) -> None:
    if build == "csv":
        csv(tmp_path, "a.jpg,dent;good", "b.jpg,good", "c.jpg,dent")
    else:
        put(tmp_path, {"dent/a.jpg": "same", "good/a.jpg": "same", "good/b.jpg": "2", "dent/c.jpg": "3"})
    dataset = read(tmp_path)
    assert len(dataset.problems) == 1 and len(dataset) == 3
    problem = dataset.problems[0]
    assert problem.fatal and problem.image_id == dataset.images[0].id
    assert (
        "has the label 'good', which says that nothing is there, and dent; take one of them out, or make 'good' "
        "a class with --set 'data.negative_labels=[]'"
    ) in problem.message


def test_the_setting_replaces_the_usual_names(tmp_path: Path) -> None:
    csv(tmp_path, "a.jpg,dent", "b.jpg,good", "c.jpg,In_Ordnung")
    assert read(tmp_path, negative_labels=("in ordnung",)).classes.names == ("dent", "good")
    everything = read(tmp_path, negative_labels=())
    assert everything.classes.names == ("In_Ordnung", "dent", "good")
    assert not any("nothing is there" in note for note in everything.notes)


def test_a_class_that_the_user_names_is_a_class(tmp_path: Path) -> None:
    csv(tmp_path, "a.jpg,dent", "b.jpg,good", "c.jpg,ok")
    dataset = read(tmp_path, classes=("good", "dent"))
    assert dataset.classes.names == ("good", "dent") and dataset.problems == ()
    assert states(dataset) == {"a": [0, 1], "b": [1, 0], "c": [0, 0]}
    assert any(note.startswith("'good' is a class, as the given class names say;") for note in dataset.notes)
    (tmp_path / "classes.txt").write_text("good\ndent\n")
    assert read(tmp_path).classes.names == ("good", "dent")
    assert read(tmp_path, negative_labels=("good", "ok")).classes.names == ("dent",)


def test_given_classes_need_not_name_the_negative_one(tmp_path: Path) -> None:
    csv(tmp_path, "a.jpg,dent", "b.jpg,ok", "c.jpg,rust")
    assert read(tmp_path, classes=("dent", "rust")).problems == ()


@pytest.mark.parametrize("build", ["csv", "folder"])
def test_nothing_but_negatives_is_refused(build: str, tmp_path: Path) -> None:
    if build == "csv":
        csv(tmp_path, "a.jpg,ok", "b.jpg,ok")
    else:
        put(tmp_path, {"ok/a.jpg": "1", "ok/b.jpg": "2"})
    with pytest.raises(DatasetError, match=r"every label says that nothing is there \('ok'\), so there is no class"):
        read(tmp_path)


def test_the_settings_reach_the_adapter() -> None:
    from recamlabel.adapters import options_from

    assert options_from(load_config().data).negative_labels is None
    assert options_from(load_config(assignments=["data.negative_labels=[]"]).data).negative_labels == ()
    assert options_from(load_config(assignments=['data.negative_labels=["io"]']).data).negative_labels == ("io",)


def test_the_usual_names_are_keys() -> None:
    assert [name for name in NEGATIVE_NAMES if name_key(name) != name] == []
    assert len(set(NEGATIVE_NAMES)) == len(NEGATIVE_NAMES)
