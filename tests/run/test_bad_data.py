"""Data sets that cannot work, given to `recamlabel fit`: one message, or masks that are what they claim to be."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from recamlabel.cli.main import run as command
from recamlabel.data.catalog import load_catalog
from recamlabel.storage.run_folder import RunFolder
from tests.helpers import TINY, TINY_SEGMENTER, draw

PLACES = {"red": 0, "blue": 1}


def table(folder: Path, labels: list[str]) -> Path:
    """A label file; the images are drawn by the caller as ``0.png``, ``1.png``, …."""
    rows = [f"{number}.png,{label}" for number, label in enumerate(labels)]
    (folder / "labels.csv").write_text("\n".join(["image,labels", *rows]))
    return folder / "labels.csv"


def pictures(folder: Path, labels: list[str]) -> Path:
    for number, label in enumerate(labels):
        draw(folder / f"{number}.png", [name for name in label.split() if name in PLACES], number)
    return table(folder, labels)


def fit(source: Path, out: Path, *more: str, settings: list[str] = TINY) -> int:
    lines = [part for line in settings for part in ("--set", line)]
    return command(["fit", str(source), "--out", str(out), *lines, *more])


def check_masks(path: Path, text: str) -> None:
    """Every mask has its image's size and classes; what it lacks is in quality.json and in `fit`'s last lines."""
    run, catalog = RunFolder.open(path), load_catalog(path / "work/dataset.json")
    classes, missing = catalog.dataset.classes, {}
    labels = {image.id: image.present for image in catalog.images}
    with h5py.File(path / "masks.h5") as file:
        for image in catalog.images:
            mask = file[image.id][()]
            assert mask.shape == catalog.shapes[image.id]
            there = set(np.unique(mask).tolist()) - {0, classes.ignore_id}
            labelled = set(classes.ids_of(image.present))
            assert there <= labelled, "no object of a class that the labels do not name"
            if labelled - there:
                missing[image.id] = [classes.name_of(number) for number in sorted(labelled - there)]
    quality = json.loads((path / "quality.json").read_text())
    assert {name: names for name, names in quality["missing"].items() if names} == missing
    for name, names in missing.items():
        row = quality["images"][name]
        assert all(row["classes"][one] == 0 for one in names), "what has no pixel has no good score"
        assert row["score"] <= 1 - len(names) / len(labels[name]), "an empty mask has no good score"
    count = sum(map(len, missing.values()))
    line = f"{count} labelled object{'s' * (count > 1)} without a pixel" if count else "no labelled object without a"
    assert line in text and run.stage_state("masks") == "finished"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["red"], "the 1 training image has 'red', and none is known to be without it"),
        (["red", "red"], "the 2 training images have 'red', and none is known to be without it"),
        (["red blue", "blue red"], "the 2 training images have 'blue', 'red', and none is known to be without one"),
        (["ok", "good", "normal", ""], "no class"),
    ],
)
def test_nothing_to_learn_is_refused_before_training(
    labels: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    assert fit(pictures(tmp_path / "data", labels), tmp_path / "run") == 1
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_all_images_normal_with_named_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = pictures(tmp_path, ["ok", "good", "normal"])
    (tmp_path / "classes.txt").write_text("red\nblue\n")
    for more in ((), ("--force",)):
        assert fit(source, tmp_path / "run", *more) == 1
        assert "none of the 3 training images has a label; there is nothing to learn" in capsys.readouterr().err


def test_pictures_of_one_colour_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        Image.new("RGB", (80, 64), (10 * number, 9, 9)).save(tmp_path / f"{number}.png")
    assert fit(table(tmp_path, ["red", "blue", "", "red"]), tmp_path / "run") == 1
    assert "every picture that can be read is of a single colour (4)" in capsys.readouterr().err


def test_some_pictures_of_one_colour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = pictures(tmp_path, ["red", "blue", "", "red blue", "red", "blue"])
    Image.new("RGB", (80, 64), (10, 9, 9)).save(tmp_path / "5.png")
    for _ in range(2):
        assert fit(source, tmp_path / "run") == 0
        output = capsys.readouterr()
        assert "warning: pictures of a single colour: 1 of 6 (5); nothing can be found in them" in output.err
    check_masks(tmp_path / "run", output.out)


def test_a_class_with_one_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = pictures(tmp_path, ["red", "red", "", "red", "blue", "red"])
    assert fit(source, tmp_path / "run", settings=TINY_SEGMENTER) == 0
    output = capsys.readouterr()
    assert "only 1 training image has: blue; too rare to learn, its masks are guesses" in output.err
    check_masks(tmp_path / "run", output.out)
    gate = {one["name"]: one["verdict"] for one in json.loads((tmp_path / "run/work/gate.json").read_text())["classes"]}
    assert gate["blue"] == "do not trust"
    assert "blue" in output.out.partition("classes:")[2], "named in the last lines of fit"


@pytest.mark.parametrize("bits", [16, 12])
def test_grey_of_16_bits(bits: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["red", "blue", "", "red blue", "red", "blue"]
    source = pictures(tmp_path, labels)
    for number in range(len(labels)):
        grey = np.asarray(Image.open(tmp_path / f"{number}.png").convert("L"), np.uint16)
        Image.fromarray(grey << (bits - 8)).save(tmp_path / f"{number}.png")
    assert fit(source, tmp_path / "run") == 0
    output = capsys.readouterr()
    assert ("pictures with hardly any contrast: " in output.err) == (bits == 12)
    check_masks(tmp_path / "run", output.out)


def test_labels_drawn_at_random_stop_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    labels = [" ".join(name for name in PLACES if rng.random() < 0.5) for _ in range(30)]
    for number in range(len(labels)):
        draw(tmp_path / f"{number}.png", [], number, (32, 40))
    source = table(tmp_path, labels)
    assert fit(source, tmp_path / "run") == 1
    text = capsys.readouterr().err
    assert "the labels look as if drawn at random" in text and "with luck)" in text
    assert RunFolder.open(tmp_path / "run").stage_state("masks") == "not run"
    assert fit(source, tmp_path / "run", "--force") == 0
    check_forced(tmp_path / "run", capsys, "warning: classifier: the labels look as if drawn at random")


@pytest.mark.parametrize("flat", [False, True])
def test_a_forced_run_has_no_good_scores(flat: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = pictures(tmp_path, ["red", "blue", ""] if flat else ["red", "red"])
    for number in range(3 if flat else 0):
        Image.new("RGB", (80, 64), (9, 9, 9)).save(tmp_path / f"{number}.png")
    assert fit(source, tmp_path / "run", "--force") == 0
    what = "every picture that can be read is of a single colour" if flat else "the 2 training images have 'red'"
    check_forced(tmp_path / "run", capsys, f"warning (going on because of --force): {what}")


def check_forced(path: Path, capsys: pytest.CaptureFixture[str], warning: str) -> None:
    output = capsys.readouterr()
    assert warning in output.err and "none is to be trusted: the training of classifier" in output.out
    quality = json.loads((path / "quality.json").read_text())
    assert {one["score"] for one in quality["images"].values()} == {0.0}
    assert ">learnt nothing</span>" in (path / "report.html").read_text()
