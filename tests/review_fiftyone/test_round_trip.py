"""Export to a FiftyOne with a MongoDB of the tests' own, editing through its Python side, and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from review_by_hand import CLASSES, SHAPES, Review

from recamlabel.cli.main import run as run_cli
from recamlabel.errors import StoreError
from recamlabel.masks.reviewed import Decision, ReviewFolder
from recamlabel.review.fiftyone.session import connect
from recamlabel.storage.png import read_mask

pytestmark = pytest.mark.review
Change = Callable[[Review], dict[str, np.ndarray]]


def paint(review: Review, image_id: str, label: str, box: tuple[float, float, float, float]) -> None:
    """A stroke as the App saves one: a region more, or a mask at another resolution."""
    fo, sample = review.link.fiftyone, review.sample(image_id)
    stroke = fo.Detection(label=label, bounding_box=list(box), mask=np.ones((40, 40), dtype=bool))
    sample["editable"].detections.append(stroke)
    sample.save()


def decide(review: Review, **statuses: str) -> None:
    for image_id, status in statuses.items():
        sample = review.sample(image_id)
        sample["review_status"] = status
        sample.save()


def everything(review: Review) -> list[dict[str, Any]]:
    return [sample.to_dict() for sample in review.samples()]


def test_what_is_exported(review: Review, tmp_path: Path) -> None:
    result = review.export()
    assert (result.added, result.renewed, result.unchanged) == (6, 0, 0)
    data = review.samples()
    sample = review.sample("images/a")
    assert sample.filepath == str(tmp_path / "run-data/images/a.png")
    assert [label.label for label in sample.labels.classifications] == list(CLASSES)
    np.testing.assert_array_equal(read_mask(Path(sample.pseudo.mask_path)), review.masks["images/a"])
    assert [region.label for region in sample.editable.detections] == list(CLASSES)
    assert read_mask(Path(sample.recam.map_path)).shape == (9, 11)
    assert (sample.quality, sample.disagreement, sample.priority) == (0.6, 0.375, 6)
    assert (sample.masks_key, sample.threshold) == ("masks-key", 0.5)
    assert data.persistent and not data.has_field("ground_truth")
    assert data.info["recamlabel"]["run"] == str(review.run.path)
    views = [
        "queue",
        "disagreements",
        "accepted",
        "rejected",
        "to fix",
        *(f"class {n}: {CLASSES[n - 1]}" for n in (1, 2, 3)),
    ]
    assert data.list_saved_views() == views
    assert data.load_saved_view("queue").values("recamlabel_id") == [*reversed(SHAPES)]
    assert len(data.load_saved_view(f"class 2: {CLASSES[1]}")) == 5
    assert data.default_mask_targets == {1: CLASSES[0], 2: CLASSES[1], 3: CLASSES[2], 255: "withheld"}
    groups = {group.name: group for group in data.app_config.sidebar_groups}
    assert not groups["maps of single classes"].expanded and len(groups["maps of single classes"].paths) == 3


def test_untouched_masks_come_back_to_the_pixel(review: Review) -> None:
    review.export()
    decide(review, **dict.fromkeys(SHAPES, "accepted"))
    result = review.pull()
    assert len(result.recorded) == 6 and not any(decision.painted for decision in result.recorded)
    kept = ReviewFolder(review.run.path)
    for image_id, mask in review.masks.items():
        np.testing.assert_array_equal(kept.mask(image_id), mask)
    assert any((mask == 255).any() for mask in review.masks.values())
    assert review.pull().recorded == [] and len(kept.history()) == 6


def test_status_tags_notes_and_paint_come_back(review: Review) -> None:
    review.export()
    assert review.pull().recorded == []
    decide(review, d="rejected", e="accepted")
    paint(review, "e", "cat", (0.5, 0.5, 0.25, 0.25))
    sample = review.sample("images/a")
    sample.tags, sample["review_note"] = ["later", "fix"], "arm <b>cut</b> off"
    sample.save()
    lines = list(review.pull().lines())
    assert lines == [
        "to fix: 1 (images/a)",
        "rejected: 1 (d)",
        "accepted and painted: 1 (e)",
        f"{review.link.name}: 3 new decisions",
    ]
    kept = ReviewFolder(review.run.path)
    said = kept.decisions()["images/a"]
    assert (said.status, said.tags, said.note, said.masks_key) == ("fix", ("later",), "arm <b>cut</b> off", "masks-key")
    assert kept.kinds() == {"d": "rejected", "e": "painted"}
    expected = review.masks["e"].copy()
    height, width = expected.shape
    rows = (np.arange(height) + 0.5) / height
    columns = (np.arange(width) + 0.5) / width
    expected[np.ix_((rows >= 0.5) & (rows < 0.75), (columns >= 0.5) & (columns < 0.75))] = 1
    np.testing.assert_array_equal(kept.mask("e"), expected)
    assert (expected == 255).any()
    assert review.pull().recorded == []
    paint(review, "e", CLASSES[1], (0.0, 0.0, 0.1, 0.1))
    assert [decision.image for decision in review.pull().recorded] == ["e"]


def test_a_second_export_adds_and_changes_nothing(review: Review) -> None:
    review.export()
    decide(review, d="rejected")
    paint(review, "e", "cat", (0.5, 0.5, 0.25, 0.25))
    before = everything(review)
    result = review.export()
    assert (result.added, result.renewed, result.unchanged) == (0, 0, 6)
    assert everything(review) == before


def test_new_masks_renew_what_nobody_edited(review: Review, other_masks: Change) -> None:
    review.export()
    old = dict(review.masks)
    decide(review, d="accepted", e="fix")
    paint(review, "e", "cat", (0.5, 0.5, 0.25, 0.25))
    painted = review.sample("e").editable
    new = other_masks(review)
    result = review.export()
    assert (result.added, result.renewed, result.kept) == (0, 6, 1)
    assert result.notes[-4:-1] == [
        "the run has changed since the last export; decisions were fetched first",
        "accepted: 1 (d)",
        "to fix and painted: 1 (e)",
    ]
    assert review.sample("e").editable == painted and review.sample("e")["review_status"] == "fix"
    np.testing.assert_array_equal(read_mask(Path(review.sample("e").pseudo.mask_path)), new["e"])
    kept = ReviewFolder(review.run.path)
    np.testing.assert_array_equal(kept.mask("d"), old["d"])
    assert review.pull().recorded == []
    decide(review, **{"images/a": "accepted"})
    assert [decision.image for decision in review.pull().recorded] == ["images/a"]
    np.testing.assert_array_equal(kept.mask("images/a"), new["images/a"])
    assert len(list((review.run.path / "review/fiftyone").glob("*/*"))) == 1


def test_decisions_made_elsewhere(review: Review) -> None:
    """The page's decisions are in a new data set, and a data set that says nothing about them leaves them alone."""
    page = Decision("d", "accepted", tags=("easy",), source="page:decisions.json")
    ReviewFolder(review.run.path).add([page], {"d": review.masks["d"]}, 255)
    review.export()
    assert (review.sample("d")["review_status"], review.sample("d").tags) == ("accepted", ["easy"])
    later = Decision("e", "rejected", source="page:decisions.json")
    ReviewFolder(review.run.path).add([later], {"e": review.masks["e"]}, 255)
    assert review.pull().recorded == []
    assert ReviewFolder(review.run.path).decisions()["e"].status == "rejected"


