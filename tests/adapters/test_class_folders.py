"""The folder adapter on tiny trees."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

import pytest

from recamlabel.adapters import AdapterOptions, Dataset, detect, load_dataset
from recamlabel.errors import ConfigError, DatasetError


def write(root: Path, files: dict[str, bytes]) -> Path:
    """The adapter compares bytes and decodes nothing, so any bytes are pictures here."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def read(root: Path, **options: object) -> Dataset:
    return load_dataset(root, "folder", AdapterOptions(**options))  # type: ignore[arg-type]


def labels(dataset: Dataset) -> dict[str, str]:
    return {image.id: " + ".join(sorted(image.present)) for image in dataset.images}


def error(root: Path, **options: object) -> str:
    with pytest.raises(DatasetError) as caught:
        read(root, **options)
    return str(caught.value)


def test_one_class_a_folder(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, {"dog/b.jpg": b"1", "cat/x/a.JPG": b"2", "cat/b.png": b"3"}))
    assert dataset.classes.names == ("cat", "dog")
    assert labels(dataset) == {"cat/b": "cat", "cat/x/a": "cat", "dog/b": "dog"}
    assert dataset.labels().tolist() == [[1, 0], [1, 0], [0, 1]]
    assert dataset.splits == ()
    assert dataset.problems == ()


def test_the_same_picture_in_two_folders_is_one_image_with_two_labels(tmp_path: Path) -> None:
    files = {
        "dog/z.jpg": b"both",
        "cat/y.jpg": b"both",
        "cat/a.jpg": b"only",
        "cat/copy.jpg": b"both",
        "cow/c.jpg": b"cow!",
    }
    dataset = read(write(tmp_path, files))
    assert labels(dataset) == {"cat/a": "cat", "cat/copy": "cat + dog", "cow/c": "cow"}
    assert dataset.notes[1:] == (
        "pictures that occur more than once: 1; each is one image with the labels of all its folders "
        "(first: cat/copy.jpg = cat/y.jpg)",
    )


def test_only_files_of_equal_size_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path, {"cat/a.jpg": b"1", "cat/b.jpg": b"22", "dog/c.jpg": b"333", "dog/d.jpg": b"444"})
    opened: list[str] = []
    original = Path.open

    def spy(self: Path, mode: str = "r") -> IO[Any]:
        opened.append(self.name)
        return original(self, mode)

    monkeypatch.setattr(Path, "open", spy)
    read(root)
    assert opened == ["c.jpg", "d.jpg"]


def test_empty_files_are_not_the_same_picture(tmp_path: Path) -> None:
    assert labels(read(write(tmp_path, {"cat/a.jpg": b"", "dog/b.jpg": b""}))) == {"cat/a": "cat", "dog/b": "dog"}


def test_splits(tmp_path: Path) -> None:
    files = {"train/cat/a.jpg": b"1", "Val/cat/a.jpg": b"2", "Val/dog/b.jpg": b"3", "train/dog/b.jpg": b"4"}
    dataset = read(write(tmp_path, files))
    assert dataset.splits == ("Val", "train")
    assert [(image.id, image.split) for image in dataset.images] == [
        ("Val/cat/a", "Val"),
        ("Val/dog/b", "Val"),
        ("train/cat/a", "train"),
        ("train/dog/b", "train"),
    ]
    assert detect(tmp_path)[1] == "class folders below Val, train"


def test_one_picture_in_two_splits_stays_two_images_and_is_pointed_out(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, {"train/cat/a.jpg": b"same", "val/cat/b.jpg": b"same"}))
    assert labels(dataset) == {"train/cat/a": "cat", "val/cat/b": "cat"}
    assert [str(problem) for problem in dataset.problems] == [
        f"{tmp_path}/val/cat/b.jpg: the same picture as 'train/cat/a.jpg' of another split; "
        "scores on one are no test of the other"
    ]
    assert not dataset.problems[0].fatal


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert read(write(tmp_path, {"train/a.jpg": b"1", "bus/b.jpg": b"2"})).classes.names == ("bus", "train")


def test_splits_beside_classes_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"train/cat/a.jpg": b"1", "val/cat/b.jpg": b"2", "cat/c.jpg": b"3", "empty/x.txt": b""})
    assert error(tmp_path) == (
        f"{tmp_path}: train, val look like splits, but cat beside them have images too; expected either splits or "
        "classes "
        "at this level, so move the others out"
    )


