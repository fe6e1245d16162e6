"""What lies where in an export of two tiny images, in full."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path
from urllib.parse import unquote

import h5py
import numpy as np
import pytest
import yaml
from export_by_hand import tiny_run
from PIL import Image
from run_by_hand import TinyImage, make_run

from recamlabel.errors import DatasetError
from recamlabel.export import ExportOptions, export_run
from recamlabel.export.encode.brush_rle import decode
from recamlabel.storage.run_folder import RunFolder

A = [[1, 0, 1, 1], [255, 0, 0, 1]]
B = [[0, 0, 2, 2], [1, 1, 0, 0]]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return tiny_run(tmp_path)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def pixels(path: Path) -> list[list[int]]:
    with Image.open(path) as image:
        return np.array(image).tolist()


def test_voc(run: RunFolder, tmp_path: Path) -> None:
    out = export_run(run, "voc", tmp_path / "out").path
    assert files(out) == {
        "JPEGImages/images/a.png",
        "JPEGImages/images/b.png",
        "SegmentationClass/images/a.png",
        "SegmentationClass/images/b.png",
        "ImageSets/Segmentation/train.txt",
        "ImageSets/Segmentation/val.txt",
        "ImageSets/Segmentation/trainval.txt",
        "labels.txt",
        "recamlabel-export.json",
    }
    with Image.open(out / "SegmentationClass/images/a.png") as image:
        assert image.mode == "P" and np.array(image).tolist() == A
        assert image.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
        assert image.getpalette()[255 * 3 :] == [224, 224, 192]
    assert (out / "ImageSets/Segmentation/trainval.txt").read_text() == "images/a\nimages/b\n"
    assert (out / "ImageSets/Segmentation/val.txt").read_text() == "images/b\n"
    assert (out / "labels.txt").read_text() == "background\ncat\ndog\n"
    record = json.loads((out / "recamlabel-export.json").read_text())
    assert (record["what"], record["stage_key"], record["images"]) == ("masks", "masks-key", 2)
    assert record["class_names"] == ["background", "cat", "dog"]


def test_mmseg(run: RunFolder, tmp_path: Path) -> None:
    out = export_run(run, "mmseg", tmp_path / "out").path
    assert files(out) == {
        "img_dir/train/images/a.png",
        "img_dir/val/images/b.png",
        "ann_dir/train/images/a.png",
        "ann_dir/val/images/b.png",
        "dataset_config.py",
        "recamlabel-export.json",
    }
    with Image.open(out / "ann_dir/train/images/a.png") as image:
        assert image.mode == "L"
    config: dict[str, object] = {}
    exec((out / "dataset_config.py").read_text(), config)
    assert config["data_root"] == "{{ fileDirname }}"  # MMEngine fills it in
    assert config["metainfo"] == {
        "classes": ("background", "cat", "dog"),
        "palette": [[0, 0, 0], [128, 0, 0], [0, 128, 0]],
    }
    dataset = config["val_dataloader"]["dataset"]
    assert dataset.pop("pipeline") is config["test_pipeline"]
    assert dataset == {
        "type": "BaseSegDataset",
        "data_root": "{{ fileDirname }}",
        "data_prefix": {"img_path": "img_dir/val", "seg_map_path": "ann_dir/val"},
        "img_suffix": ".png",
        "seg_map_suffix": ".png",
        "metainfo": config["metainfo"],
        "reduce_zero_label": False,
        "ignore_index": 255,
    }


def test_mmseg_with_several_extensions_and_no_validation_split(tmp_path: Path) -> None:
    run = tiny_run(tmp_path)
    catalog = json.loads((run.path / "work/dataset.json").read_text())
    for row, name in zip(catalog["images"], ("a.JPG", "b.png"), strict=True):
        row["split"] = None
        row["path"] = str(Path(row["path"]).rename(Path(row["path"]).with_name(name)))
    (run.path / "work/dataset.json").write_text(json.dumps(catalog))
    result = export_run(run, "mmseg", tmp_path / "out")
    assert result.notes == (
        "no validation split: the config validates on the training images; --val 0.2 sets some aside",
    )
    config: dict[str, object] = {}
    exec((result.path / "dataset_config.py").read_text(), config)
    for loader in ("train_dataloader", "val_dataloader"):
        dataset = config[loader]["dataset"]
        assert dataset["type"] == "ConcatDataset"
        assert [part["img_suffix"] for part in dataset["datasets"]] == [".JPG", ".png"]
        assert {part["data_prefix"]["img_path"] for part in dataset["datasets"]} == {"img_dir/train"}


@pytest.mark.parametrize("name", ["mmseg", "yolo"])
def test_a_share_set_aside_is_where_the_trainer_validates(name: str, tmp_path: Path) -> None:
    run = tiny_run(tmp_path)
    catalog = json.loads((run.path / "work/dataset.json").read_text())
    for row in catalog["images"]:
        row["split"] = None
    (run.path / "work/dataset.json").write_text(json.dumps(catalog))
    result = export_run(run, name, tmp_path / "out", val=0.5)
    folder = {"mmseg": "img_dir/{}", "yolo": "images/{}"}[name]
    assert [len(list((result.path / folder.format(split)).rglob("*.png"))) for split in ("train", "val")] == [1, 1]
    assert not any("no validation split" in note for note in result.notes)
    assert json.loads((result.path / "recamlabel-export.json").read_text())["wanted"]["val"] == 0.5


def test_coco_one_annotation_per_class(run: RunFolder, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools", reason="needs the extra export")
    out = export_run(run, "coco", tmp_path / "out").path
    assert files(out) == {
        *(
            f"{kind}/{name}.png"
            for kind in ("images/train", "semantic_train", "panoptic_train")
            for name in ["images/a"]
        ),
        *(f"{kind}/{name}.png" for kind in ("images/val", "semantic_val", "panoptic_val") for name in ["images/b"]),
        *(f"annotations/{kind}_{split}.json" for kind in ("instances", "panoptic") for split in ("train", "val")),
        "recamlabel-export.json",
    }
    tree = json.loads((out / "annotations/instances_val.json").read_text())
    assert tree["categories"] == [
        {"id": 1, "name": "cat", "supercategory": "object"},
        {"id": 2, "name": "dog", "supercategory": "object"},
    ]
    assert tree["images"] == [{"id": 2, "file_name": "images/b.png", "height": 2, "width": 4}]
    encodings = [annotation.pop("segmentation") for annotation in tree["annotations"]]
    assert [encoding["size"] for encoding in encodings] == [[2, 4], [2, 4]]
    assert tree["annotations"] == [
        {"id": 2, "image_id": 2, "category_id": 1, "area": 2, "bbox": [0, 1, 2, 1], "iscrowd": 0},
        {"id": 3, "image_id": 2, "category_id": 2, "area": 2, "bbox": [2, 0, 2, 1], "iscrowd": 0},
    ]
    panoptic = json.loads((out / "annotations/panoptic_train.json").read_text())
    assert panoptic["categories"] == [
        {"id": 1, "name": "cat", "isthing": 0},
        {"id": 2, "name": "dog", "isthing": 0},
        {"id": 3, "name": "background", "isthing": 0},
    ]
    assert panoptic["annotations"] == [
        {
            "image_id": 1,
            "file_name": "images/a.png",
            "segments_info": [
                {"id": 1, "category_id": 3, "area": 3, "bbox": [1, 0, 2, 2], "iscrowd": 0},
                {"id": 2, "category_id": 1, "area": 4, "bbox": [0, 0, 4, 2], "iscrowd": 0},
            ],
        }
    ]
    red = np.array(Image.open(out / "panoptic_train/images/a.png"))
    assert red[..., 0].tolist() == [[2, 1, 2, 2], [0, 1, 1, 2]] and not red[..., 1:].any()
    assert pixels(out / "semantic_train/images/a.png") == A


def test_coco_one_annotation_per_component(run: RunFolder, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools", reason="needs the extra export")
    out = export_run(run, "coco", tmp_path / "out", options=ExportOptions("component")).path
    rows = json.loads((out / "annotations/instances_train.json").read_text())["annotations"]
    assert [(row["category_id"], row["area"], row["bbox"]) for row in rows] == [
        (1, 1, [0, 0, 1, 1]),
        (1, 3, [2, 0, 2, 2]),
    ]
    things = json.loads((out / "annotations/panoptic_train.json").read_text())["categories"]
    assert [thing["isthing"] for thing in things] == [1, 1, 0]


def test_yolo(run: RunFolder, tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="needs the extra export")
    result = export_run(run, "yolo", tmp_path / "out")
    out = result.path
    assert files(out) == {
        *(f"{kind}/train/images__a.png" for kind in ("images", "semantic_masks")),
        *(f"{kind}/val/images__b.png" for kind in ("images", "semantic_masks")),
        "labels/train/images__a.txt",
        "labels/val/images__b.txt",
        "data.yaml",
        "semantic.yaml",
        "recamlabel-export.json",
    }
    rows = (out / "labels/val/images__b.txt").read_text().splitlines()
    assert sorted(row.split()[0] for row in rows) == ["0", "1"]
    assert yaml.safe_load((out / "data.yaml").read_text()) == {
        "train": "images/train",
        "val": "images/val",
        "names": {0: "cat", 1: "dog"},
    }
    assert yaml.safe_load((out / "semantic.yaml").read_text()) == {
        "train": "images/train",
        "val": "images/val",
        "masks_dir": "semantic_masks",
        "names": {0: "background", 1: "cat", 2: "dog"},
    }
    assert "IoU with the masks 100.000 % (mean over 2 classes), so 0.000 points are lost" in result.notes[0]


def test_yolo_names_survive_yaml(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="needs the extra export")
    names = ("yes", "a: b # c", "\x7f\x85tab\t", "🙂 'q\"", "1.0", "- x")
    none = np.zeros((1, 2, 2))
    run = make_run(tmp_path, names, [TinyImage("a", ("yes",), none, none, [[0, 1], [2, 6]], None)])
    out = export_run(run, "yolo", tmp_path / "out").path
    assert list(yaml.safe_load((out / "data.yaml").read_text())["names"].values()) == list(names)
    assert yaml.safe_load((out / "semantic.yaml").read_text())["val"] == "images/train"


def test_huggingface(run: RunFolder, tmp_path: Path) -> None:
    out = export_run(run, "huggingface", tmp_path / "out").path
    assert files(out) == {
        *(f"data/train/{kind}/images/a.png" for kind in ("images", "labels")),
        *(f"data/val/{kind}/images/b.png" for kind in ("images", "labels")),
        *(f"data/{split}/metadata.jsonl" for split in ("train", "val")),
        "id2label.json",
        "README.md",
        "recamlabel-export.json",
    }
    assert json.loads((out / "id2label.json").read_text()) == {"0": "background", "1": "cat", "2": "dog"}
    assert [json.loads(line) for line in (out / "data/train/metadata.jsonl").read_text().splitlines()] == [
        {"file_name": "images/images/a.png", "label_file_name": "labels/images/a.png", "id": "images/a"}
    ]
    card = yaml.safe_load((out / "README.md").read_text().split("---")[1])
    assert card["configs"][0]["data_files"] == [
        {"split": "train", "path": "data/train/**"},
        {"split": "val", "path": "data/val/**"},
    ]
    with Image.open(out / "data/train/labels/images/a.png") as image:
        assert image.mode == "L"


def test_cvat(run: RunFolder, tmp_path: Path) -> None:
    result = export_run(run, "cvat", tmp_path / "out")
    assert "1 withheld pixels have a colour of their own in SegmentationClass and no object" in result.notes
    with zipfile.ZipFile(result.path / "annotations.zip") as archive:
        assert set(archive.namelist()) == {
            "labelmap.txt",
            "ImageSets/Segmentation/train.txt",
            "ImageSets/Segmentation/val.txt",
            *(f"{kind}/images/{name}.png" for kind in ("SegmentationClass", "SegmentationObject") for name in "ab"),
        }
        assert archive.read("labelmap.txt").decode().splitlines() == [
            "# label:color_rgb:parts:actions",
            "background:0,0,0::",
            "cat:128,0,0::",
            "dog:0,128,0::",
            "ignore:224,224,192::",
        ]
        assert archive.read("ImageSets/Segmentation/val.txt") == b"images/b\n"
        with archive.open("SegmentationObject/images/a.png") as stream:
            assert np.array(Image.open(stream))[..., 0].tolist() == [[128, 0, 128, 128], [0, 0, 0, 128]]


def test_labelstudio(run: RunFolder, tmp_path: Path) -> None:
    result = export_run(run, "labelstudio", tmp_path / "out")
    tasks = json.loads((result.path / "tasks.json").read_text())
    assert [task["data"] for task in tasks] == [
        {"image": f"/data/local-files/?d=images/{name}.png", "recamlabel_id": f"images/{name}"} for name in "ab"
    ]
    regions = tasks[0]["predictions"][0]["result"]
    values = [region.pop("value") for region in regions]
    common = {
        "type": "brushlabels",
        "from_name": "brush",
        "to_name": "image",
        "original_width": 4,
        "original_height": 2,
        "image_rotation": 0,
    }
    assert regions == [{"id": "region-1", **common}, {"id": "region-255", **common}]
    assert [(value["format"], value["brushlabels"]) for value in values] == [("rle", ["cat"]), ("rle", ["ignore"])]
    assert decode(values[0]["rle"], (2, 4)).tolist() == (np.array(A) == 1).tolist()
    view = ElementTree.parse(result.path / "label_config.xml").getroot()
    assert [(label.get("value"), label.get("background")) for label in view.iter("Label")] == [
        ("cat", "#800000"),
        ("dog", "#008000"),
        ("ignore", "#e0e0c0"),
    ]
    assert view.find("BrushLabels").attrib == {"name": "brush", "toName": "image"}


def test_labelstudio_quotes_paths_and_names(tmp_path: Path) -> None:
    none = np.zeros((1, 2, 2))
    run = make_run(tmp_path, ('<a> & "b"',), [TinyImage("é ü/🙂#?", (), none, none, [[0, 1]], None)])
    out = export_run(run, "labelstudio", tmp_path / "out").path
    url = json.loads((out / "tasks.json").read_text())[0]["data"]["image"]
    assert url.isascii() and "#" not in url and unquote(url).endswith("?d=é ü/🙂#?.png")
    assert [label.get("value") for label in ElementTree.parse(out / "label_config.xml").iter("Label")] == ['<a> & "b"']


def test_hdf5(run: RunFolder, tmp_path: Path) -> None:
    out = export_run(run, "hdf5", tmp_path / "out").path
    assert files(out) == {"dataset.h5", "recamlabel-export.json"}
    with h5py.File(out / "dataset.h5") as file:
        assert set(file) == {"masks", "ids", "image_paths", "splits", "shapes"}
        assert file["masks/images/a"][()].tolist() == A and file["masks/images/b"][()].tolist() == B
        assert file["ids"].asstr()[()].tolist() == ["images/a", "images/b"]
        assert file["splits"].asstr()[()].tolist() == ["train", "val"]
        assert file["image_paths"].asstr()[0] == str(tmp_path / "run-data/images/a.png")
        assert file["shapes"][()].tolist() == [[2, 4], [2, 4]]
        assert json.loads(file.attrs["class_names"]) == ["background", "cat", "dog"]
        assert file.attrs["ignore_id"] == 255


@pytest.mark.parametrize(
    ("format_name", "class_name", "image_id", "message"),
    [
        ("voc", "a\nb", "a", r"voc cannot hold the class name 'a\\nb': it has a line break in it; rename it, or"),
        ("voc", "a", "a\u2028b", r"voc cannot hold the image id .*a line break"),
        ("voc", "a", " a", r"voc cannot hold the image id ' a': it has blanks at its end"),
        ("cvat", "dent: deep", "a", r"cvat cannot hold the class name 'dent: deep': it has ':' in it"),
        ("cvat", "#1", "a", r"cvat cannot hold the class name '#1': it has a '#' at its start"),
        ("cvat", "a", "#1", r"cvat cannot hold the image id '#1'"),
        ("cvat", "background", "a", r"cvat has a label 'background' of its own"),
        (
            "mmseg",
            "a",
            "x/.a",
            r"mmseg cannot hold the image id 'x/\.a': its readers leave out files .* begin with '\.'; ",
        ),
        ("huggingface", "a", "__x/a", r"huggingface cannot hold the image id '__x/a'"),
        ("labelstudio", "a\nb", "a", r"labelstudio cannot hold the class name"),
    ],
)
def test_names_that_a_format_cannot_hold_are_refused(
    tmp_path: Path, format_name: str, class_name: str, image_id: str, message: str
) -> None:
    none = np.zeros((1, 2, 2))
    run = make_run(tmp_path, (class_name,), [TinyImage(image_id, (), none, none, [[0, 1]], None)])
    with pytest.raises(DatasetError, match=message):
        export_run(run, format_name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("split", ["all", "my split", "train-1"])
def test_splits_that_datasets_cannot_hold_are_refused(tmp_path: Path, split: str) -> None:
    none = np.zeros((1, 2, 2))
    run = make_run(tmp_path, ("a",), [TinyImage("a", (), none, none, [[0, 1]], split)])
    with pytest.raises(DatasetError, match=f"huggingface cannot hold the split '{split}'"):
        export_run(run, "huggingface", tmp_path / "out")


def test_split_names_stay_below_the_export(tmp_path: Path) -> None:
    none = np.zeros((1, 2, 2))
    images = [TinyImage(name, (), none, none, [[0, 1]], split) for name, split in [("a", "../x"), ("b", None)]]
    out = export_run(make_run(tmp_path, ("c",), images), "mmseg", tmp_path / "deep" / "out").path
    assert {path.name for path in (out / "ann_dir").iterdir()} == {"_.._x", "unsplit"}
    assert {path.name for path in tmp_path.iterdir()} == {"run", "run-data", "deep"}
