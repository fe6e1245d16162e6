"""What every export format must do. A new format is covered by a subclass of FormatContract."""

from __future__ import annotations

import io
import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from export_by_hand import CLASSES, IDS, SPLITS, hostile_run, many_classes_run
from PIL import Image

from recamlabel.errors import ConfigError, DatasetError, StoreError
from recamlabel.export import FORMATS, ExportOptions, export_run, get_format
from recamlabel.export.base import Format, Item, Mask, Plan, Reading
from recamlabel.export.encode.brush_rle import decode
from recamlabel.export.engine import export_with
from recamlabel.storage.run_folder import RunFolder

PALETTE = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]


def snapshot(folder: Path) -> dict[Path, Any]:
    """Content and time of every file below a folder, the run's lock aside."""
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns) if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != ".lock"
    }


class Tampering:
    """A format that is handed one wrong pixel."""

    def __init__(self, format_: Format) -> None:
        self.inner = format_

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def write(self, plan: Plan, folder: Path, masks: Iterator[tuple[Item, Mask]]) -> list[str]:
        return self.inner.write(plan, folder, self._tampered(masks))

    @staticmethod
    def _tampered(masks: Iterator[tuple[Item, Mask]]) -> Iterator[tuple[Item, Mask]]:
        for number, (item, mask) in enumerate(masks):
            if number == 1:
                mask = mask.copy()
                mask[3, 5] = 1 if mask[3, 5] != 1 else 2
            yield item, mask


