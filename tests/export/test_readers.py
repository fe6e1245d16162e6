"""Exports read with the consumers' own code, each where it is installed.

pycocotools, faster-coco-eval and OpenCV are in the dev extra, so CI runs theirs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_by_hand import CLASSES, hostile_run, scattered_mask
from PIL import Image
from run_by_hand import TinyImage, make_run, with_present_images

from recamlabel.errors import StoreError
from recamlabel.export import ExportOptions, export_run
from recamlabel.export.foreign_readers import installed
from recamlabel.storage.run_folder import RunFolder

Made = tuple[RunFolder, dict[str, np.ndarray]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return hostile_run(tmp_path)


def without_ignore(mask: np.ndarray) -> np.ndarray:
    return np.where(mask == 255, 0, mask)


def readers(checks: tuple[object, ...]) -> str:
    return " ".join(str(check) for check in checks)


@pytest.mark.parametrize("instances", ["class", "component"])
@pytest.mark.parametrize("package", ["pycocotools", "faster_coco_eval"])
def test_coco_api(made: Made, tmp_path: Path, instances: str, package: str) -> None:
    pytest.importorskip("pycocotools", reason="needs the extra export")
    module = pytest.importorskip(f"{package}.coco" if package == "pycocotools" else package, reason=f"needs {package}")
    run, masks = made
    out = export_run(run, "coco", tmp_path / "out", options=ExportOptions(instances), images="none").path
    seen = {}
    for subset in ("train", "val"):
        coco = module.COCO(str(out / "annotations" / f"instances_{subset}.json"))
        assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(CLASSES)
        for image_id in coco.getImgIds():
            row = coco.loadImgs([image_id])[0]
            mask = np.zeros((row["height"], row["width"]), np.uint8)
            annotations = coco.loadAnns(coco.getAnnIds(imgIds=[image_id]))
            for annotation in annotations:
                region = coco.annToMask(annotation)
                assert not mask[region > 0].any() and region.sum() == annotation["area"]
                x, y, width, height = map(int, annotation["bbox"])
                assert region[y : y + height, x : x + width].sum() == region.sum()
                mask[region > 0] = annotation["category_id"]
            seen[row["file_name"].removesuffix(".png")] = mask
            assert len(annotations) >= len(set(np.unique(mask)) - {0})
    assert set(seen) == set(masks)
    assert all(np.array_equal(seen[name], without_ignore(mask)) for name, mask in masks.items())


def test_large_coco_files_are_read_by_lines(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pycocotools")
    for module in ("json_rows", "coco"):
        monkeypatch.setattr(f"recamlabel.export.formats.{module}.WHOLE_BYTES", 10)
    for number, name in enumerate(("coco", "labelstudio")):
        assert export_run(made[0], name, tmp_path / str(number), images="none").checks


def test_torchvision_reads_voc(tmp_path: Path) -> None:
    """Real layout: JPEG images, flat names."""
    datasets = pytest.importorskip("torchvision.datasets")
    names = ("2007_000032", "2007 000039")
    none = np.zeros((1, 2, 2))
    masks = {name: scattered_mask(seed) for seed, name in enumerate(names)}
    run = make_run(tmp_path, CLASSES, [TinyImage(name, (), none, none, masks[name], "train") for name in names])
    catalog = json.loads((run.path / "work/dataset.json").read_text())
    for row in catalog["images"]:
        image = Path(row["path"])
        row["path"] = str(image.with_suffix(".jpg"))
        Image.open(image).save(row["path"])
    (run.path / "work/dataset.json").write_text(json.dumps(catalog))
    with_present_images(run)
    result = export_run(run, "voc", tmp_path / "devkit" / "VOCdevkit" / "VOC2012")
    assert result.notes == ()
    data = datasets.VOCSegmentation(str(tmp_path / "devkit"), year="2012", image_set="train", download=False)
    assert len(data) == 2
    for name, (image, target) in zip(names, data, strict=True):
        assert image.size == target.size and np.array_equal(np.array(target), masks[name])


def test_opencv_reads_index_masks(made: Made, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    run, masks = made
    out = export_run(run, "mmseg", tmp_path / "out").path
    for name, mask in masks.items():
        path = next(out.glob(f"ann_dir/*/{name}.png"))
        assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), mask)


def test_mmengine_reads_the_config(made: Made, tmp_path: Path) -> None:
    config = pytest.importorskip("mmengine.config", reason="needs mmengine")
    out = export_run(made[0], "mmseg", tmp_path / "o'ut").path
    base = config.Config.fromfile(str(out / "dataset_config.py"))
    (tmp_path / "mine.py").write_text(f"_base_ = [{str(out / 'dataset_config.py')!r}]\nbatch = 2\n")
    for read in (base, config.Config.fromfile(str(tmp_path / "mine.py"))):
        assert read.data_root == str(out) and read.num_classes == 4
        assert tuple(read.metainfo.classes) == ("background", *CLASSES)
        assert read.train_dataloader.dataset.ignore_index == 255


def test_datasets_loads_images_and_labels(made: Made, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra huggingface")
    if not hasattr(datasets, "load_dataset"):
        pytest.skip("needs the extra huggingface")
    run, masks = made
    result = export_run(run, "huggingface", tmp_path / "out")
    assert "datasets" in readers(result.checks)
    data = datasets.load_dataset(str(result.path), cache_dir=str(tmp_path / "cache"))
    assert {name: len(part) for name, part in data.items()} == {"train": 4, "val": 2}
    for part in data.values():
        assert set(part.features) == {"image", "label", "id"}
        for row in part:
            assert row["label"].mode == "L" and row["image"].size == row["label"].size
            assert np.array_equal(np.array(row["label"]), masks[row["id"]])


SEMANTIC = """
import sys
import numpy as np
from pathlib import Path
from ultralytics.data.dataset import SemanticDataset
from ultralytics.data.utils import check_det_dataset

