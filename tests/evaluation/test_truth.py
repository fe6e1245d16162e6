"""True masks: which file belongs to which image, what its values mean, and every refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recamlabel.core.classes import ClassTable
from recamlabel.errors import DatasetError, RecamlabelError, StoreError
from recamlabel.evaluation.truth import TruthFolder
from recamlabel.storage.png import write_mask

TABLE = ClassTable(("cat", "dog"))


def put(folder: Path, name: str, values: object = ((0, 1), (2, 255))) -> Path:
    path = folder / name
    write_mask(path, np.array(values, dtype=np.uint8))
    return path


def names_file(folder: Path, text: str) -> Path:
    file = folder / "names.txt"
    file.write_text(text, encoding="utf-8")
    return file


def test_matches_by_full_id_and_by_dropping_leading_parts(tmp_path: Path) -> None:
    paths = [put(tmp_path, name) for name in ("images/a.png", "b.png", "val/c.png")]
    truth = TruthFolder(tmp_path, TABLE)
    ids = ["x/val/c", "images/b", "images/a", "images/none"]
    assert truth.match(ids) == {"x/val/c": paths[2], "images/b": paths[1], "images/a": paths[0]}
    assert list(truth.match(ids)) == ids[:3]


def test_longest_tail_wins(tmp_path: Path) -> None:
    long, _ = put(tmp_path, "val/a.png"), put(tmp_path, "a.png")
    assert TruthFolder(tmp_path, TABLE).match(["data/val/a"]) == {"data/val/a": long}


def test_a_full_id_is_never_lent_to_another_image(tmp_path: Path) -> None:
    path = put(tmp_path, "a.png")
    assert TruthFolder(tmp_path, TABLE).match(["sub/a", "a"]) == {"a": path}


def test_dots_in_names_are_kept(tmp_path: Path) -> None:
    path = put(tmp_path, "shot.v1.png")
    assert TruthFolder(tmp_path, TABLE).match(["images/shot.v1"]) == {"images/shot.v1": path}


def test_one_mask_for_two_images_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, "a.png")
    message = (
        f"{path}: could be the true mask of 'train/a' and of 'val/a'; name the masks by the full id, "
        f"such as {tmp_path / 'train/a.png'}, or evaluate one --split"
    )
    with pytest.raises(StoreError) as caught:
        TruthFolder(tmp_path, TABLE).match(["train/a", "val/a"])
    assert str(caught.value) == message
    assert TruthFolder(tmp_path, TABLE).match(["val/a"]) == {"val/a": path}


def test_no_match_names_what_was_expected_and_found(tmp_path: Path) -> None:
    path = put(tmp_path, "z.png")
    with pytest.raises(StoreError) as caught:
        TruthFolder(tmp_path, TABLE).match(["images/a", "images/b"])
    assert str(caught.value) == (
        f"{tmp_path}: none of its 1 masks belongs to one of the 2 images; expected for example "
        f"{tmp_path / 'images/a.png'} or {tmp_path / 'a.png'}, found for example {path}. "
        "Give the folder whose masks are named as the images are"
    )


def test_reads_ids_of_the_run(tmp_path: Path) -> None:
    mask = TruthFolder(tmp_path, TABLE) if put(tmp_path, "a.png") else None
    assert mask is not None
    values = mask.read(tmp_path / "a.png", (2, 2))
    assert values.dtype == np.uint16
    assert values.tolist() == [[0, 1], [2, 255]]


def test_reads_palette_and_16_bit_masks(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 2]], np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
    palette.save(tmp_path / "p.png")
    write_mask(tmp_path / "w.png", np.array([[1, 255]], np.uint16))
    truth = TruthFolder(tmp_path, TABLE)
    assert truth.read(tmp_path / "p.png", (1, 2)).tolist() == [[0, 2]]
    assert truth.read(tmp_path / "w.png", (1, 2)).tolist() == [[1, 255]]


def test_16_bit_table_has_its_own_ignore_id(tmp_path: Path) -> None:
    table = ClassTable(tuple(f"c{number}" for number in range(300)))
    write_mask(tmp_path / "a.png", np.array([[255, 300, 65535]], np.uint16))
    assert TruthFolder(tmp_path, table).read(tmp_path / "a.png", (1, 3)).tolist() == [[255, 300, 65535]]


@pytest.mark.parametrize(
    ("values", "shape", "message"),
    [
        (
            ((0, 1, 2),),
            (2, 3),
            "3x1 pixels, its image has 3x2; expected a mask of the image's own size (resize it with nearest neighbour)",
        ),
        (
            ((0, 1, 2),),
            (3, 1),
            "3x1 pixels, its image has 1x3; the mask is turned: "
            "expected it in the orientation that the image's EXIF data ask for",
        ),
        (
            ((0, 7, 254),),
            (1, 3),
            "holds the values 7, 254; expected 0 (background), the class ids 1..2 of the run or 255 (ignore). "
            "Masks with ids of their own need --truth-classes FILE",
        ),
    ],
)
def test_mask_that_does_not_fit(tmp_path: Path, values: object, shape: tuple[int, int], message: str) -> None:
    path = put(tmp_path, "a.png", values)
    with pytest.raises(StoreError) as caught:
        TruthFolder(tmp_path, TABLE).read(path, shape)
    assert str(caught.value) == f"{path}: {message}"


def test_many_strange_values_are_shortened(tmp_path: Path) -> None:
    path = put(tmp_path, "a.png", [list(range(10, 30))])
    with pytest.raises(StoreError, match="values 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, …; expected"):
        TruthFolder(tmp_path, TABLE).read(path, (1, 20))


def test_colour_image_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    with pytest.raises(StoreError, match=r"a\.png: a colour image \(mode RGB\); expected an index mask"):
        TruthFolder(tmp_path, TABLE).read(tmp_path / "a.png", (2, 2))


def test_damaged_mask_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(StoreError, match=r"a\.png: not a readable mask"):
        TruthFolder(tmp_path, TABLE).read(tmp_path / "a.png", (2, 2))


def test_folder_refusals(tmp_path: Path) -> None:
    file = put(tmp_path, "a.png")
    for path, message in [
        (tmp_path / "none", f"{tmp_path / 'none'}: no such folder; expected the folder with the true masks"),
        (file, f"{file}: a file; expected the folder with the true masks"),
    ]:
        with pytest.raises(StoreError) as caught:
            TruthFolder(path, TABLE)
        assert str(caught.value).startswith(message)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="no mask in it; expected PNG index masks named as the images are"):
        TruthFolder(tmp_path / "empty", TABLE)
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(tmp_path / "a.bmp")
    with pytest.raises(StoreError, match=r"a\.png: a\.bmp beside it is a mask of the same name; keep one of the two"):
        TruthFolder(tmp_path, TABLE)


@pytest.mark.parametrize(
    "text", ["dog\nbird\ncat\n", "\ufeffbackground\r\ndog\r\nbird\r\ncat\r\n\r\n", "dog\n bird \ncat"]
)
def test_names_file_translates_by_name(tmp_path: Path, text: str) -> None:
    path = put(tmp_path, "a.png", [[0, 1, 2, 3, 255]])
    truth = TruthFolder(tmp_path, TABLE, names_file(tmp_path, text))
    assert truth.read(path, (1, 5)).tolist() == [[0, 2, 0, 1, 255]]
    assert truth.notes == ["true classes that the run does not have count as background: bird"]


def test_names_file_without_extras_has_no_note(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    assert TruthFolder(tmp_path, TABLE, names_file(tmp_path, "cat\ndog\n")).notes == []


def test_value_without_a_name_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, "a.png", [[3]])
    truth = TruthFolder(tmp_path, TABLE, names_file(tmp_path, "cat\ndog\n"))
    with pytest.raises(StoreError) as caught:
        truth.read(path, (1, 1))
    assert str(caught.value) == (
        f"{path}: holds the values 3, for which --truth-classes has no name; it names the ids up to 2. "
        "Add the missing names in id order"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cat\n", "classes of the run are missing: dog; expected every class of the run, spelt the same"),
        (b"cat\n\ndog\n", "row 2: empty; expected a class name on every line"),
        (b"cat\ndog\ncat\n", "row 3: 'cat' stands twice; expected every class once"),
        (b"\n\n", "empty; expected a class name per line"),
        (b"\xff\xfe\x00", "expected UTF-8 text, a class name per line"),
    ],
)
def test_names_file_refusals(tmp_path: Path, content: bytes, message: str) -> None:
    put(tmp_path, "a.png")
    file = tmp_path / "names.txt"
    file.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        TruthFolder(tmp_path, TABLE, file)
    assert str(file) in str(caught.value)
    assert message in str(caught.value)


def test_names_file_that_is_no_file(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    with pytest.raises(RecamlabelError, match="no such file; expected a class name per line"):
        TruthFolder(tmp_path, TABLE, tmp_path / "gone.txt")
    with pytest.raises(RecamlabelError, match="a folder; expected a text file"):
        TruthFolder(tmp_path, TABLE, tmp_path)
