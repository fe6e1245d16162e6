"""Decoding a whole data set, what is done about bad images, and when fit would refuse."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recamlabel.adapters.base import Dataset, LabelledImage, Problem
from recamlabel.core.classes import ClassTable
from recamlabel.data import inspect
from recamlabel.data.inspect import (
    Inspection,
    apply_on_bad_image,
    inspect_images,
    refusal_reasons,
    training_images,
)
from recamlabel.data.learnable import training_warnings
from recamlabel.data.problem_lines import problem_lines
from recamlabel.data.table import ClassRow, Spread, Summary, summarise
from recamlabel.errors import DatasetError

CLASSES = ClassTable(("cat", "dog"))


def labelled(root: Path, name: str, present: str = "", split: str | None = None, unknown: str = "") -> LabelledImage:
    has = frozenset(present.split())
    return LabelledImage(name, root / f"{name}.png", has, frozenset(CLASSES.names) - has - set(unknown.split()), split)


def build(*images: LabelledImage, problems: tuple[Problem, ...] = ()) -> Dataset:
    return Dataset(Path("root"), "csv", CLASSES, images, problems)


def save(path: Path, height: int, width: int) -> str:
    Image.new("RGB", (width, height)).save(path)
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


@pytest.mark.parametrize("workers", [-1, 1, 3])
def test_sizes_hashes_and_bad_images(tmp_path: Path, workers: int) -> None:
    images = [labelled(tmp_path, name) for name in "abcd"]
    first, second = save(tmp_path / "a.png", 2, 3), save(tmp_path / "c.png", 5, 4)
    (tmp_path / "b.png").write_text("no image")
    way_out = "replace the file, or leave it out with --on-bad-image skip"
    assert inspect_images(build(*images), workers) == Inspection(
        {"a": (2, 3), "c": (5, 4)},
        {"a": first, "c": second},
        (
            Problem(
                f"not an image (begins with b'no image'); expected an image; {way_out}",
                tmp_path / "b.png",
                image_id="b",
            ),
            Problem(f"no such image; {way_out}", tmp_path / "d.png", image_id="d"),
        ),
        flat=("a", "c"),
    )


def test_images_known_to_be_bad_are_not_tried_again_but_counted(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 2, 3)
    known = Problem("no image", Path("labels.csv"), 3, image_id="b")
    steps: list[int] = []
    dataset = build(labelled(tmp_path, "a"), labelled(tmp_path, "b"), problems=(known,))
    found = inspect_images(dataset, 1, steps.append)
    assert (found.shapes, found.problems, sum(steps)) == ({"a": (2, 3)}, (), 2)


def test_the_queue_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, started, ahead = threading.Lock(), 0, 0

    def spy(path: Path) -> bytes:
        nonlocal started
        with lock:
            started += 1
        raise DatasetError(f"{path}: bad")

    monkeypatch.setattr(inspect, "read_bytes", spy)
    finished = 0

    def progress(n: int) -> None:
        nonlocal finished, ahead
        ahead = max(ahead, started - finished)
        finished += n

    inspect_images(build(*(labelled(tmp_path, f"i{i}") for i in range(200))), 2, progress)
    assert finished == started == 200
    assert ahead <= 9


BAD_IMAGE = Problem("no image 'a.png'", Path("labels.csv"), 2, image_id="a")
BAD_LABEL = Problem("unknown class 'x'", Path("labels.csv"), 3)
NOTE = Problem("read once", Path("labels.csv"), 4, fatal=False)


def test_nothing_fatal_goes_through() -> None:
    dataset = build(labelled(Path(), "a", "cat"), problems=(NOTE,))
    assert apply_on_bad_image(dataset, [], "stop") == dataset
    assert apply_on_bad_image(dataset, [NOTE], "skip").problems == (NOTE,)


def test_stop_lists_the_problems() -> None:
    dataset = build(labelled(Path(), "a"), labelled(Path(), "b"), problems=(BAD_IMAGE, NOTE))
    with pytest.raises(DatasetError) as caught:
        apply_on_bad_image(dataset, [], "stop")
    assert str(caught.value) == (
        "1 problem in the data set:\n"
        "  labels.csv, row 2: no image 'a.png'\n"
        "run `recamlabel check SOURCE` for the full list, or go on without these images with --on-bad-image skip"
    )


def test_leaving_all_images_out_is_no_way_out() -> None:
    with pytest.raises(DatasetError) as caught:
        apply_on_bad_image(build(labelled(Path(), "a"), problems=(BAD_IMAGE,)), [], "stop")
    assert "--on-bad-image" not in str(caught.value)


def test_stop_shows_many_problems_of_one_kind_as_one_line() -> None:
    many = [Problem(f"no image {i}.png", Path("labels.csv"), i, image_id=str(i), kind="missing") for i in range(2, 42)]
    with pytest.raises(DatasetError) as caught:
        apply_on_bad_image(build(labelled(Path(), "a")), [BAD_LABEL, *many], "stop")
    assert str(caught.value).split("\n") == [
        "41 problems in the data set:",
        "  labels.csv, row 3: unknown class 'x'",
        "  labels.csv, row 2: no image 2.png (and 39 more like it: rows 3, 4, 5, 6, 7, …)",
        "run `recamlabel check SOURCE` for the full list",
    ]


def test_many_bad_images_are_one_line(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(30)]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    dataset = build(*(labelled(tmp_path, name.removesuffix(".png")) for name in names))
    lines = problem_lines(inspect_images(dataset, 1).problems)
    assert len(lines) == 1 and lines[0].text.startswith(f"{tmp_path}/0.png: an empty file")
    assert lines[0].text.endswith("(and 29 more like it: 1.png, 2.png, 3.png, 4.png, 5.png, …)")


def test_stop_lists_the_first_ten() -> None:
    many = [Problem(f"bad {i}", Path("labels.csv"), i) for i in range(2, 14)]
    with pytest.raises(DatasetError) as caught:
        apply_on_bad_image(build(problems=(BAD_IMAGE,)), many, "stop")
    lines = str(caught.value).split("\n")
    assert lines[0] == "13 problems in the data set:"
    assert lines[1:3] == ["  labels.csv, row 2: no image 'a.png'", "  labels.csv, row 2: bad 2"]
    assert lines[10:] == [
        "  labels.csv, row 10: bad 10",
        "  … and 3 more",
        "run `recamlabel check SOURCE` for the full list",
    ]


def test_skip_leaves_bad_images_out_and_lists_them() -> None:
    a, b = labelled(Path(), "a", "cat"), labelled(Path(), "b", "dog")
    dataset = apply_on_bad_image(build(a, b, problems=(BAD_IMAGE, NOTE)), [], "skip")
    assert dataset.images == (b,)
    left_out = Problem("left out: no image 'a.png'", Path("labels.csv"), 2, fatal=False, image_id="a")
    assert dataset.problems == (left_out, NOTE)
    assert refusal_reasons(dataset, ["train"]) == []


def test_skip_still_stops_for_what_is_not_an_image() -> None:
    with pytest.raises(DatasetError) as caught:
        apply_on_bad_image(build(problems=(BAD_IMAGE, BAD_LABEL)), [], "skip")
    assert str(caught.value) == (
        "1 problem in the data set:\n  labels.csv, row 3: unknown class 'x'\n"
        "run `recamlabel check SOURCE` for the full list"
    )


def test_training_images_are_those_of_the_training_splits() -> None:
    a, b, c = (labelled(Path(), name, "cat", split) for name, split in zip("abc", ("train", "val", None), strict=True))
    assert training_images(build(a, b, c), ["train"]) == (a,)
    assert training_images(build(a, b, c), ["val", "train"]) == (a, b)
    assert training_images(build(c), ["train"]) == (c,)


def test_refusals() -> None:
    a = labelled(Path(), "a", "cat", "Train")
    assert refusal_reasons(build(a), ["Train"]) == []
    assert refusal_reasons(build(a), ["train"]) == [
        "no image in the training split 'train' (setting data.train_splits); the splits with images are: Train"
    ]
    assert refusal_reasons(build(problems=(BAD_IMAGE, BAD_LABEL)), ["train"]) == [
        "2 problems to fix (first: labels.csv, row 2: no image 'a.png')",
        "no image in the data set; expected at least one",
    ]
    dataset = build(labelled(Path(), "a", "", "train"), labelled(Path(), "b", "cat", "val"))
    assert refusal_reasons(dataset, ["train"]) == [
        "none of the 1 training image has a label; there is nothing to learn"
    ]


def test_a_class_in_no_or_in_every_training_image_is_a_warning() -> None:
    dataset = build(labelled(Path(), "a", "cat", "train"), labelled(Path(), "b", "dog", "val"))
    assert refusal_reasons(dataset, ["train"]) == []
    assert training_warnings(dataset, ["train"]) == [
        "no training image has: dog; masks will not have it either",
        "no training image is known to be without: cat; nothing shows what it is not: "
        "add images without it (20 or more)",
    ]
    assert training_warnings(dataset, ["train", "val"]) == [
        "only 1 training image has: cat, dog; too rare to learn, its masks are guesses"
    ]
    assert training_warnings(build(), ["train"]) == []


def test_summary() -> None:
    images = [
        labelled(Path(), "a", "cat", "train"),
        labelled(Path(), "b", "cat dog", "train"),
        labelled(Path(), "c", "", "val", unknown="dog"),
        labelled(Path(), "d", ""),
    ]
    summary = summarise(build(*images), {"a": (10, 40), "b": (20, 30), "c": (60, 20)})
    assert summary == Summary(
        images=4,
        splits={"train": 2, "val": 1, "": 1},
        classes=(ClassRow("cat", 2, 2, 0, 1), ClassRow("dog", 1, 2, 1, 0)),
        unlabelled=2,
        heights=Spread(10, 20, 60),
        widths=Spread(20, 30, 40),
    )
    assert summary.never_alone == ("dog",)
    assert summary.without_positives == ()
    assert summary.as_dict()["classes"][1] == {"name": "dog", "present": 1, "absent": 2, "unknown": 1, "alone": 0}
    assert summary.as_dict()["heights"] == {"min": 10, "median": 20, "max": 60}


def test_summary_of_nothing() -> None:
    summary = summarise(build(), {})
    assert (summary.images, summary.splits, summary.heights) == (0, {}, None)
    assert summary.without_positives == ("cat", "dog")


def test_labels_of_60000_images_are_summed_quickly() -> None:
    images = tuple(LabelledImage(f"{i}", Path("x"), frozenset({"cat"}), frozenset({"dog"})) for i in np.arange(60_000))
    assert summarise(build(*images), {}).classes[0] == ClassRow("cat", 60_000, 0, 0, 60_000)
