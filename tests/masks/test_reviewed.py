"""The reviewer's decisions: what is kept, what wins, what is refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from recamlabel.errors import StoreError
from recamlabel.masks.reviewed import Decision, ReviewedMasks, ReviewFolder

ONE = np.array([[0, 1], [255, 2]], dtype=np.uint8)
TWO = np.array([[2, 2], [2, 2]], dtype=np.uint8)


def test_each_kind_of_decision_settles_its_own_mask(tmp_path: Path) -> None:
    review = ReviewFolder(tmp_path)
    review.add(
        [
            Decision("a/b", "accepted"),
            Decision("c", "fix", painted=True),
            Decision("d", "rejected", painted=True),
            Decision("e", "fix", note="arm cut off"),
        ],
        {"a/b": ONE, "c": TWO, "d": TWO},
        ignore_id=255,
    )
    assert review.kinds() == {"a/b": "accepted", "c": "painted", "d": "rejected"}
    with h5py.File(tmp_path / "masks.h5", "w") as file:
        for name in ("a/b", "e"):
            file[name] = np.zeros_like(ONE)
    masks = ReviewedMasks(tmp_path)
    np.testing.assert_array_equal(masks("a/b"), ONE)
    np.testing.assert_array_equal(masks("d"), np.full_like(TWO, 255))
    np.testing.assert_array_equal(masks("e"), np.zeros_like(ONE))


def test_the_last_decision_counts_and_the_history_stays(tmp_path: Path) -> None:
    review = ReviewFolder(tmp_path)
    review.add([Decision("a", "accepted"), Decision("b", "accepted")], {"a": ONE, "b": TWO}, ignore_id=255)
    before = review.digest()
    review.add([Decision("a", None, note="not sure", tags=("later",))], {}, ignore_id=255)
    assert review.kinds() == {"b": "accepted"}
    assert review.digest() != before
    assert review.decisions()["a"].tags == ("later",)
    assert [decision.image for decision in review.history()] == ["a", "b", "a"]


def test_nothing_is_written_if_a_mask_is_missing(tmp_path: Path) -> None:
    review = ReviewFolder(tmp_path)
    with pytest.raises(ValueError, match="'a', which is accepted"):
        review.add([Decision("a", "accepted")], {}, ignore_id=255)
    assert review.history() == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    review = ReviewFolder(tmp_path)
    review.add([Decision("a", "fix")], {}, ignore_id=255)
    review.decisions_path.write_text(review.decisions_path.read_text() + "{broken\n")
    with pytest.raises(StoreError, match=r"decisions\.jsonl: line 2"):
        review.decisions()


def test_equal_decisions_are_told_whoever_made_them() -> None:
    one = Decision("a", "accepted", source="page:x", time="2026")
    assert one.same_as(Decision("a", "accepted", source="fiftyone:y", time="2027"))
    assert not one.same_as(Decision("a", "accepted", note="why"))
    assert Decision("a", None).same_as(None)
    assert not one.same_as(None)