def test_what_is_not_read_is_noted(tmp_path: Path) -> None:
    files = {
        "cat/a.jpg": b"1",
        "cat/.hidden.jpg": b"2",
        ".git/x.jpg": b"3",
        "cat/notes.txt": b"",
        "readme.md": b"",
        "top.png": b"",
    }
    dataset = read(write(tmp_path, {**files, "void/Thumbs.db": b"", "classes.txt": b"cat\n"}))
    assert labels(dataset) == {"cat/a": "cat"}
    assert [str(problem) for problem in dataset.problems] == [
        f"{tmp_path}: top.png: images outside of a class folder; not read",
        f"{tmp_path}: readme.md, cat/notes.txt: not images; not read",
        f"{tmp_path}: void: folders without an image; not taken for classes",
    ]
    assert not any(problem.fatal for problem in dataset.problems)


def test_background_holds_images_without_a_label(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, {"Background/a.jpg": b"1", "cat/b.jpg": b"2"}))
    assert dataset.classes.names == ("cat",)
    assert dataset.labels().tolist() == [[0], [1]]
    assert dataset.notes[-1] == "images in a folder 'background' only: 1; they have no label"


def test_two_images_with_one_id(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, {"cat/a.jpg": b"1", "cat/a.png": b"2"}))
    assert labels(dataset) == {"cat/a": "cat"}
    assert [str(problem) for problem in dataset.problems] == [
        f"{tmp_path}/cat/a.png: would have the id 'cat/a', the path without extension, like 'cat/a.jpg', "
        "which is another picture; rename one of the files"
    ]
    assert dataset.problems[0].fatal
    assert dataset.problems[0].image_id is None


def test_an_image_named_like_a_folder_keeps_its_extension(tmp_path: Path) -> None:
    assert list(labels(read(write(tmp_path, {"cat/a.jpg": b"1", "cat/a/b.jpg": b"2"})))) == ["cat/a/b", "cat/a.jpg"]


def test_folders_outside_of_the_given_classes(tmp_path: Path) -> None:
    write(tmp_path, {"cat/a.jpg": b"1", "dgo/b.jpg": b"2", "classes.txt": b"dog\ncat\n"})
    dataset = read(tmp_path)
    assert dataset.classes.names == ("dog", "cat")
    assert [str(problem) for problem in dataset.problems] == [
        f"{tmp_path}: folder: unknown class 'dgo'; did you mean 'dog'? "
        f"(classes given by {tmp_path}/classes.txt: dog, cat)"
    ]


@pytest.mark.skipif(os.name != "posix", reason="names of bytes are of POSIX")
def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    write(tmp_path, {"cat/a.jpg": b"1", "cat/b\\c.jpg": b"2"})
    (tmp_path / "cat" / os.fsdecode(b"\xe4.jpg")).write_bytes(b"3")
    dataset = read(tmp_path)
    message = "file names that are not UTF-8, or have a backslash or a drive letter; rename them"
    assert [str(problem) for problem in dataset.problems] == [f"{tmp_path}: cat/b\\c.jpg, cat/\\udce4.jpg: {message}"]
    assert dataset.problems[0].fatal


def test_dead_links_are_left_to_decoding(tmp_path: Path) -> None:
    write(tmp_path, {"cat/a.jpg": b"1"})
    (tmp_path / "cat/b.jpg").symlink_to(tmp_path / "gone.jpg")
    assert labels(read(tmp_path)) == {"cat/a": "cat", "cat/b": "cat"}


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("image,labels\n")
    assert error(file) == f"{file}: a file; the adapter 'folder' reads a folder with a folder of images per class"
    assert error(tmp_path) == (
        f"{tmp_path}: no image in a class folder; expected a folder with one folder of images per class, "
        "or with train/ and val/ and those below them"
    )
    write(tmp_path, {"background/a.jpg": b"1"})
    assert error(tmp_path).startswith(f"{tmp_path}: no class: nothing in it has a label;")


@pytest.mark.parametrize("setting", ["image_column", "labels_column", "split_column", "label_separator"])
def test_settings_of_tables_are_refused(tmp_path: Path, setting: str) -> None:
    write(tmp_path, {"cat/a.jpg": b"1"})
    message = rf"^data\.{setting} is about tables such as CSV files; the adapter 'folder' cannot use it, leave it out$"
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, **{setting: ";"})


def test_folders_of_images_and_masks_are_not_taken_for_classes(tmp_path: Path) -> None:
    write(tmp_path, {"images/a.jpg": b"1", "masks/a.png": b"2"})
    with pytest.raises(DatasetError, match="1 image and no labels; make a file labels"):
        detect(tmp_path)
    assert detect(write(tmp_path / "new", {"b/1.jpg": b"", "a/1.jpg": b""}))[1] == "folders with images: a, b"
