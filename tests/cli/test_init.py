"""`recamlabel init`: a table to fill in, which `check` then reads."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recamlabel.cli.main import run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("b.jpg", "a.png", "more/c d.jpg", ".hidden.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(path)
    (tmp_path / "photos" / "notes.txt").write_text("none")
    return tmp_path / "photos"


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_a_table_of_all_photographs(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", str(photos)]) == 0
    assert rows(photos / "labels.csv") == [["image", "labels"], ["a.png", ""], ["b.jpg", ""], ["more/c d.jpg", ""]]
    assert "3 images" in capsys.readouterr().out
    assert run(["init", str(photos)]) == 1 and "is there already" in capsys.readouterr().err


def test_filled_in_it_is_read(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", str(photos), "--classes", "dent, rust"]) == 0
    table = rows(photos / "labels.csv")
    assert table[0] == ["image", "dent", "rust"]
    with (photos / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([table[0], ["a.png", 1, 0], ["b.jpg", 0, 1], ["more/c d.jpg", "", 1]])
    run(["check", str(photos)])
    out = capsys.readouterr().out
    assert "dent" in out and "rust" in out and "problem" not in out


def test_elsewhere_it_names_the_images_from_there(photos: Path, tmp_path: Path) -> None:
    assert run(["init", str(photos), "--out", str(tmp_path / "t.csv")]) == 0
    assert [row[0] for row in rows(tmp_path / "t.csv")[1:]] == ["photos/a.png", "photos/b.jpg", "photos/more/c d.jpg"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{0}/none"], 1, "no such folder"),
        (["{0}/more/../empty"], 1, "no photograph in it"),
        (["{0}", "--classes", "a,b,a"], 2, "a name stands twice"),
    ],
)
def test_mistakes(
    photos: Path, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "empty").mkdir()
    assert run(["init", *(word.format(photos) for word in arguments)]) == code
    assert message in capsys.readouterr().err
