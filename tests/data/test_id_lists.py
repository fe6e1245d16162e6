"""Lists of image ids in text files."""

from __future__ import annotations

from pathlib import Path

import pytest

from recamlabel.data.id_lists import read_id_list
from recamlabel.errors import DatasetError

IDS = ["JPEGImages/2007_000032", "JPEGImages/2007_000033", "a b/c d", "x/e", "y/e", "e.g", "v1.2/é 🙂"]


def read(folder: Path, text: str) -> list[str]:
    file = folder / "list.txt"
    file.write_bytes(text.encode())
    return read_id_list(file, IDS)


@pytest.mark.parametrize(
    ("line", "image_id"),
    [
        ("2007_000032", "JPEGImages/2007_000032"),
        ("  2007_000032  ", "JPEGImages/2007_000032"),
        ("JPEGImages/2007_000032", "JPEGImages/2007_000032"),
        ("/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png", "JPEGImages/2007_000032"),
        ("2007_000032 1", "JPEGImages/2007_000032"),
        ("a b/c d", "a b/c d"),
        ("c d.JPG", "a b/c d"),
        ("x\\e", "x/e"),
        ("e.g", "e.g"),
        ("é 🙂", "v1.2/é 🙂"),
    ],
)
def test_lines(tmp_path: Path, line: str, image_id: str) -> None:
    assert read(tmp_path, line) == [image_id]


def test_order_blank_lines_line_ends_and_a_byte_order_mark(tmp_path: Path) -> None:
    found = read(tmp_path, "\ufeff2007_000033\r\n\r\n2007_000032\r\n")
    assert found == ["JPEGImages/2007_000033", "JPEGImages/2007_000032"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "2007_000032\n2007_9\n",
            r"list\.txt, row 2: no image '2007_9'; expected ids such as 'JPEGImages/2007_000032'",
        ),
        ("e\n", r"list\.txt, row 1: several images end in 'e'; write the full id"),
        ("x/e\n2007_000032\nx/e.png\n", r"list\.txt, row 3: 'x/e\.png' stands in row 1 already"),
        ("\n\n", r"list\.txt: empty; expected image ids, one a line"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, text)


def test_a_missing_list(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone\.txt: no such file"):
        read_id_list(tmp_path / "gone.txt", IDS)