class FormatContract(ABC):
    """Six images in two splits, with awkward names, three classes and withheld pixels."""

    name: str
    sixteen_bit = False
    pictures = True
    needs: tuple[str, ...] = ()

    @pytest.fixture(autouse=True)
    def _needed_packages(self) -> None:
        for package in self.needs:
            pytest.importorskip(package, reason=f"--format {self.name} needs {package} (extra export)")

    @abstractmethod
    def read(self, folder: Path, ids: Sequence[str]) -> dict[str, np.ndarray]:
        """Masks by image id, read without recamlabel."""

    @pytest.fixture
    def made(self, tmp_path: Path) -> tuple[RunFolder, dict[str, np.ndarray]]:
        return hostile_run(tmp_path)

    def test_is_registered_and_says_what_it_is(self) -> None:
        format_ = get_format(self.name)
        assert format_.name == self.name and FORMATS[self.name] is format_
        assert len(format_.description) > 20 and format_.image_modes
        assert ("link" in format_.image_modes) == self.pictures

    def test_every_pixel_comes_back(self, made: Any, tmp_path: Path) -> None:
        run, masks = made
        result = export_run(run, self.name, tmp_path / "out")
        assert (result.path, result.images) == (tmp_path / "out", 6)
        found = self.read(tmp_path / "out", IDS)
        assert set(found) == set(IDS)
        for image_id, mask in masks.items():
            np.testing.assert_array_equal(found[image_id], mask, err_msg=image_id)

    def test_says_what_it_was_read_back_with(self, made: Any, tmp_path: Path) -> None:
        result = export_run(made[0], self.name, tmp_path / "out")
        assert result.checks and all(check.images == 6 and check.reader for check in result.checks)
        assert export_run(made[0], self.name, tmp_path / "again", check=False).checks == ()

    def test_writes_nothing_elsewhere_and_leaves_the_images_alone(self, made: Any, tmp_path: Path) -> None:
        before = snapshot(tmp_path)
        out = tmp_path / "out"
        export_run(made[0], self.name, out)
        after = {path: value for path, value in snapshot(tmp_path).items() if out not in (path, *path.parents)}
        assert after == before

    def test_images_are_linked_copied_or_left_out(self, made: Any, tmp_path: Path) -> None:
        modes = get_format(self.name).image_modes
        run = made[0]
        originals = {image.resolve(): image.read_bytes() for image in (tmp_path / "run-data").rglob("*.png")}
        for mode in modes:
            out = tmp_path / mode
            export_run(run, self.name, out, images=mode)
            links = [path for path in out.rglob("*") if path.is_symlink()]
            assert {link.resolve() for link in links} == (set(originals) if mode == "link" else set())
            pictures = [path for path in out.rglob("*.png") if path.read_bytes() in originals.values()]
            assert len(pictures) == (0 if mode == "none" else 6)
        for mode in {"link", "copy", "none"} - set(modes):
            with pytest.raises(ConfigError, match=f"--images {mode}: not with {self.name}, which takes: "):
                export_run(run, self.name, tmp_path / "never", images=mode)
        assert not (tmp_path / "never").exists()

    def test_one_split_alone(self, made: Any, tmp_path: Path) -> None:
        run, masks = made
        assert export_run(run, self.name, tmp_path / "out", splits=["val"]).images == 2
        chosen = [image_id for image_id, split in zip(IDS, SPLITS, strict=True) if split == "val"]
        found = self.read(tmp_path / "out", chosen)
        assert set(found) == set(chosen) and all(np.array_equal(found[name], masks[name]) for name in chosen)
        with pytest.raises(ConfigError, match=r"--split: unknown 'test'\. The splits are: train, val"):
            export_run(run, self.name, tmp_path / "never", splits=["test"])

    def test_a_wrong_pixel_is_noticed_and_nothing_is_left(self, made: Any, tmp_path: Path) -> None:
        before = snapshot(tmp_path)
        with pytest.raises(StoreError, match=r"pixels of 'images/b c' differ when read with"):
            export_with(Tampering(get_format(self.name)), made[0], tmp_path / "out")
        assert snapshot(tmp_path) == before

    def test_an_interruption_leaves_nothing(self, made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = snapshot(tmp_path)

        def stop(*args: Any) -> Mask:
            raise KeyboardInterrupt

        monkeypatch.setattr("recamlabel.export.engine.read_mask", stop)
        with pytest.raises(KeyboardInterrupt):
            export_run(made[0], self.name, tmp_path / "out")
        assert snapshot(tmp_path) == before

    def test_more_classes_than_8_bits(self, tmp_path: Path) -> None:
        run, masks = many_classes_run(tmp_path)
        if self.sixteen_bit:
            export_run(run, self.name, tmp_path / "out")
            np.testing.assert_array_equal(self.read(tmp_path / "out", ["a"])["a"], masks["a"])
            return
        with pytest.raises(DatasetError, match=rf"{self.name} has 8-bit masks and holds 254 classes .* has 300\. Form"):
            export_run(run, self.name, tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestVoc(FormatContract):
    name = "voc"

    def read(self, folder: Path, ids: Sequence[str]) -> dict[str, np.ndarray]:
        return {name: np.array(Image.open(folder / "SegmentationClass" / f"{name}.png")) for name in ids}


class TestMmseg(FormatContract):
    name = "mmseg"

    def read(self, folder: Path, ids: Sequence[str]) -> dict[str, np.ndarray]:
        splits = dict(zip(IDS, SPLITS, strict=True))
        return {name: np.array(Image.open(folder / "ann_dir" / splits[name] / f"{name}.png")) for name in ids}


class TestCoco(FormatContract):
    name = "coco"
    sixteen_bit = True
    needs = ("pycocotools",)

    def read(self, folder: Path, ids: Sequence[str]) -> dict[str, np.ndarray]:
        files = {path.relative_to(folder): path for path in folder.glob("semantic_*/**/*.png")}
        return {
            Path(*name.parts[1:]).with_suffix("").as_posix(): np.array(Image.open(path)) for name, path in files.items()
        }


class TestYolo(FormatContract):
    name = "yolo"
    needs = ("cv2",)

    def read(self, folder: Path, ids: Sequence[str]) -> dict[str, np.ndarray]:
        splits = dict(zip(IDS, SPLITS, strict=True))
        names = {name: name.replace("/", "__") for name in ids}
        if "images/a" in names:
            names["images__a"] = "images__a~2"
        return {
            name: np.array(Image.open(folder / "semantic_masks" / splits[name] / f"{flat}.png"))
            for name, flat in names.items()
        }


class TestHuggingFace(FormatContract):
    name = "huggingface"

    def read(self, folder: Path, ids: Sequence[str]) -> dict[str, np.ndarray]:
        found = {}
        for file in folder.glob("data/*/metadata.jsonl"):
            for line in file.read_text().splitlines():
                row = json.loads(line)
                assert (file.parent / row["file_name"]).exists()
                found[row["id"]] = np.array(Image.open(file.parent / row["label_file_name"]))
        return found


class TestCvat(FormatContract):
    name = "cvat"
    pictures = False

    def read(self, folder: Path, ids: Sequence[str]) -> dict[str, np.ndarray]:
        colours = {**{colour: number for number, colour in enumerate(PALETTE)}, (224, 224, 192): 255}
        found = {}
        with zipfile.ZipFile(folder / "annotations.zip") as archive:
            for name in ids:
                image = Image.open(io.BytesIO(archive.read(f"SegmentationClass/{name}.png")))
                rows = np.array(image).reshape(-1, 3).tolist()
                found[name] = np.array([colours[tuple(row)] for row in rows]).reshape(image.height, image.width)
        return found


class TestLabelStudio(FormatContract):
    name = "labelstudio"
    sixteen_bit = True
    pictures = False

    def read(self, folder: Path, ids: Sequence[str]) -> dict[str, np.ndarray]:
        numbers = {name: number for number, name in enumerate(CLASSES, start=1)}
        found = {}
        for task in json.loads((folder / "tasks.json").read_text()):
            regions = task["predictions"][0]["result"]
            mask = np.zeros((regions[0]["original_height"], regions[0]["original_width"]), dtype=np.uint16)
            ignore = 255 if any(region["value"]["brushlabels"][0] in numbers for region in regions) else 65535
            for region in regions:
                label = region["value"]["brushlabels"][0]
                number = ignore if label == "ignore" else numbers.get(label) or int(label.split()[1])
                mask[decode(region["value"]["rle"], mask.shape)] = number
            found[task["data"]["recamlabel_id"]] = mask
        return found


class TestHdf5(FormatContract):
    name = "hdf5"
    sixteen_bit = True
    pictures = False

    def read(self, folder: Path, ids: Sequence[str]) -> dict[str, np.ndarray]:
        with h5py.File(folder / "dataset.h5") as file:
            return {name: file[f"masks/{name}"][()] for name in file["ids"].asstr()[()]}


def test_every_format_has_a_contract_test() -> None:
    assert {contract.name for contract in FormatContract.__subclasses__()} == set(FORMATS)


def test_an_unknown_format_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown 'kitti'\. The formats are: voc, mmseg, coco, yolo, hugging"):
        get_format("kitti")


def test_readings_are_only_asked_for_the_first_hundred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recamlabel.export.verify.CHECKED_IMAGES", 2)
    run, _ = hostile_run(tmp_path)
    checks = export_run(run, "voc", tmp_path / "out").checks
    assert {check.images for check in checks} == {2}


def test_unknown_options_are_refused(tmp_path: Path) -> None:
    run, _ = hostile_run(tmp_path)
    with pytest.raises(ConfigError, match=r"--coco-instances: unknown 'object'\. The choices are: class, component"):
        export_run(run, "coco", tmp_path / "out", options=ExportOptions("object"))
    with pytest.raises(ConfigError, match=r"--images: unknown 'move'\. The ways are: link, copy, none"):
        export_run(run, "voc", tmp_path / "out", images="move")


def test_options_reach_the_format(tmp_path: Path) -> None:
    run, _ = hostile_run(tmp_path)
    options = ExportOptions(image_url="https://example.org/")
    export_run(run, "labelstudio", tmp_path / "out", options=options)
    first = json.loads((tmp_path / "out" / "tasks.json").read_text())[0]
    assert first["data"]["image"] == "https://example.org/images/a.png"


def test_a_reading_that_loses_an_image_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = hostile_run(tmp_path)
    monkeypatch.setattr(
        type(get_format("voc")), "readings", lambda *rest: iter([Reading("lists", "nobody 1.0", iter([]))])
    )
    with pytest.raises(StoreError, match=r"lists: 'images/a' does not come back when read with nobody 1\.0"):
        export_run(run, "voc", tmp_path / "out")
    assert not (tmp_path / "out").exists()