def test_ground_truth_only_if_asked_for(review: Review, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "truth").mkdir()
    Image.fromarray(np.full(SHAPES["d"], 2, dtype=np.uint8)).save(tmp_path / "truth/d.png")
    review.export(truth_dir=tmp_path / "truth")
    assert read_mask(Path(review.sample("d").ground_truth.mask_path)).max() == 2
    assert review.sample("e").ground_truth is None
    review.export()
    assert not review.samples().has_field("ground_truth")


def test_mistakes_are_named_and_the_rest_is_taken(review: Review) -> None:
    review.export()
    fo = review.link.fiftyone
    for image_id, detection in (
        ("images/a", fo.Detection(label="cat", bounding_box=[0, 0, 1, 1])),
        ("images/b c", fo.Detection(label="<i>cow</i>", bounding_box=[0, 0, 1, 1], mask=np.ones((2, 2), dtype=bool))),
    ):
        sample = review.sample(image_id)
        sample["editable"].detections.append(detection)
        sample.save()
    decide(review, d="accepted", e="Accepted", f="fix")
    sample = review.sample("f")
    sample.tags = ["rejected"]
    sample.save()
    with pytest.raises(StoreError) as caught:
        review.pull()
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("1 new decisions recorded; 4 samples of ")
    assert "sample images/a: a region 'cat' of 'editable' has a box and no mask" in lines[1]
    assert (
        "sample images/b c: a region of 'editable' has the class '<i>cow</i>', which the run does not have" in lines[2]
    )
    assert lines[3] == "  sample e: review_status is 'Accepted'; expected accepted, rejected, fix or nothing"
    assert lines[4] == "  sample f: has review_status 'fix' and the tag 'rejected'; expected one of them"
    assert [*ReviewFolder(review.run.path).decisions()] == ["d"]


