"""What is exported, and that a mask which says nothing is never read as "nothing is here"."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from run_by_hand import TinyImage, make_run

from recamlabel.cli.main import run as run_cli
from recamlabel.data.catalog import load_catalog, save_catalog
from recamlabel.errors import ConfigError, DatasetError, StoreError
from recamlabel.export import FORMATS, ExportResult, export_run, get_format
from recamlabel.export.engine import export_with
from recamlabel.export.selection import LeftOut, Wanted
from recamlabel.masks.reviewed import Decision, ReviewFolder
from recamlabel.storage.run_folder import RunFolder

CAT = [[1, 1, 0, 0], [0, 0, 0, 0]]
# Image, labels, mask: what becomes of each is the subject of this file.
IMAGES: dict[str, tuple[tuple[str, ...], Any]] = {
    "i/good": (("cat",), CAT),
    "i/normal": ((), [[0] * 4] * 2),
    "i/empty": (("cat",), [[0] * 4] * 2),
    "i/withheld": (("cat",), [[255, 255, 0, 0], [0] * 4]),
    "i/ignored": (("cat",), [[255] * 4] * 2),
    "i/half": (("cat", "dog"), CAT),
    "i/rejected": (("cat",), CAT),
    "i/fix": (("dog",), [[0, 0, 2, 2], [0] * 4]),
    "i/painted": (("cat",), CAT),
    "i/noted": (("cat",), CAT),
}
PAINTED = np.array([[2, 2, 2, 0], [0, 0, 0, 1]], np.uint8)
SAYS_NOTHING = {"i/empty", "i/withheld", "i/ignored", "i/rejected"}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    rows = []
    for name, (labels, mask) in IMAGES.items():
        maps = np.ones((len(labels), 2, 2))
        rows.append(TinyImage(name, labels, maps, maps, mask))
    run = make_run(tmp_path, ("cat", "dog"), rows)
    good = np.array(CAT, np.uint8)
    decisions = [
        Decision("i/good", "accepted"),
        Decision("i/rejected", "rejected"),
        Decision("i/fix", "fix"),
        Decision("i/painted", "fix", painted=True),
        Decision("i/noted", None, note="odd"),
    ]
    ReviewFolder(run.path).add(decisions, {"i/good": good, "i/rejected": good, "i/painted": PAINTED}, 255)
    return run


def record(result: ExportResult) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((result.path / "recamlabel-export.json").read_text())
    return tree


def names(found: Sequence[Path]) -> set[str]:
    return {f"i/{path.stem.removeprefix('i__')}" for path in found}


@pytest.mark.parametrize("what", ["masks", "reviewed"])
def test_yolo_leaves_out_what_would_be_a_false_negative(run: RunFolder, tmp_path: Path, what: str) -> None:
    pytest.importorskip("cv2", reason="needs the extra export")
    result = export_run(run, "yolo", tmp_path / "out", what=what)
    kept = set(IMAGES) - SAYS_NOTHING
    for folder in ("labels", "images", "semantic_masks"):
        assert names(sorted((result.path / folder / "train").iterdir())) == kept
    blank = [path for path in (result.path / "labels/train").iterdir() if not path.read_text()]
    assert names(blank) == {"i/normal"}, "the one image in which nothing is"
    assert result.images == len(kept)
    note = next(note for note in result.notes if note.startswith("left out"))
    assert note == (
        "left out, because they would be read as images in which nothing is: 2 images whose labels name classes while "
        "the mask has no object; 1 image whose mask has nothing but withheld pixels; 1 image whose mask was rejected"
    )
    assert record(result)["left_out"] == {
        "rejected": ["i/rejected"],
        "empty": ["i/empty", "i/withheld"],
        "ignored": ["i/ignored"],
    }


def test_coco_has_neither_image_nor_annotation(run: RunFolder, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools", reason="needs the extra export")
    out = export_run(run, "coco", tmp_path / "out", what="reviewed").path
    tree = json.loads((out / "annotations/instances_train.json").read_text())
    files = {row["id"]: f"{Path(row['file_name']).parent}/{Path(row['file_name']).stem}" for row in tree["images"]}
    assert set(files.values()) == set(IMAGES) - SAYS_NOTHING
    empty = set(files.values()) - {files[row["image_id"]] for row in tree["annotations"]}
    assert empty == {"i/normal"}
    assert not (out / "images/train/i/rejected.png").exists() and not (out / "semantic_train/i/rejected.png").exists()


def test_labelling_tools_leave_them_out_too(run: RunFolder, tmp_path: Path) -> None:
    tasks = json.loads((export_run(run, "labelstudio", tmp_path / "one").path / "tasks.json").read_text())
    assert {task["data"]["recamlabel_id"] for task in tasks} == set(IMAGES) - SAYS_NOTHING
    with zipfile.ZipFile(export_run(run, "cvat", tmp_path / "two").path / "annotations.zip") as archive:
        listed = archive.read("ImageSets/Segmentation/train.txt").decode().split()
    assert set(listed) == set(IMAGES) - SAYS_NOTHING


def masks_of(format_name: str, out: Path) -> dict[str, np.ndarray]:
    if format_name == "hdf5":
        with h5py.File(out / "dataset.h5") as file:
            return {name: file[f"masks/{name}"][()] for name in IMAGES}
    place = {"voc": "SegmentationClass", "mmseg": "ann_dir/train", "huggingface": "data/train/labels"}[format_name]
    return {name: np.array(Image.open(out / place / f"{name}.png")) for name in IMAGES}


@pytest.mark.parametrize("format_name", ["voc", "mmseg", "huggingface", "hdf5"])
def test_formats_with_a_value_a_pixel_say_that_nothing_is_known(
    run: RunFolder, tmp_path: Path, format_name: str
) -> None:
    result = export_run(run, format_name, tmp_path / "out", what="masks")
    found = masks_of(format_name, result.path)
    assert result.images == len(IMAGES)
    for name, (_, mask) in IMAGES.items():
        expected = np.full((2, 4), 255) if name in SAYS_NOTHING else np.array(mask)
        np.testing.assert_array_equal(found[name], expected, err_msg=name)
    assert any(note.startswith("written as 255 (not known) in every pixel: 2 images whose") for note in result.notes)
    assert set(record(result)["written_as_ignored"]) == {"rejected", "empty", "ignored"}
    assert record(result)["left_out"] == {}


def test_a_labelled_class_that_the_mask_lacks_is_said(run: RunFolder, tmp_path: Path) -> None:
    result = export_run(run, "hdf5", tmp_path / "out")
    note = next(note for note in result.notes if "missing" in note)
    assert note.startswith("1 image with some labelled class missing from the mask (i/half: dog): a trainer reads that")
    assert "--ids" in note and record(result)["labelled_but_missing"] == {"i/half": ["dog"]}


def test_a_class_at_a_level_of_its_own_is_said_until_it_is_accepted(run: RunFolder, tmp_path: Path) -> None:
    with h5py.File(run.path / "masks.h5", "a") as file:
        for name in ("i/good", "i/noted"):
            file[name].attrs["kept_ids"] = np.array([1], np.int32)
    result = export_run(run, "hdf5", tmp_path / "out", what="reviewed")
    assert any(note.startswith("1 image with a class that no pixel had above the background") for note in result.notes)
    assert record(result)["at_a_level_of_their_own"] == {"i/noted": ["cat"]}


def test_an_image_of_which_nothing_is_labelled_is_no_negative(tmp_path: Path) -> None:
    """Neither present nor absent is unknown: an empty mask of such an image says nothing either."""
    none = np.zeros((0, 2, 2))
    images = [TinyImage(name, (), none, none, [[0, 0]]) for name in ("known", "unknown", "seen")]
    run = make_run(tmp_path, ("cat",), images)
    catalog = load_catalog(run.path / "work/dataset.json")
    save_catalog(run.path / "work/dataset.json", catalog)
    tree = json.loads((run.path / "work/dataset.json").read_text())
    for row in tree["images"]:
        row["unknown"] = [] if row["id"] == "known" else [1]
    (run.path / "work/dataset.json").write_text(json.dumps(tree))
    ReviewFolder(run.path).add([Decision("seen", "accepted")], {"seen": np.zeros((1, 2), np.uint8)}, 255)
    result = export_run(run, "labelstudio", tmp_path / "out", what="reviewed")
    assert record(result)["left_out"] == {"unlabelled": ["unknown"]} and result.images == 2


class TestOnly:
    def test_accepted_are_accepted_and_painted_ones_as_reviewed(self, run: RunFolder, tmp_path: Path) -> None:
        result = export_run(run, "hdf5", tmp_path / "out", only="accepted")
        with h5py.File(result.path / "dataset.h5") as file:
            assert file["ids"].asstr()[()].tolist() == ["i/good", "i/painted"]
            np.testing.assert_array_equal(file["masks/i/painted"][()], PAINTED)
        assert result.notes[0] == (
            "left out by --only accepted: 6 images without a decision; 1 image whose mask was rejected; "
            "1 image marked fix and not painted"
        )
        tree = record(result)
        assert tree["what"] == "reviewed" and tree["wanted"] == {
            "only": "accepted",
            "splits": [],
            "ids": None,
            "val": None,
        }
        assert tree["left_out"]["fix"] == ["i/fix"] and "i/noted" in tree["left_out"]["undecided"]

    def test_reviewed_are_all_decided_but_the_rejected(self, run: RunFolder, tmp_path: Path) -> None:
        result = export_run(run, "hdf5", tmp_path / "out", only="reviewed")
        with h5py.File(result.path / "dataset.h5") as file:
            assert file["ids"].asstr()[()].tolist() == ["i/good", "i/fix", "i/painted"]
        assert set(record(result)["left_out"]) == {"undecided", "rejected"}

    def test_masks_as_they_were_before_the_paint_are_said(self, run: RunFolder, tmp_path: Path) -> None:
        result = export_run(run, "hdf5", tmp_path / "out", only="accepted", what="masks")
        assert any(note.startswith("1 of these masks were painted by a reviewer") for note in result.notes)
        with h5py.File(result.path / "dataset.h5") as file:
            np.testing.assert_array_equal(file["masks/i/painted"][()], CAT)

    def test_without_a_review_there_is_nothing(self, tmp_path: Path) -> None:
        maps = np.ones((1, 2, 2))
        run = make_run(tmp_path, ("cat",), [TinyImage("a", ("cat",), maps, maps, CAT)])
        with pytest.raises(StoreError, match="nothing in this run is reviewed yet"):
            export_run(run, "hdf5", tmp_path / "out", only="accepted")
        with pytest.raises(StoreError, match="no image to export: left out are 1 image without a decision"):
            export_run(run, "hdf5", tmp_path / "out", only="accepted", what="masks")
        with pytest.raises(ConfigError, match=r"--only: unknown 'best'\. The choices are: all, reviewed, accepted"):
            export_run(run, "hdf5", tmp_path / "out", only="best")  # type: ignore[arg-type]
        assert not (tmp_path / "out").exists()


class TestIds:
    def test_a_file_or_a_list_of_ids(self, run: RunFolder, tmp_path: Path) -> None:
        (tmp_path / "ids.txt").write_text("good\n\ni/half.png\n")
        for number, ids in enumerate((tmp_path / "ids.txt", ["i/half", "i/good"])):
            with h5py.File(export_run(run, "hdf5", tmp_path / str(number), ids=ids).path / "dataset.h5") as file:
                assert file["ids"].asstr()[()].tolist() == ["i/good", "i/half"]

    def test_unknown_ids_are_named(self, run: RunFolder, tmp_path: Path) -> None:
        (tmp_path / "ids.txt").write_text("i/good\ni/best\n")
        with pytest.raises(DatasetError, match=r"ids\.txt, row 2: no image 'i/best'; expected ids such as"):
            export_run(run, "hdf5", tmp_path / "out", ids=tmp_path / "ids.txt")
        with pytest.raises(ConfigError, match="unknown image ids: 'a', 'b', 'c' and 1 more; ids are like 'i/good'"):
            export_run(run, "hdf5", tmp_path / "out", ids=["a", "b", "i/good", "c", "d"])

    def test_what_says_nothing_is_left_out_although_it_is_named(self, run: RunFolder, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="no image to export: left out are 1 image whose mask was rejected"):
            export_run(run, "labelstudio", tmp_path / "out", ids=["i/rejected"])


def test_the_segmenters_mask_is_not_the_one_that_was_rejected(run: RunFolder, tmp_path: Path) -> None:
    with h5py.File(run.path / "segmenter.h5", "w") as file:
        for name in IMAGES:
            file[name] = np.array(CAT, np.uint8)
    run.finish("segmentation", "key", 0.0, ["segmenter.h5"])
    assert export_run(run, "labelstudio", tmp_path / "out", what="segmenter").images == len(IMAGES)


class Foreign:
    """A format of somebody else, written before ``kind`` was asked for."""

    def __getattr__(self, name: str) -> Any:
        if name == "kind":
            raise AttributeError(name)
        return getattr(get_format("hdf5"), name)


def test_a_format_that_does_not_say_its_kind_gets_no_false_negative(run: RunFolder, tmp_path: Path) -> None:
    result = export_with(Foreign(), run, tmp_path / "out")  # type: ignore[arg-type]
    assert result.images == len(IMAGES) - len(SAYS_NOTHING)
    assert {name: format_.kind for name, format_ in FORMATS.items()} == {
        **dict.fromkeys(("voc", "mmseg", "huggingface", "hdf5"), "index"),
        **dict.fromkeys(("coco", "yolo", "cvat", "labelstudio"), "instances"),
    }


def test_the_command_says_what_is_left_out(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ids.txt").write_text("i/good\ni/rejected\n")
    more = ["--format", "labelstudio", "--out", str(tmp_path / "out"), "--ids", str(tmp_path / "ids.txt")]
    assert run_cli(["export", str(run.path), *more, "--only", "accepted"]) == 0
    streams = capsys.readouterr()
    assert "note: left out by --only accepted: 1 image whose mask was rejected" in streams.err
    assert streams.out.startswith("labelstudio: 1 images in")
    (tmp_path / "ids.txt").write_text("i/nothing\n")
    assert run_cli(["export", str(run.path), *more]) == 1
    assert "row 1: no image 'i/nothing'" in capsys.readouterr().err


class TestChangedImages:
    """faults.md D3: an export of another picture than the mask's said "verified: equal to the masks"."""

    @pytest.mark.parametrize("format_name", ["voc", "hdf5", "labelstudio", "cvat", "huggingface", "mmseg"])
    def test_another_size_is_refused_in_every_format(self, run: RunFolder, tmp_path: Path, format_name: str) -> None:
        Image.new("RGB", (8, 5)).save(tmp_path / "run-data/i/good.png")
        with pytest.raises(
            StoreError, match=r"good\.png: 8x5 pixels now, 4x2 when the masks were made; .*l fit` again"
        ):
            export_run(run, format_name, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_other_content_of_the_same_size(self, run: RunFolder, tmp_path: Path) -> None:
        for name in ("good", "half", "normal", "fix", "noted", "empty", "painted"):
            Image.new("RGB", (4, 2), (9, 8, 7)).save(tmp_path / f"run-data/i/{name}.png")
        with pytest.raises(StoreError) as error:
            export_run(run, "voc", tmp_path / "out")
        text = str(error.value)
        assert text.startswith("7 images are not those that the masks were made from:\n")
        assert text.count("another picture than when") == 5 and "… and 2 more" in text and "--on-changed skip" in text

    def test_they_can_be_left_out(self, run: RunFolder, tmp_path: Path) -> None:
        Image.new("RGB", (8, 5)).save(tmp_path / "run-data/i/good.png")
        (tmp_path / "run-data/i/half.png").unlink()
        result = export_run(run, "voc", tmp_path / "out", on_changed="skip")
        assert result.images == len(IMAGES) - 2 and record(result)["left_out"] == {"changed": ["i/good", "i/half"]}
        assert (
            "left out by --on-changed skip: 2 images whose file is not the one that the masks were made from"
            in result.notes
        )

    def test_images_that_are_not_asked_for_do_not_matter(self, run: RunFolder, tmp_path: Path) -> None:
        Image.new("RGB", (8, 5)).save(tmp_path / "run-data/i/good.png")
        assert export_run(run, "voc", tmp_path / "out", ids=["i/normal"]).images == 1

    def test_without_the_files_it_is_said_that_nothing_was_compared(self, run: RunFolder, tmp_path: Path) -> None:
        (tmp_path / "run-data/i/half.png").unlink()
        result = export_run(run, "voc", tmp_path / "out", images="none")
        assert result.images == len(IMAGES) and any("cannot be read any more" in note for note in result.notes)


def test_what_helps_depends_on_whose_masks_they_are():
    left = LeftOut(missing={"a": ["dog"]})
    pseudo, segmenter = (left.notes(Wanted(), 255, what)[0] for what in ("masks", "segmenter"))
    assert "try a lower `recamlabel masks --threshold`" in pseudo and "masks --threshold" not in segmenter
    assert "--what masks has what the labels name" in segmenter
