"""decisions.json of the review page: what is recorded, what is refused and why."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from run_by_hand import TinyImage, make_run

from recamlabel.data.catalog import load_catalog
from recamlabel.errors import ConfigError, StoreError
from recamlabel.masks.reviewed import Decision, ReviewedMasks, ReviewFolder
from recamlabel.review.decisions.file import _text, utc_time
from recamlabel.review.decisions.identity import identity_of, mask_digest
from recamlabel.review.decisions.runs import Runs
from recamlabel.review.decisions.take_in import import_decisions
from recamlabel.storage.run_folder import RunFolder

MASKS = {name: np.full((4, 4), value, np.uint8) for name, value in {"i/a": 1, "i/b": 0, "i/c": 255}.items()}
EARLY, LATE = "2026-11-22T20:00:00.000Z", "2026-11-22T21:00:00.000Z"


def a_run(folder: Path, classes: tuple[str, ...] = ("cat",)) -> RunFolder:
    maps = np.zeros((1, 2, 2))
    return make_run(folder, classes, [TinyImage(name, ("cat",), maps, maps, mask) for name, mask in MASKS.items()])


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return a_run(tmp_path)


def row(image: str, status: str | None, **more: Any) -> dict[str, Any]:
    return {"image": image, "status": status, "note": "", "time": EARLY, "mask": mask_digest(MASKS[image])} | more


def page_file(run: RunFolder, *rows: Any, name: str = "decisions.json", **more: Any) -> Path:
    identity = identity_of(run, load_catalog(run.path / "work/dataset.json")).to_json()
    tree = {"format": "recamlabel-decisions", "version": 1, "run": identity, "decisions": list(rows)} | more
    path = run.path.parent / name
    path.write_text(json.dumps(tree), encoding="utf-8")
    return path


def new_masks(run: RunFolder, **masks: Any) -> None:
    """The masks are made again, some of them differently."""
    with h5py.File(run.path / "masks.h5", "a") as file:
        for name, mask in masks.items():
            file[f"i/{name}"][...] = mask
    run.finish("masks", "new-key", 1.0, ["masks.h5"])


def test_decisions_arrive_and_settle_masks(run: RunFolder) -> None:
    path = page_file(
        run, row("i/a", "accepted", note=" good "), row("i/b", "rejected"), row("i/c", "fix"), reviewer="Ann"
    )
    lines = import_decisions(run, [path]).lines()
    assert lines == ["review: 3 decisions recorded (1 accepted, 1 rejected, 1 to fix)"]
    review = ReviewFolder(run.path)
    assert review.decisions()["i/a"] == Decision(
        "i/a", "accepted", "good", (), False, "page:decisions.json (Ann)", "2026-11-22T20:00:00.000+00:00", "masks-key"
    )
    assert review.kinds() == {"i/a": "accepted", "i/b": "rejected"}
    masks = ReviewedMasks(run.path)
    np.testing.assert_array_equal(masks("i/a"), MASKS["i/a"])
    np.testing.assert_array_equal(masks("i/b"), np.full((4, 4), 255))


def test_half_a_character_and_a_time_beyond_the_calendar(run: RunFolder) -> None:
    assert _text({"note": "half \ud83d of it"}, "note") == "half ? of it"
    with pytest.raises(ValueError, match="no time of this calendar"):
        utc_time("9999-12-31T23:59:59-23:59")


def test_a_second_import_records_nothing(run: RunFolder) -> None:
    path = page_file(run, row("i/a", "accepted"), row("i/b", None))
    import_decisions(run, [path])
    log = ReviewFolder(run.path).decisions_path.read_bytes()
    assert import_decisions(run, [path, path]).lines() == ["review: 0 decisions recorded, 2 as before"]
    assert ReviewFolder(run.path).decisions_path.read_bytes() == log


def test_taken_back_and_only_a_note(run: RunFolder) -> None:
    import_decisions(run, [page_file(run, row("i/a", "accepted"))])
    path = page_file(run, row("i/a", None, time=LATE), row("i/b", None, note="<b>edge</b>"))
    assert import_decisions(run, [path]).lines() == ["review: 2 decisions recorded (2 without a status)"]
    review = ReviewFolder(run.path)
    assert review.kinds() == {} and review.decisions()["i/b"].note == "<b>edge</b>"


def test_tags_and_paint_from_elsewhere_stay(run: RunFolder) -> None:
    painted = np.full((4, 4), 1, np.uint8)
    review = ReviewFolder(run.path)
    review.add([Decision("i/b", "fix", tags=("hard",), painted=True)], {"i/b": painted}, 255)
    stale = import_decisions(run, [page_file(run, row("i/b", "accepted"))])
    assert stale.outdated == ("i/b",), "the page showed the mask before it was painted"
    path = page_file(run, row("i/b", "accepted", mask=mask_digest(painted)))
    assert len(import_decisions(run, [path]).recorded) == 1
    assert review.decisions()["i/b"].tags == ("hard",) and review.kinds() == {"i/b": "painted"}
    np.testing.assert_array_equal(ReviewedMasks(run.path)("i/b"), painted)


@pytest.mark.parametrize("before", [[], [1]])
def test_an_import_that_was_killed_between_masks_and_decisions_goes_on(run: RunFolder, before: list[int]) -> None:
    first, then = np.full((4, 4), 1, np.uint8), np.eye(4, dtype=np.uint8)
    review = ReviewFolder(run.path)
    if before:
        review.add([Decision("i/b", "accepted", painted=True, source="elsewhere")], {"i/b": first}, 255)
    seen = mask_digest(first if before else MASKS["i/b"])
    path = page_file(
        run, row("i/b", "accepted", note="mine", mask=seen, painted=Runs.of(then).to_json()), version=2, reviewer="Ann"
    )
    log = review.decisions_path.read_bytes() if before else None
    assert len(import_decisions(run, [path]).recorded) == 1
    review.decisions_path.write_bytes(log) if log else review.decisions_path.unlink()
    assert len(import_decisions(run, [path]).recorded) == 1 and review.decisions()["i/b"].note == "mine"
    np.testing.assert_array_equal(ReviewedMasks(run.path)("i/b"), then)
    assert import_decisions(run, [path]).recorded == ()


def test_masks_made_again_count_only_where_they_are_the_same(run: RunFolder) -> None:
    path = page_file(run, row("i/a", "accepted"), row("i/b", "accepted"), row("i/c", "rejected"))
    new_masks(run, b=1, c=1)
    result = import_decisions(run, [path])
    assert [decision.image for decision in result.recorded] == ["i/a"]
    assert result.outdated == ("i/b", "i/c")
    assert result.lines()[1:] == [
        "made on a page of an earlier state of the masks (masks-key)",
        "not taken: 2 images whose mask has changed since it was looked at: i/b, i/c; "
        "`recamlabel report` writes the page with the present masks",
    ]
    assert ReviewFolder(run.path).kinds() == {"i/a": "accepted"}


def test_without_a_digest_the_key_of_the_masks_decides(run: RunFolder) -> None:
    path = page_file(run, row("i/a", "accepted", mask=""))
    new_masks(run)
    assert import_decisions(run, [path]).outdated == ("i/a",)


def test_the_present_mask_can_be_accepted_after_an_earlier_one(run: RunFolder) -> None:
    import_decisions(run, [page_file(run, row("i/a", "accepted"))])
    new_masks(run, a=0)
    again = page_file(run, row("i/a", "accepted", time=LATE, mask=mask_digest(np.zeros((4, 4), np.uint8))))
    assert len(import_decisions(run, [again]).recorded) == 1
    assert ReviewedMasks(run.path)("i/a").max() == 0
    assert import_decisions(run, [again]).unchanged == 1


def test_what_was_decided_later_stays(run: RunFolder) -> None:
    ReviewFolder(run.path).add([Decision("i/a", "fix", source="fiftyone:x", time="2026-11-22T22:30:00+02:00")], {}, 255)
    result = import_decisions(run, [page_file(run, row("i/a", "accepted"))])
    assert result.superseded == ("i/a",)
    assert "1 image with a later decision in review/decisions.jsonl: i/a" in result.lines()[-1]
    assert len(import_decisions(run, [page_file(run, row("i/a", "accepted", time=LATE))]).recorded) == 1


def test_two_reviewers(run: RunFolder) -> None:
    one = page_file(run, row("i/a", "accepted", note="fine"), row("i/b", "fix"), row("i/c", None), name="one.json")
    two = page_file(run, row("i/a", "rejected"), row("i/b", "fix", note="leg"), row("i/c", "fix"), name="two.json")
    with pytest.raises(StoreError) as refused:
        import_decisions(run, [one, two])
    assert f"disagree about 1 image:\n  i/a: accepted in {one}, rejected in {two}\nnothing was recorded; --take" in str(
        refused.value
    )
    assert ReviewFolder(run.path).history() == []
    for take, status in {"first": "accepted", "last": "rejected", "one.json": "accepted", str(two): "rejected"}.items():
        import_decisions(run, [one, two], take=take)
        decisions = ReviewFolder(run.path).decisions()
        assert decisions["i/a"].status == status
        assert (decisions["i/a"].note, decisions["i/b"].note) == ("fine", "leg")
        assert decisions["i/c"].status == "fix", "no status is no opinion"
        ReviewFolder(run.path).decisions_path.unlink()
    with pytest.raises(ConfigError, match=r"--take three\.json: expected first, last or one of the files: .*one\.json"):
        import_decisions(run, [one, two], take="three.json")


def test_take_a_file_that_is_silent_about_the_clash(run: RunFolder) -> None:
    files = [page_file(run, row("i/a", status), name=f"{status}.json") for status in ("accepted", "rejected")]
    files.append(page_file(run, row("i/b", "fix"), name="third.json"))
    with pytest.raises(StoreError, match="disagree about 1 image"):
        import_decisions(run, files, take="third.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{broken", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "something else; expected the decisions.json of a review page"),
        (b'{"format": "coco"}', "format 'coco'; expected"),
        (b'{"format": "recamlabel-decisions", "version": 3}', "version 3, this recamlabel reads 1 to 2"),
        (b'{"format": "recamlabel-decisions", "version": 1}', r"damaged \('run' is missing\)"),
    ],
)
def test_files_that_are_something_else(run: RunFolder, tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text)
    with pytest.raises(StoreError, match=rf"x\.json: {message}"):
        import_decisions(run, [path])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"status": "great"}, "unknown status 'great' of 'i/a'; expected accepted, rejected, fix or null"),
        ({"status": ["accepted"]}, "unknown status"),
        ({"image": 3}, "'image' is 3, expected text"),
        ({"note": None}, "'note' is None, expected text"),
        ({"time": "yesterday"}, "Invalid isoformat string: 'yesterday'"),
    ],
)
def test_entries_that_are_wrong_are_named_by_number(run: RunFolder, bad: dict[str, Any], message: str) -> None:
    path = page_file(run, row("i/b", "fix"), row("i/a", "accepted") | bad)
    with pytest.raises(StoreError, match=rf"decisions\.json: decision 2: {message}"):
        import_decisions(run, [path])
    assert ReviewFolder(run.path).history() == []


def test_other_refusals(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"gone\.json: cannot be read \(No such file"):
        import_decisions(run, [tmp_path / "gone.json"])
    for row_, message in ((7, "not subscriptable"), ({"image": "i/a"}, "'status' is missing")):
        with pytest.raises(StoreError, match=f"decision 1: .*{message}"):
            import_decisions(run, [page_file(run, row_)])
    with pytest.raises(StoreError, match="decision 2: 'i/a' is there twice"):
        import_decisions(run, [page_file(run, row("i/a", "fix"), row("i/a", "fix"))])
    unknown = row("i/a", "accepted") | {"image": "i/<z>"}
    with pytest.raises(StoreError, match=r"1 image that .*run has not: i/<z>"):
        import_decisions(run, [page_file(run, row("i/b", "fix"), unknown)])
    run.begin("masks")
    with pytest.raises(StoreError, match="stage 'masks' is not finished"):
        import_decisions(run, [])


def painted(mask: Any) -> dict[str, Any]:
    return Runs.of(np.asarray(mask, np.uint8)).to_json()


PAINT = np.arange(16).reshape(4, 4) % 2


def test_a_painted_mask_arrives_to_the_pixel(run: RunFolder) -> None:
    path = page_file(run, row("i/a", "accepted", painted=painted(PAINT)), row("i/b", None, painted=painted(PAINT)))
    lines = import_decisions(run, [path]).lines()
    assert lines == ["review: 2 decisions recorded (1 accepted, 1 without a status, 2 painted)"]
    assert ReviewFolder(run.path).kinds() == {"i/a": "painted", "i/b": "painted"}
    for name in ("i/a", "i/b"):
        np.testing.assert_array_equal(ReviewedMasks(run.path)(name), PAINT)
    assert import_decisions(run, [path]).lines() == ["review: 0 decisions recorded, 2 as before"]


def test_one_may_go_on_painting_on_the_same_page(run: RunFolder) -> None:
    import_decisions(run, [page_file(run, row("i/a", "accepted", painted=painted(PAINT)))])
    more = page_file(run, row("i/a", "accepted", painted=painted(1 - PAINT), time=LATE))
    assert len(import_decisions(run, [more]).recorded) == 1
    np.testing.assert_array_equal(ReviewedMasks(run.path)("i/a"), 1 - PAINT)
    back = page_file(run, row("i/a", "accepted", time="2026-11-22T22:00:00Z"))
    assert len(import_decisions(run, [back]).recorded) == 1, "the paint taken back, the mask that was made accepted"
    np.testing.assert_array_equal(ReviewedMasks(run.path)("i/a"), MASKS["i/a"])
    assert ReviewFolder(run.path).kinds() == {"i/a": "accepted"}
    ann = page_file(run, row("i/b", None, painted=painted(PAINT)), reviewer="Ann")
    bob = page_file(run, row("i/b", None, painted=painted(1 - PAINT), time=LATE), name="bob.json", reviewer="Bob")
    import_decisions(run, [ann])
    assert import_decisions(run, [bob]).outdated == ("i/b",), "Bob has not seen what Ann painted"


def test_painted_masks_that_cannot_be_taken(run: RunFolder) -> None:
    whole = painted(PAINT)
    cases: list[tuple[Any, str]] = [
        (painted(np.zeros((4, 5))), "the painted mask of 'i/a' has 5x4 pixels, the image 4x4; nothing was recorded"),
        (painted(np.full((4, 4), 2)), "holds the values 2; expected class ids from 0 to 1, or 255"),
        (
            {**whole, "runs": whole["runs"][:-2]},
            "decision 1: the painted mask of 'i/a' is damaged: its runs hold 15",
        ),
        ({**whole, "runs": [*whole["runs"], 1]}, "not pairs of whole numbers"),
        ({**whole, "runs": [0, 1e300]}, "not pairs of whole numbers"),
        ({**whole, "size": [2**50, 1]}, "not pairs of whole numbers"),
        ("<script>", "expected {'size'"),
        ({"size": [0, 0], "runs": []}, "its runs hold 0 pixels"),
    ]
    for bad, message in cases:
        with pytest.raises(StoreError) as refused:
            import_decisions(run, [page_file(run, row("i/a", "accepted", painted=bad), row("i/b", "fix"))])
        assert message in str(refused.value)
    assert ReviewFolder(run.path).history() == []


def test_two_files_that_painted_one_image_differently(run: RunFolder) -> None:
    files = [
        page_file(run, row("i/a", "accepted", painted=painted(mask)), name=f"{number}.json")
        for number, mask in enumerate([PAINT, 1 - PAINT, PAINT])
    ]
    assert len(import_decisions(a_run(run.path.parent / "same"), [files[0], files[2]]).recorded) == 1
    with pytest.raises(StoreError, match=r"disagree about 1 image:\n  i/a: accepted, painted, in .*0\.json, acc"):
        import_decisions(run, files[:2])
    import_decisions(run, files[:2], take="last")
    np.testing.assert_array_equal(ReviewedMasks(run.path)("i/a"), 1 - PAINT)


def test_a_painted_mask_over_an_older_one_is_not_taken(run: RunFolder) -> None:
    path = page_file(run, row("i/a", "accepted", painted=painted(PAINT)))
    new_masks(run, a=0)
    assert import_decisions(run, [path]).outdated == ("i/a",)


@pytest.mark.parametrize("seed", range(3))
def test_runs_are_exact(seed: int) -> None:
    generator = np.random.default_rng(seed)
    mask = np.repeat(generator.integers(0, 301, 400), generator.integers(1, 400, 400))[:60_000].reshape(200, 300)
    runs = Runs.of(mask)
    np.testing.assert_array_equal(Runs.from_json(json.loads(json.dumps(runs.to_json()))).array(np.dtype("u2")), mask)
    numbers, place = [0], 0
    for byte in zlib.decompress(base64.b64decode(runs.packed())):
        numbers[-1] |= (byte & 127) << place
        place = place + 7 if byte & 128 else 0
        if not place:
            numbers.append(0)
    pairs = np.array(numbers[:-1]).reshape(-1, 2)
    np.testing.assert_array_equal(np.repeat(pairs[:, 0], pairs[:, 1]).reshape(mask.shape), mask)


def test_decisions_of_another_run_name_both(run: RunFolder, tmp_path: Path) -> None:
    other = a_run(tmp_path / "other", ("cat", "dog"))
    with pytest.raises(StoreError, match=r"decisions of another run, other/run \(data set \w+\); .* is .*/run \(data"):
        import_decisions(run, [page_file(other, row("i/a", "accepted"))])
    assert ReviewFolder(run.path).history() == []
