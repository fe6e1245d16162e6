"""Where an export may lie, what is done with images, and which masks are taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from export_by_hand import tiny_run
from PIL import Image
from run_by_hand import with_present_images

from recamlabel.errors import ConfigError, MissingExtraError, StoreError
from recamlabel.export import FORMATS, SOURCES, export_run
from recamlabel.export.engine import RECORD
from recamlabel.export.safe_names import UniqueNames, flat_name, folder_name
from recamlabel.masks.reviewed import Decision, ReviewFolder
from recamlabel.storage.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return tiny_run(tmp_path)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("run", "not empty; nothing was written. Give --out a new folder or an empty one"),
        ("run/voc", "inside the run folder"),
        ("run-data/voc", "inside the data set's own folder"),
        ("run-data/images/voc", "inside the data set's own folder"),
        ("link/voc", "inside the data set's own folder"),
        ("file", "a file; --out needs a folder that is new or empty"),
        ("full", "not empty; nothing was written"),
    ],
)
def test_places_that_are_refused(run: RunFolder, tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "run-data")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StoreError, match=message):
        export_run(run, "voc", tmp_path / place)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_and_missing_parents_are_fine(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "new" / "er" / "place"):
        assert export_run(run, "hdf5", place).path == place
        assert (place / "dataset.h5").is_file()


@pytest.mark.parametrize("name", list(FORMATS))
def test_places_with_awkward_names(tmp_path: Path, name: str) -> None:
    for package in {"coco": ("pycocotools",), "yolo": ("cv2",)}.get(name, ()):
        pytest.importorskip(package, reason="needs the extra export")
    home = tmp_path / "my [x] {y} *'é 🙂"
    home.mkdir()
    assert export_run(tiny_run(home), name, home / "out [1]").checks


def test_a_missing_image_is_named_before_anything_is_left(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "run-data/images/b.png").unlink()
    with pytest.raises(StoreError, match=r"b\.png: no such image any more; put it back, or use --images none"):
        export_run(run, "voc", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert export_run(run, "voc", tmp_path / "out", images="none").images == 2


def test_hard_links_where_there_are_no_symbolic_ones(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    export_run(run, "voc", tmp_path / "out")
    linked = tmp_path / "out/JPEGImages/images/a.png"
    assert linked.samefile(tmp_path / "run-data/images/a.png") and not linked.is_symlink()
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with pytest.raises(StoreError, match=r"cannot be linked to .*; use --images copy"):
        export_run(run, "voc", tmp_path / "never")


def test_copies_are_bytes_of_their_own(run: RunFolder, tmp_path: Path) -> None:
    out = export_run(run, "voc", tmp_path / "out", images="copy").path
    copy, original = out / "JPEGImages/images/a.png", tmp_path / "run-data/images/a.png"
    assert copy.read_bytes() == original.read_bytes() and not copy.samefile(original)


def test_images_turned_by_exif_are_counted(run: RunFolder, tmp_path: Path) -> None:
    import json

    catalog = json.loads((run.path / "work/dataset.json").read_text())
    path = tmp_path / "run-data/images/a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (2, 4)).save(path, exif=exif)
    catalog["images"][0]["path"] = str(path)
    (run.path / "work/dataset.json").write_text(json.dumps(catalog))
    with_present_images(run)
    notes = export_run(run, "mmseg", tmp_path / "out").notes
    assert notes[0].startswith("1 images are to be turned by their EXIF data, and their masks are upright")


def test_sources(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"--what: unknown 'seeds'\. The choices are: masks, segmenter, reviewed"):
        export_run(run, "voc", tmp_path / "out", what="seeds")
    with pytest.raises(StoreError, match=r"segmenter\.h5: not there yet; no segmenter has made predictions"):
        export_run(run, "voc", tmp_path / "out", what="segmenter")
    with pytest.raises(StoreError, match=r"review/masks\.h5: not there yet; nothing in this run is reviewed yet"):
        export_run(run, "voc", tmp_path / "out", what="reviewed")
    with h5py.File(run.path / SOURCES["segmenter"].files[0], "w") as file:
        file["images/a"], file["images/b"] = np.full((2, 4), 2, np.uint8), np.zeros((2, 4), np.uint8)
    # Its record is gone: what a stopped redo has left behind.
    with pytest.raises(StoreError, match="stage 'segmentation' is not finished"):
        export_run(run, "hdf5", tmp_path / "out", what="segmenter")
    run.finish("segmenter", "trained on masks-key", 9.0, [])
    run.finish("segmentation", "of that", 9.0, ["segmenter.h5"])
    out = export_run(run, "hdf5", tmp_path / "out", what="segmenter").path
    with h5py.File(out / "dataset.h5") as file:
        assert file["masks/images/a"][()].tolist() == [[2] * 4] * 2
    assert json.loads((out / RECORD).read_text())["stage_key"] == "of that"
    assert "outdated" not in capsys.readouterr().err


def test_an_outdated_segmenter_is_exported_and_says_so(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with h5py.File(run.path / "segmenter.h5", "w") as file:
        file["images/a"], file["images/b"] = np.full((2, 4), 2, np.uint8), np.zeros((2, 4), np.uint8)
    made = run.key_of("masks")
    run.finish("masks", made, 1.0, ["masks.h5"], {"settings": {"masks.threshold": "auto"}})
    run.finish("segmenter", "trained on masks-key", 9.0, [], {"needs": {"masks": made}})
    run.finish("segmentation", "of that", 9.0, ["segmenter.h5"], {"needs": {"segmenter": "trained on masks-key"}})
    run.state.config = {"masks": {"threshold": 0.5}}
    planned = {name: f"another-{name}" for name in ("masks", "segmenter", "segmentation")}
    run.state.plan = {**{name: record["key"] for name, record in run.state.stages.items()}, **planned}
    run.finish("masks", "another-masks", 1.0, ["masks.h5"])
    out = export_run(RunFolder.open(run.path), "hdf5", tmp_path / "out", what="segmenter").path
    assert (out / "dataset.h5").is_file()
    assert capsys.readouterr().err.splitlines()[0] == (
        f"note: the segmenter is outdated (masks.threshold auto -> 0.5); `recamlabel fit {run.path}` trains it again, "
        "the earlier setting makes it current again"
    )


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((4, 2), np.uint8), r"mask of 'images/a' has shape \(4, 2\), its image \(2, 4\)"),
        (np.full((2, 4), 3, np.uint8), "holds the value 3; expected 0, 1..2 or 255"),
        (None, "no mask of 'images/a'"),
    ],
)
def test_masks_that_do_not_fit(run: RunFolder, tmp_path: Path, mask: np.ndarray | None, message: str) -> None:
    with h5py.File(run.path / "masks.h5", "r+") as file:
        del file["images/a"]
        if mask is not None:
            file["images/a"] = mask
    with pytest.raises(StoreError, match=message):
        export_run(run, "voc", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unfinished_masks(run: RunFolder, tmp_path: Path) -> None:
    run.begin("masks")
    with pytest.raises(StoreError, match="stage 'masks' is not finished; run `recamlabel fit` again"):
        export_run(run, "voc", tmp_path / "out")


@pytest.mark.parametrize(("format_name", "module"), [("coco", "pycocotools"), ("yolo", "cv2")])
def test_a_missing_package_is_named(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_name: str, module: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"--format {format_name} needs .*pip install 'recamlabel\[export\]'"):
        export_run(run, format_name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names() -> None:
    assert [folder_name(name) for name in ("train", "a/b", ".", "", "é 🙂")] == ["train", "a_b", "_.", "_", "é 🙂"]
    assert [flat_name(name) for name in ("a/b/c d", ".a/b")] == ["a__b__c d", "_.a__b"]
    long = flat_name("é" * 200)
    assert len(long.encode()) <= 200 and long != flat_name("é" * 201)
    names = UniqueNames()
    assert [names.take(name) for name in ("a", "A", "a", "a~2")] == ["a", "A~2", "a~3", "a~2~2"]


def test_the_data_set_may_be_gone_without_images(run: RunFolder, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools", reason="needs the extra export")
    shutil.rmtree(tmp_path / "run-data")
    assert export_run(run, "coco", tmp_path / "out", images="none").images == 2


def test_reviewed_masks_where_they_are_settled(run: RunFolder, tmp_path: Path) -> None:
    painted = np.array([[2, 2, 255, 0], [0, 0, 1, 1]], np.uint8)
    ReviewFolder(run.path).add([Decision("images/a", "fix", painted=True)], {"images/a": painted}, 255)
    result = export_run(run, "hdf5", tmp_path / "out", what="reviewed")
    with h5py.File(result.path / "dataset.h5") as file, h5py.File(run.path / "masks.h5") as pseudo:
        np.testing.assert_array_equal(file["masks/images/a"][()], painted)
        np.testing.assert_array_equal(file["masks/images/b"][()], pseudo["images/b"][()])
    record = json.loads((result.path / "recamlabel-export.json").read_text())
    assert record["stage_key"] == f"masks-key+review:{ReviewFolder(run.path).digest()}"
    ReviewFolder(run.path).add([Decision("images/b", None, painted=True)], {"images/b": painted[:1]}, 255)
    with pytest.raises(StoreError, match=r"review/masks\.h5: mask of 'images/b' has shape \(1, 4\).*review it again"):
        export_run(run, "hdf5", tmp_path / "again", what="reviewed")
