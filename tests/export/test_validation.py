"""`--val`: a share set aside, the same each time, with rare classes in both parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from recamlabel.adapters.base import LabelledImage
from recamlabel.errors import ConfigError
from recamlabel.export.validation import with_validation


def images(count: int = 100, rare: int = 10) -> list[LabelledImage]:
    """Every image has ``common``; the first ``rare`` have ``rare`` too."""
    return [
        LabelledImage(f"{n:03d}", Path(f"{n}.jpg"), frozenset({"common", *(["rare"] if n < rare else [])}), frozenset())
        for n in range(count)
    ]


def test_shares_of_every_class_and_the_same_again() -> None:
    first = with_validation(images(), 0.2)
    val = [image for image in first if image.split == "val"]
    assert len(val) == 20 and sum("rare" in image.present for image in val) == 2
    assert {image.split for image in first} == {"train", "val"} and [image.id for image in first] == [
        image.id for image in images()
    ]
    shuffled = with_validation(images()[::-1], 0.2)
    assert {image.id for image in shuffled if image.split == "val"} == {image.id for image in val}


def test_one_at_least_and_never_all() -> None:
    two = with_validation(images(2, 0), 0.1)
    assert sorted(str(image.split) for image in two) == ["train", "val"]
    assert sum(image.split == "val" for image in with_validation(images(3, 0), 0.9)) == 2


@pytest.mark.parametrize(
    ("share", "given", "message"),
    [
        (0.0, images(4), "above 0 and below 1"),
        (1.0, images(4), "above 0 and below 1"),
        (float("nan"), images(4), "above 0 and below 1"),
        (0.2, images(1), "1 image, of which none"),
        (
            0.2,
            [LabelledImage(str(n), Path(str(n)), frozenset(), frozenset(), split="test") for n in range(3)],
            r"splits of its own \(test\)",
        ),
    ],
)
def test_what_cannot_be_split(share: float, given: list[LabelledImage], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_validation(given, share)
