"""What is no data set, and what it may have been meant for; and MVTec's layout, which is one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recamlabel.adapters import AdapterOptions, Dataset, detect, load_dataset
from recamlabel.errors import DatasetError


def put(root: Path, *names: str, **texts: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(texts.get(name, f"picture {name}"))
    return root


def error(source: Path, adapter: str = "auto") -> str:
    with pytest.raises(DatasetError) as caught:
        load_dataset(source, adapter)
    return str(caught.value)


def mvtec(root: Path) -> Path:
    put(root, "train/good/000.png", "train/good/001.png", "test/good/000.png", "test/cut/000.png", "test/hole/000.png")
    return put(root, "ground_truth/cut/000_mask.png", "ground_truth/hole/000_mask.png", "license.txt")


def states(dataset: Dataset) -> dict[str, list[int]]:
    return dict(zip((image.id for image in dataset.images), dataset.labels().tolist(), strict=True))


# ---- the parent of data sets


def test_the_parent_of_data_sets_is_not_taken_for_one(tmp_path: Path) -> None:
    put(tmp_path, "csv/labels.csv", "csv/images/a.png", **{"csv/labels.csv": "image,labels\na.png,cat\n"})
    tree = {"images": [], "annotations": [], "categories": []}
    put(tmp_path, "coco/annotations/instances.json", **{"coco/annotations/instances.json": json.dumps(tree)})
    put(tmp_path, "coco/images/a.png", "truth/images/a.png", "truth/masks/a.png", "photos/a.png")
    assert error(tmp_path) == (
        f"{tmp_path}: not a data set, but a folder with some in it; did you mean {tmp_path}/coco, {tmp_path}/csv or "
        f"{tmp_path}/truth? (--adapter folder reads its folders as classes all the same)"
    )
    (tmp_path / "photos/a.png").unlink()
    assert f"did you mean {tmp_path}/coco, " in error(tmp_path)
    assert "photos" not in load_dataset(tmp_path, "folder").classes.names


def test_the_parent_of_mvtec_objects(tmp_path: Path) -> None:
    mvtec(tmp_path / "bottle")
    mvtec(tmp_path / "cable")
    assert f"did you mean {tmp_path}/bottle or {tmp_path}/cable?" in error(tmp_path)


def test_the_parent_of_class_folders(tmp_path: Path) -> None:
    put(tmp_path, "pets/cat/1.jpg", "pets/dog/2.jpg", "steel/good/1.jpg", "steel/rust/a/2.jpg", "wood/good/1.jpg")
    put(tmp_path, "wood/knot/1.jpg", "notes/readme.txt")
    names = f"{tmp_path}/pets, {tmp_path}/steel or {tmp_path}/wood"
    assert f"not a data set, but a folder with some in it; did you mean {names}? (--adapter folder" in error(tmp_path)
    assert load_dataset(tmp_path, "folder").classes.names == ("pets", "steel", "wood")
    assert load_dataset(tmp_path / "steel").classes.names == ("rust",)
    put(tmp_path, "csv/labels.csv", **{"csv/labels.csv": "image,labels\na.png,cat\n"})
    assert f"did you mean {tmp_path}/csv, {names}?" in error(tmp_path)


def test_the_parent_of_one_folder_of_class_folders(tmp_path: Path) -> None:
    put(tmp_path, "pets/cat/1.jpg", "pets/dog/2.jpg")
    assert f"did you mean {tmp_path}/pets?" in error(tmp_path)


def test_the_parent_of_class_folders_with_splits(tmp_path: Path) -> None:
    for name in ("one", "two"):  # the same classes in both: they do not hide that train/ is a split
        put(tmp_path, f"{name}/train/cat/1.jpg", f"{name}/train/dog/2.jpg", f"{name}/val/cat/3.jpg")
    assert f"did you mean {tmp_path}/one or {tmp_path}/two?" in error(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        ["cat/images/1.jpg", "dog/images/2.jpg", "dog/notes.csv"],
        ["cat/left/1.jpg", "cat/right/2.jpg", "dog/left/3.jpg", "dog/right/4.jpg"],
        ["cat/2023-01/1.jpg", "cat/2023-02/2.jpg", "dog/2024-01/3.jpg", "dog/2024-02/4.jpg"],
        ["cat/persian/1.jpg", "cat/siamese/2.jpg", "dog/3.jpg"],
        ["cat/persian/1.jpg", "cat/siamese/2.jpg", "cat/3.jpg", "dog/poodle/4.jpg", "dog/husky/5.jpg"],
        ["cat/persian/1.jpg", "cat/siamese/2.jpg", "dog/poodle/3.jpg", "dog/husky/4.jpg", "classes.txt"],
        ["train/cat/persian/1.jpg", "train/dog/poodle/2.jpg", "val/cat/a/3.jpg", "val/dog/b/4.jpg"],
        [f"class {number}/{part}{number}/1.jpg" for number in range(51) for part in "ab"],
    ],
)
def test_class_folders_with_folders_of_images_in_them_stay_classes(files: list[str], tmp_path: Path) -> None:
    put(tmp_path, *files, **{"classes.txt": "cat\ndog\n"})
    names = load_dataset(tmp_path).classes.names
    assert names == ("cat", "dog") or (len(names) == 51 and names[0] == "class 0")


# ---- what is nothing yet


def test_an_empty_folder(tmp_path: Path) -> None:
    assert error(tmp_path) == f"{tmp_path}: an empty folder; expected images and their labels"


@pytest.mark.parametrize("place", ["", "images/"])
def test_photographs_without_labels(place: str, tmp_path: Path) -> None:
    put(tmp_path, *(f"{place}{number}.jpg" for number in range(4)))
    message = error(tmp_path)
    assert message.startswith(
        f"{tmp_path}: 4 images and no labels; make a file labels.csv in it with the header 'image,"
    )
    assert f"({place}0.jpg,CLASS; {place}1.jpg,CLASS OTHER; {place}2.jpg,; nothing behind" in message
    assert "\n" not in message


def test_spreadsheets(tmp_path: Path) -> None:
    put(tmp_path, "labels.xlsx", "images/a.jpg")
    way_out = "save it as CSV (UTF-8), with a header such as 'image,labels' and one row an image"
    assert error(tmp_path / "labels.xlsx") == f"{tmp_path}/labels.xlsx: a spreadsheet; {way_out}"
    assert error(tmp_path) == f"{tmp_path}: the labels seem to be in a spreadsheet (labels.xlsx); {way_out}"


def test_several_tables(tmp_path: Path) -> None:
    put(tmp_path, "one.csv", "two.csv", "a.jpg")
    message = f"{tmp_path}: several tables and no labels.csv; give the one with the labels: one.csv, two.csv"
    assert error(tmp_path) == message


# ---- MVTec


def test_mvtec_is_one_pool_without_its_masks(tmp_path: Path) -> None:
    dataset = load_dataset(mvtec(tmp_path))
    assert detect(tmp_path)[1] == "MVTec's layout: train/, test/ and ground_truth/"
    assert dataset.classes.names == ("cut", "hole") and dataset.splits == ()
    assert states(dataset) == {
        "test/cut/000": [1, 0],
        "test/good/000": [0, 0],
        "test/hole/000": [0, 1],
        "train/good/000": [0, 0],
        "train/good/001": [0, 0],
    }
    assert not any("ground_truth" in str(image.path) for image in dataset.images)
    assert not any(problem.fatal for problem in dataset.problems)
    assert any(
        "are one pool" in note and "ground_truth/ holds true masks and is not read" in note for note in dataset.notes
    )
    assert any("'good': read as 'nothing is there' (3 images)" in note for note in dataset.notes)


def test_mvtec_with_splits_if_asked(tmp_path: Path) -> None:
    dataset = load_dataset(mvtec(tmp_path), options=AdapterOptions(train_splits=("test",)))
    assert dataset.splits == ("test", "train") and len(dataset) == 5


def test_other_splits_stay_splits(tmp_path: Path) -> None:
    put(tmp_path, "train/good/1.png", "train/cut/2.png", "test/cut/3.png")
    assert load_dataset(tmp_path).splits == ("test", "train")


def test_masks_among_photographs_are_not_read(tmp_path: Path) -> None:
    put(tmp_path, "cut/1.png", "cut/1_mask.png", "cut/1_mask_1.png", "cut/2.png", "cut/masks/1.png", "hole/a_mask.png")
    dataset = load_dataset(tmp_path)
    assert [image.id for image in dataset.images] == ["cut/1", "cut/2", "hole/a_mask"]
    assert [str(problem) for problem in dataset.problems] == [
        f"{tmp_path}: cut/masks, cut/1_mask.png, cut/1_mask_1.png: true masks, by their names; not read, "
        "neither as images nor as masks"
    ]