def test_a_data_set_that_is_not_ours(review: Review, capsys: pytest.CaptureFixture[str]) -> None:
    data = review.link.fiftyone.Dataset(review.link.name)
    assert run_cli(["review", str(review.run.path), "--name", data.name, "--export-only"]) == 1
    error = capsys.readouterr().err
    assert f"already has a data set '{data.name}', which recamlabel did not make; nothing was changed" in error
    assert "--name" in error and len(data) == 0
    data.info = {"recamlabel": {"run": str(review.run.path.parent), "fingerprint": "x"}}
    data.save()
    with pytest.raises(StoreError, match=f"of the run {review.run.path.parent}; nothing was changed"):
        connect(review.run, data.name)


def test_an_image_that_has_moved(review: Review, tmp_path: Path) -> None:
    review.export()
    (tmp_path / "run-data/d.png").rename(tmp_path / "d.png")
    before = everything(review)
    with pytest.raises(
        StoreError, match=r"run-data/d\.png: no such image any more; put back what .*run `recamlabel fit"
    ):
        review.export()
    assert everything(review) == before
    catalog = json.loads((review.run.path / "work/dataset.json").read_text())
    for row in catalog["images"]:
        row["path"] = str(tmp_path / "d.png") if row["id"] == "d" else row["path"]
    (review.run.path / "work/dataset.json").write_text(json.dumps(catalog))
    assert review.export().renewed == 1
    assert review.sample("d").filepath == str(tmp_path / "d.png")


def test_images_that_the_run_no_longer_has(review: Review) -> None:
    review.export()
    decide(review, d="accepted")
    catalog = json.loads((review.run.path / "work/dataset.json").read_text())
    catalog["images"] = [row for row in catalog["images"] if row["id"] != "d"]
    (review.run.path / "work/dataset.json").write_text(json.dumps(catalog))
    assert review.export().strangers == 1
    result = review.pull()
    assert result.recorded == [] and result.strangers == 1
    assert len(review.samples()) == 6


def test_a_run_that_was_moved_keeps_its_data_set(review: Review, tmp_path: Path) -> None:
    from recamlabel.storage.run_folder import RunFolder

    review.export()
    decide(review, d="accepted")
    review.run.path.rename(tmp_path / "elsewhere")
    review.run = RunFolder.open(tmp_path / "elsewhere")
    assert connect(review.run).name == review.link.name
    assert [decision.image for decision in review.pull().recorded] == ["d"]
    assert review.export().renewed == 6
    assert review.sample("e").pseudo.mask_path.startswith(str(tmp_path / "elsewhere"))


def test_the_exported_files_are_lost(review: Review, other_masks: Change) -> None:
    import shutil

    review.export()
    decide(review, d="accepted")
    shutil.rmtree(review.run.path / "review/fiftyone")
    assert [decision.image for decision in review.pull().recorded] == ["d"]
    decide(review, e="accepted")
    other_masks(review)
    with pytest.raises(StoreError, match="sample e: the mask that was exported is gone"):
        review.pull()


def test_pull_without_an_export(review: Review, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["review", str(review.run.path), "--pull", "--name", review.link.name]) == 1
    assert f"FiftyOne has no data set '{review.link.name}'" in capsys.readouterr().err
