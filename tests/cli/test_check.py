"""``recamlabel check``: its whole output, its exit code, and that it writes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from recamlabel.cli.check import check
from recamlabel.errors import ConfigError, DatasetError


def save(path: Path, size: tuple[int, int], seed: int = 0) -> None:
    """A picture of many colours: one of a single colour is warned of."""
    width, height = size
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name, size in (("a", (8, 4)), ("b", (6, 6)), ("c", (10, 5))):
        save(tmp_path / f"{name}.png", size)
    rows = ["image,labels,split", "a.png,cat,train", "b.png,cat [big];cat,train", "c.png,,val"]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(check, [str(argument) for argument in arguments])


def test_a_sound_data_set(source: Path) -> None:
    result = run(source)
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        f"{source}\n"
        "read as 'csv': there is a labels.csv in it\n"
        "labels are separated by ';' (a semicolon is in 1 of 3 rows)\n"
        "columns: image = 'image', labels = 'labels', split = 'split'\n"
        "┌────────────────────────────────┬───────────────────┐\n"
        "│ images                         │ 3                 │\n"
        "│   split train                  │ 2                 │\n"
        "│   split val                    │ 1                 │\n"
        "│ images without a label         │ 1                 │\n"
        "│ classes                        │ 2                 │\n"
        "│ classes without an image       │ none              │\n"
        "│ classes that never occur alone │ cat [big]         │\n"
        "│ width, pixels                  │ 6 to 10, median 8 │\n"
        "│ height, pixels                 │ 4 to 6, median 5  │\n"
        "└────────────────────────────────┴───────────────────┘\n"
        "┏━━━━┳━━━━━━━━━━━┳━━━━━━━━━┳━━━━━━━━┳━━━━━━━━━┳━━━━━━━┓\n"
        "┃ id ┃ class     ┃ present ┃ absent ┃ unknown ┃ alone ┃\n"
        "┡━━━━╇━━━━━━━━━━━╇━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━╇━━━━━━━┩\n"
        "│  1 │ cat       │       2 │      1 │       0 │     1 │\n"
        "│  2 │ cat [big] │       1 │      2 │       0 │     0 │\n"
        "└────┴───────────┴─────────┴────────┴─────────┴───────┘\n"
        "warning: only 1 training image has: cat [big]; too rare to learn, its masks are guesses\n"
        "warning: no training image is known to be without: cat; nothing shows what it is not: add images without it "
        "(20 or more)\n"
        "warning: few training images: cat (2); below 5 the masks of a class deserve no trust, below 15 they are "
        "weak; 50 or more are a good start\n"
        "fit would accept this data set, with 3 warnings (above)\n"
        f"next: recamlabel fit {source} --out runs/{source.name}\n"
    )


def test_problems_have_file_and_row_and_exit_1(source: Path) -> None:
    (source / "b.png").write_bytes(b"")
    with (source / "labels.csv").open("a") as stream:
        stream.write("\n" + "x" * 90 + ".png,cat,train\na.png,cat,train\n")
    result = run(source)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    missing = f"problem: {source}/labels.csv, row 5: no image '{'x' * 90}.png' below {source}; fix the path"
    assert any(line.startswith(missing) for line in lines)
    assert f"note: {source}/labels.csv, row 6: the same as row 2 ('a.png'); read once" in lines
    assert (
        f"problem: {source}/b.png: an empty file (0 bytes); expected an image; "
        "replace the file, or leave it out with --on-bad-image skip"
    ) in lines
    assert lines[-1].startswith(f"fit would refuse: 2 problems to fix (first: {source}/labels.csv, row 5: no image")


def test_skip_accepts_what_fit_would_skip(source: Path) -> None:
    (source / "b.png").write_bytes(b"")
    both = 'data.train_splits=["train", "val"]'
    result = run(source, "--on-bad-image", "skip", "--set", both)
    assert result.exit_code == 0
    assert result.stdout.endswith(f" --on-bad-image skip --set '{both}'\n")
    assert f"note: {source}/b.png: left out: an empty file (0 bytes)" in result.stdout


def test_json(source: Path) -> None:
    (source / "b.png").write_bytes(b"")
    result = run(source / "labels.csv", "--json")
    assert result.exit_code == 1
    message = "an empty file (0 bytes); expected an image; replace the file, or leave it out with --on-bad-image skip"
    assert json.loads(result.stdout) == {
        "source": str(source / "labels.csv"),
        "root": str(source),
        "adapter": "csv",
        "notes": [
            "read as 'csv': a .csv file",
            "labels are separated by ';' (a semicolon is in 1 of 3 rows)",
            "columns: image = 'image', labels = 'labels', split = 'split'",
        ],
        "images": 3,
        "splits": {"train": 2, "val": 1},
        "classes": [
            {"name": "cat", "present": 2, "absent": 1, "unknown": 0, "alone": 1},
            {"name": "cat [big]", "present": 1, "absent": 2, "unknown": 0, "alone": 0},
        ],
        "unlabelled": 1,
        "heights": {"min": 4, "median": 4, "max": 5},
        "widths": {"min": 8, "median": 9, "max": 10},
        "never_alone": ["cat [big]"],
        "without_positives": [],
        "problems": [{"file": str(source / "b.png"), "row": None, "image_id": "b", "fatal": True, "message": message}],
        "warnings": [
            "only 1 training image has: cat [big]; too rare to learn, its masks are guesses",
            "no training image is known to be without: cat; nothing shows what it is not: "
            "add images without it (20 or more)",
            "few training images: cat (2); below 5 the masks of a class deserve no trust, below 15 they are weak; "
            "50 or more are a good start",
        ],
        "fit_would_refuse": [f"1 problem to fix (first: {source}/b.png: {message})"],
    }


def test_settings_reach_the_adapter(source: Path) -> None:
    file = source / "settings.toml"
    file.write_text('[data]\nclasses = ["cat [big]", "cat", "dog"]\n')
    result = run(source, "--config", file, "--set", 'data.train_splits=["test"]', "--json")
    tree = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [row["name"] for row in tree["classes"]] == ["cat [big]", "cat", "dog"]
    assert tree["without_positives"] == ["dog"]
    assert tree["fit_would_refuse"] == [
        "no image in the training split 'test' (setting data.train_splits); the splits with images are: train, val"
    ]


def test_errors_are_left_to_the_top_of_the_command_line(source: Path) -> None:
    assert isinstance(run(source / "missing").exception, DatasetError)
    assert isinstance(run(source, "--adapter", "coco").exception, DatasetError)
    assert isinstance(run(source, "--set", "data.clases=1").exception, ConfigError)


def test_nothing_is_written(source: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in [source, *source.rglob("*")]}
    run(source)
    assert {path: path.stat().st_mtime_ns for path in [source, *source.rglob("*")]} == before


def test_folders(tmp_path: Path) -> None:
    for number, name in enumerate(("cat/a", "dog/b")):
        (tmp_path / name).parent.mkdir()
        save(tmp_path / f"{name}.png", (5, 5), number)
    result = run(tmp_path)
    assert result.exit_code == 0
    assert "read as 'folder': folders with images: cat, dog" in result.stdout
    assert run(tmp_path, "--adapter", "csv").exit_code == 1


def test_coco_and_its_option(tmp_path: Path) -> None:
    save(tmp_path / "a.png", (5, 5))
    tree = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"image_id": 1, "category_id": 2}],
        "categories": [{"id": 2, "name": "cat"}, {"id": 5, "name": "dog"}],
    }
    (tmp_path / "c.json").write_text(json.dumps(tree))
    for option, absent in (((), 1), (("--no-coco-exhaustive",), 0), (("--coco-exhaustive",), 1)):
        report = json.loads(run(tmp_path, "--json", *option).stdout)
        assert report["adapter"] == "coco"
        assert report["classes"][1] == {
            "name": "dog",
            "present": 0,
            "absent": absent,
            "unknown": 1 - absent,
            "alone": 0,
        }
    (tmp_path / "labels.csv").write_text("image,labels\na.png,cat\n")
    assert isinstance(run(tmp_path / "labels.csv", "--coco-exhaustive").exception, ConfigError)


def test_problems_of_one_kind_are_one_line(source: Path) -> None:
    with (source / "labels.csv").open("a") as stream:
        stream.write("".join(f"\nx{number}.png,cat,train" for number in range(30)))
    lines = [line for line in run(source).stdout.splitlines() if line.startswith("problem: ")]
    assert len(lines) == 1 and lines[0].endswith("(and 29 more like it: rows 6, 7, 8, 9, 10, …)")
    assert len(json.loads(run(source, "--json").stdout)["problems"]) == 30


def test_control_characters_are_made_visible(source: Path) -> None:
    (source / "labels.csv").write_text("image,labels\na.png,\x1b[31mred\nb.png,dog\nc.png,\n")
    output = run(source).stdout
    assert "\x1b" not in output and "\\x1b[31mred" in output


def test_what_is_useless_is_refused_unless_forced(source: Path) -> None:
    (source / "labels.csv").write_text("image,labels\na.png,cat\nb.png,cat\nc.png,cat\n")
    result = run(source)
    assert result.exit_code == 1
    assert "fit would refuse: the 3 training images have 'cat', and none is known to be without it" in result.stdout
    assert "next: " not in result.stdout
    forced = run(source, "--set", "runtime.force=true")
    assert forced.exit_code == 0 and "(runtime.force is set)" in forced.stdout


def test_a_data_set_as_people_have_it(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    rows = ["filename,defects"]
    for number in range(60):
        save(tmp_path / f"images/part {number}.png", (8, 8), number)
        rows.append(f"part {number}.png,{('dent', 'scratch', 'ok')[number % 3]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    result = run(tmp_path / "labels.csv", "--preset", "paper")
    assert result.exit_code == 0, result.output
    assert "image names are relative to 'images'" in result.stdout
    assert "'ok': read as 'nothing is there' (20 images); --set 'data.negative_labels=[]' makes it" in result.stdout
    assert result.stdout.endswith(
        "fit would accept this data set\n"
        f"next: recamlabel fit {tmp_path}/labels.csv --out runs/{tmp_path.name} --preset paper\n"
    )


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey(suffix: str, tmp_path: Path) -> None:
    rows = ["image,labels"]
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 65536, (8, 9)).astype(np.uint16)
        Image.fromarray(pixels).save(tmp_path / f"{number}.{suffix}")
        rows.append(f"{number}.{suffix},{('dent', 'scratch', '')[number]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    result = run(tmp_path)
    assert result.exit_code == 0 and "problem: " not in result.stdout and "contrast" not in result.stdout


def test_pictures_of_a_single_colour(source: Path) -> None:
    for name in "ab":
        Image.new("RGB", (5, 5), (1, 2, 3)).save(source / f"{name}.png")
    assert "warning: pictures of a single colour: 2 of 3 (a, b); nothing can be found in them" in run(source).stdout
    Image.new("RGB", (5, 5)).save(source / "c.png")
    result = run(source)
    assert result.exit_code == 1
    assert "fit would refuse: every picture that can be read is of a single colour (3)" in result.stdout