out = Path(sys.argv[1])
data = check_det_dataset(str(out / "data.yaml"), autodownload=False)
assert not data.get("masks_dir"), data
semantic = check_det_dataset(str(out / "semantic.yaml"), autodownload=False)
loader = SemanticDataset(img_path=semantic["train"], data=semantic, imgsz=64, augment=False)
masks = {Path(label["im_file"]).stem: loader.load_mask(number) for number, label in enumerate(loader.labels)}
np.savez(sys.argv[2], names=np.array(list(data["names"].values())), **masks)
"""


def test_ultralytics_reads_polygons_and_semantic_masks(made: Made, tmp_path: Path) -> None:
    """In a process of its own: importing Ultralytics replaces functions of Pillow and OpenCV."""
    if not installed("ultralytics"):
        pytest.skip("needs ultralytics (AGPL, never a dependency)")
    run, masks = made
    result = export_run(run, "yolo", tmp_path / "out", images="copy")
    assert "ultralytics" in readers(result.checks)
    assert "ultralytics" not in sys.modules
    environment = {**os.environ, "YOLO_CONFIG_DIR": str(tmp_path / "settings"), "YOLO_OFFLINE": "true"}
    command = [sys.executable, "-c", SEMANTIC, str(result.path), str(tmp_path / "found.npz")]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    with np.load(tmp_path / "found.npz") as found:
        assert found["names"].tolist() == list(CLASSES)
        flat = {name.replace("/", "__"): mask for name, mask in masks.items()}
        flat["images__a"], flat["images__a~2"] = masks["images/a"], masks["images__a"]
        assert len(found.files) == 1 + 4
        assert all(np.array_equal(found[name], flat[name]) for name in found.files if name != "names")


def test_ultralytics_that_does_not_run_is_no_traceback(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2", reason="needs the extra export")
    monkeypatch.setattr("recamlabel.export.formats.yolo.installed", lambda package: f"{package} 0")
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(StoreError, match=r"does not read back \(LookupError: Ultralytics: no message\)"):
        export_run(made[0], "yolo", tmp_path / "out")


@pytest.mark.parametrize("package", ["label_studio_sdk.converter", "label_studio_converter"])
def test_label_studio_decodes_its_brushes(made: Made, tmp_path: Path, package: str) -> None:
    brush = pytest.importorskip(f"{package}.brush", reason=f"needs {package}", exc_type=ImportError)
    run, masks = made
    result = export_run(run, "labelstudio", tmp_path / "out")
    assert "label-studio" in readers(result.checks)
    numbers = {**{name: number for number, name in enumerate(CLASSES, start=1)}, "ignore": 255}
    for task in json.loads((result.path / "tasks.json").read_text()):
        expected = masks[task["data"]["recamlabel_id"]]
        mask = np.zeros_like(expected)
        for region in task["predictions"][0]["result"]:
            rgba = brush.decode_rle(region["value"]["rle"]).reshape(*expected.shape, 4)
            mask[rgba[..., 3] > 0] = numbers[region["value"]["brushlabels"][0]]
        assert np.array_equal(mask, expected)


def test_datumaro_reads_the_cvat_archive(made: Made, tmp_path: Path) -> None:
    pytest.importorskip("datumaro", reason="needs datumaro")
    assert "datumaro" in readers(export_run(made[0], "cvat", tmp_path / "out").checks)


def test_fiftyone_importers(fiftyone_database: str, made: Made, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools", reason="needs the extra export")
    import fiftyone
    import fiftyone.types

    run, masks = made
    coco, mmseg = (export_run(run, name, tmp_path / name).path for name in ("coco", "mmseg"))
    instances = fiftyone.Dataset.from_dir(
        dataset_type=fiftyone.types.COCODetectionDataset,
        data_path=str(coco / "images" / "train"),
        labels_path=str(coco / "annotations" / "instances_train.json"),
        label_types=["segmentations"],
    )
    directory = fiftyone.Dataset.from_dir(
        dataset_type=fiftyone.types.ImageSegmentationDirectory,
        data_path=str(mmseg / "img_dir" / "train"),
        labels_path=str(mmseg / "ann_dir" / "train"),
    )
    try:
        assert len(instances) == len(directory) == 4
        for sample in directory:
            name = Path(sample.filepath).relative_to(mmseg / "img_dir" / "train").with_suffix("").as_posix()
            assert np.array_equal(sample.ground_truth.get_mask(), masks[name])
        for sample in instances:
            name = Path(sample.filepath).relative_to(coco / "images" / "train").with_suffix("").as_posix()
            label = next(field for field in ("segmentations", "ground_truth") if field in sample.field_names)
            assert np.array_equal(painted(sample[label].detections, masks[name].shape), without_ignore(masks[name]))
    finally:
        instances.delete()
        directory.delete()


def painted(detections: list[Any], shape: tuple[int, int]) -> np.ndarray:
    """FiftyOne's detections, boxes in fractions of the image, as one mask."""
    mask = np.zeros(shape, np.uint8)
    for detection in detections:
        left, top = round(detection.bounding_box[0] * shape[1]), round(detection.bounding_box[1] * shape[0])
        height, width = detection.mask.shape
        mask[top : top + height, left : left + width][detection.mask > 0] = CLASSES.index(detection.label) + 1
    return mask


def test_readers_that_are_missing_are_replaced_and_said(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2", reason="needs the extra export")
    for module in ("yolo", "huggingface", "labelstudio", "cvat"):
        monkeypatch.setattr(f"recamlabel.export.formats.{module}.installed", lambda package: None)
    expected = {
        "yolo": "labels: read with an own parser and OpenCV",
        "huggingface": "labels: read with Pillow",
        "labelstudio": "tasks.json: read with recamlabel's own decoder",
        "cvat": "annotations.zip: read with zipfile and Pillow",
    }
    for name, text in expected.items():
        assert str(export_run(made[0], name, tmp_path / name).checks[0]).startswith(text)


def test_a_folder_is_no_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unheardof").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert installed("unheardof") is None


def test_a_reader_that_fails_is_no_traceback(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recamlabel.export.formats.labelstudio.decode", lambda data, shape: np.zeros(1)[3])
    monkeypatch.setattr("recamlabel.export.formats.labelstudio.installed", lambda package: None)
    with pytest.raises(StoreError, match=r"does not read back \(IndexError: .*--no-verify keeps the export"):
        export_run(made[0], "labelstudio", tmp_path / "out")
