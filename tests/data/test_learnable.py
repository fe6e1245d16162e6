"""What labels and pictures do not allow to be learnt: said, and refused where it is everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recamlabel.adapters.base import Dataset, LabelledImage
from recamlabel.config import Config, load_config
from recamlabel.core.classes import ClassTable
from recamlabel.data.catalog import load_catalog
from recamlabel.data.inspect import inspect_images
from recamlabel.data.learnable import (
    few_images,
    picture_reasons,
    picture_warnings,
    probable_slips,
    training_warnings,
    untellable_reasons,
)
from recamlabel.errors import DatasetError
from recamlabel.run.fit import fit
from recamlabel.run.intake import take_in


def build(rows: list[list[int]], names: str = "cat dog cow", split: str | None = None) -> Dataset:
    """A data set from a label matrix: 1 present, 0 absent, -1 unknown."""
    classes = ClassTable(tuple(names.split()[: len(rows[0])]))
    images = []
    for number, row in enumerate(rows):
        present = frozenset(name for name, state in zip(classes.names, row, strict=True) if state == 1)
        absent = frozenset(name for name, state in zip(classes.names, row, strict=True) if state == 0)
        images.append(LabelledImage(f"i{number}", Path(f"i{number}.png"), present, absent, split))
    return Dataset(Path("root"), "csv", classes, tuple(images))


@pytest.mark.parametrize(
    ("rows", "start"),
    [
        ([[1]], "the 1 training image has 'cat', and none is known to be without it: nothing shows what it is not"),
        ([[1], [1]], "the 2 training images have 'cat', and none is known to be without it"),
        ([[1, 0], [1, 0]], "the 2 training images have 'cat', and none is known to be without it"),
        ([[1, 1]] * 30, "the 30 training images have 'cat', 'dog', and none is known to be without one of them"),
        ([[1, -1], [-1, 1]], "the 2 training images have 'cat', 'dog', and none is known"),
    ],
)
def test_nothing_to_tell_is_refused(rows: list[list[int]], start: str) -> None:
    reasons = untellable_reasons(build(rows), ["train"])
    assert len(reasons) == 1 and reasons[0].startswith(start) and reasons[0].endswith("with --force")


@pytest.mark.parametrize("rows", [[[1], [0]], [[1, 0], [0, 1]], [[1, 1], [1, 0]], [[0, 0], [0, 0]], [[-1, -1]]])
def test_one_class_that_can_be_told_is_enough(rows: list[list[int]]) -> None:
    assert untellable_reasons(build(rows), ["train"]) == []


def test_only_training_images_count() -> None:
    one, other = build([[1]], split="train"), build([[0]], split="val")
    both = Dataset(one.root, "csv", one.classes, (*one.images, *(other.images)))
    assert untellable_reasons(both, ["train"]) and not untellable_reasons(both, ["train", "val"])


def test_single_classes_are_warned_of() -> None:
    warnings = training_warnings(build([[1, 1, 0], [1, 1, 0], [1, 0, 1], [1, 0, 0]]), ["train"])
    assert warnings == [
        "only 1 training image has: cow; too rare to learn, its masks are guesses",
        "no training image is known to be without: cat; nothing shows what it is not: "
        "add images without it (20 or more)",
    ]


def test_classes_that_come_together_are_named() -> None:
    rows = [[1, 1, 0]] * 4 + [[0, 0, 1]] * 4
    assert training_warnings(build(rows), ["train"]) == [
        "always together: cat, dog; image labels cannot tell them apart: "
        "images with only one of them, boxes or about 20 masks would help"
    ]
    assert training_warnings(build([*rows, [1, 0, 0], [0, 1, 0]]), ["train"]) == []


@pytest.mark.parametrize(
    ("rare", "frequent", "slip"),
    [
        ("dnet", "dent", True),
        ("scrach", "scratch", True),
        ("scratches", "scratch", False),
        ("car", "cat", False),
        ("type2", "type1", False),
        ("rust", "dent", False),
    ],
)
def test_slips_of_the_pen(rare: str, frequent: str, slip: bool) -> None:
    rows = [[1, 0]] * 12 + [[0, 1]]
    assert bool(list(probable_slips(build(rows, f"{frequent} {rare}")))) == slip
    assert list(probable_slips(build([*rows, *[[0, 1]] * 4], f"{frequent} {rare}"))) == [], "five are meant"


def test_few_images_are_counted_as_the_gate_does() -> None:
    dataset = build([[1, 0, 0]] * 4 + [[0, 1, 0]] * 20 + [[0, 0, 1]] * 9)
    assert few_images(dataset, ["train"], 5, 15) == [
        "few training images: cat (4), cow (9); below 5 the masks of a class deserve no trust, below 15 they are "
        "weak; 50 or more are a good start"
    ]
    assert few_images(dataset, ["train"], 2, 3) == []


# ---- pictures


def noise(path: Path, low: int = 0, high: int = 256) -> None:
    Image.fromarray(np.random.default_rng(0).integers(low, high, (40, 50, 3)).astype(np.uint8)).save(path)


def test_single_colours_and_faint_pictures(tmp_path: Path) -> None:
    dataset = build([[1]] * 5)
    paths = [tmp_path / f"i{number}.png" for number in range(5)]
    images = [LabelledImage(f"i{n}", path, frozenset({"cat"}), frozenset()) for n, path in enumerate(paths)]
    noise(paths[0])
    Image.new("RGB", (50, 40), (200, 30, 30)).save(paths[1])  # one colour, though not one grey
    noise(paths[2], 3, 9)
    grey = np.random.default_rng(0).integers(0, 4096, (40, 50)).astype(np.uint16)
    Image.fromarray(grey).save(paths[3])  # 12 bits in 16: nearly black once it has 8
    Image.fromarray(grey * 16).save(paths[4])
    found = inspect_images(Dataset(dataset.root, "csv", dataset.classes, tuple(images)), 1)
    assert (found.problems, found.flat, found.faint) == ((), ("i1",), ("i2", "i3"))
    assert picture_warnings(found) == [
        "pictures of a single colour: 1 of 5 (i1); nothing can be found in them",
        "pictures with hardly any contrast: 2 of 5 (i2, i3); 16-bit files with 10 or 12 bits in them? "
        "scale their values to the full range",
    ]
    assert picture_reasons(found) == []


def test_a_small_bright_spot_is_contrast(tmp_path: Path) -> None:
    pixels = np.zeros((40, 50, 3), np.uint8)
    pixels[5, 7] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    dataset = build([[1]])
    image = LabelledImage("a", tmp_path / "a.png", frozenset({"cat"}), frozenset())
    found = inspect_images(Dataset(dataset.root, "csv", dataset.classes, (image,)), 1)
    assert found.flat == found.faint == ()


# ---- fit


def source(root: Path, labels: list[str], flat: bool = False) -> Path:
    root.mkdir(exist_ok=True)
    rows = ["image,labels"]
    for number, label in enumerate(labels):
        path = root / f"{number}.png"
        Image.new("RGB", (50, 40), (9, 9, 9)).save(path) if flat else noise(path)
        rows.append(f"{number}.png,{label}")
    (root / "labels.csv").write_text("\n".join(rows))
    (root / "classes.txt").write_text("cat\ndog\n")
    return root


def config(*lines: str) -> Config:
    return load_config(assignments=["runtime.workers=1", *lines])


@pytest.mark.parametrize(
    ("labels", "flat", "message"),
    [
        (["cat"], False, "the 1 training image has 'cat', and none is known to be without it"),
        (["cat", "cat"], False, "the 2 training images have 'cat'"),
        (["cat", "dog", ""], True, "every picture that can be read is of a single colour (3)"),
    ],
)
def test_fit_stops_unless_forced(
    labels: list[str], flat: bool, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = source(tmp_path, labels, flat)
    with pytest.raises(DatasetError) as caught:
        take_in(data, config(), None)
    assert message in str(caught.value)
    assert len(take_in(data, config("runtime.force=true"), None).catalog.images) == len(labels)
    assert f"warning (going on because of --force): {message}" in capsys.readouterr().err


def test_fit_stops_where_all_images_are_normal(tmp_path: Path) -> None:
    data = source(tmp_path, ["ok", "good", ""])
    for settings in ((), ("runtime.force=true",)):
        with pytest.raises(DatasetError, match="none of the 3 training images has a label; there is nothing to learn"):
            take_in(data, config(*settings), None)


def test_fit_says_what_negative_labels_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    take_in(source(tmp_path, ["cat", "good", "dog"]), config(), None)
    assert "'good': read as 'nothing is there' (1 image)" in capsys.readouterr().err


def test_pictures_are_spoken_of_again_by_a_second_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, place = source(tmp_path / "data", ["cat", "dog", "", "cat"]), tmp_path / "run"
    Image.new("RGB", (50, 40), (9, 9, 9)).save(data / "3.png")
    noise(data / "2.png", 3, 9)
    texts = []
    for _ in range(2):
        fit(data, place, config("runtime.device=cpu"), until="features")
        texts.append([line for line in capsys.readouterr().err.splitlines() if "warning: pictures" in line])
    assert texts[0] == texts[1] and len(texts[0]) == 2
    assert "warning: pictures of a single colour: 1 of 4 (3)" in texts[1][0] and "1 of 4 (2)" in texts[1][1]
    assert load_catalog(place / "work/dataset.json").flat == ("3",)


def test_pictures_without_anything_stop_a_second_fit_too(tmp_path: Path) -> None:
    data, place = source(tmp_path / "data", ["cat", "dog", ""], flat=True), tmp_path / "run"
    fit(data, place, config("runtime.force=true", "runtime.device=cpu"), until="features")
    with pytest.raises(DatasetError, match=r"every picture that can be read is of a single colour \(3\)"):
        fit(data, place, config("runtime.device=cpu"), until="features")
