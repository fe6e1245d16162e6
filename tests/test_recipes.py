"""The recipes of the paper load whole, and their evaluation works on the folders that the data sets have."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import load_script
from PIL import Image
from run_by_hand import TinyImage, make_run

from recamlabel.cli.main import run as run_cli
from recamlabel.config import load_config
from recamlabel.core.classes import voc_palette
from recamlabel.errors import ConfigError
from recamlabel.evaluation.evaluate import evaluate_run
from recamlabel.storage.run_folder import RunFolder

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.mark.parametrize(("name", "classes"), [("voc12", 20), ("voc12_saliency", 20), ("coco14", 80)])
def test_a_recipe_is_complete(name: str, classes: int) -> None:
    file = RECIPES / f"{name}.toml"
    config = load_config("quick", file)
    assert config == load_config("paper", file)  # no setting is left to a preset
    assert len(config.data.classes) == len(set(config.data.classes)) == classes


def test_published_settings() -> None:
    voc, coco = (load_config("quick", RECIPES / f"{name}.toml") for name in ("voc12", "coco14"))
    for config in (voc, coco):
        assert (config.backbone.name, config.backbone.weights, config.backbone.output_stride) == (
            "resnet50",
            "imagenet",
            16,
        )
        assert (config.augment.resize_min, config.augment.resize_max, config.augment.crop_size) == (320, 640, 512)
        assert (config.classifier.lr, config.classifier.head_lr_factor, config.classifier.epochs) == (0.1, 10, 5)
        assert (config.classifier.momentum, config.classifier.weight_decay) == (1e-4, 1e-4)
        assert (config.recam.lr, config.recam.backbone_lr_factor, config.recam.epochs) == (5e-4, 0.1, 4)
        assert config.maps.scales == [1.0, 0.5, 1.5, 2.0]
        assert (config.affinity.fg_level, config.affinity.bg_level, config.affinity.radius) == (0.35, 0.10, 10)
        assert (config.affinity.walk_radius, config.affinity.beta, config.affinity.log2_steps) == (5, 10, 8)
        assert config.refine.method == "random_walk"
    assert (voc.recam.loss_weight, voc.recam.batch_size, voc.masks.threshold) == (1.0, 16, 0.28)
    assert (coco.recam.loss_weight, coco.recam.batch_size, coco.masks.threshold) == (0.1, 6, 0.25)
    # 10,582 images of train_aug: docs/method.md's source has about 2,600 steps of re-activation.
    assert (voc.classifier.steps(10582), voc.recam.steps(10582)) == (3307, 2646)
    assert coco.classifier.steps(82081) == 25650


def test_the_saliency_recipe_is_the_other_with_saliency() -> None:
    plain, salient = (load_config("quick", RECIPES / f"{name}.toml") for name in ("voc12", "voc12_saliency"))
    assert salient.refine.saliency and not plain.refine.saliency
    refine = salient.refine.model_copy(update={"saliency": ""})
    assert salient.model_copy(update={"refine": refine}) == plain


def test_recipes_are_what_the_command_line_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["config", "--config", str(RECIPES / "voc12.toml")]) == 0
    assert "threshold = 0.28" in capsys.readouterr().out


@pytest.fixture
def voc(tmp_path: Path) -> tuple[RunFolder, Path]:
    """VOCdevkit/VOC2012 in small: palette masks with void, lists, and a run with ids below JPEGImages."""
    classes = load_config("quick", RECIPES / "voc12.toml").data.classes
    names = ("2007_000032", "2007_000033", "2007_000039")
    truth = {
        "2007_000032": [[0, 1, 255, 1]],
        "2007_000033": [[0, 0, 20, 20]],
        "2007_000039": [[20, 20, 20, 20]],
    }
    devkit = tmp_path / "VOCdevkit" / "VOC2012"
    (devkit / "SegmentationClass").mkdir(parents=True)
    (devkit / "ImageSets" / "Segmentation").mkdir(parents=True)
    for name in names:
        image = Image.fromarray(np.array(truth[name], np.uint8))
        image.putpalette(voc_palette().tobytes())
        image.save(devkit / "SegmentationClass" / f"{name}.png")
    (devkit / "ImageSets/Segmentation/train.txt").write_text("2007_000039\n")
    (devkit / "ImageSets/Segmentation/val.txt").write_text("2007_000032\n2007_000033\n")
    plane, tv = [[[0.1, 0.9, 0.9, 0.9]]], [[[0.1, 0.1, 0.9, 0.9]]]
    run = make_run(
        tmp_path,
        classes,
        [
            TinyImage("JPEGImages/2007_000032", ("aeroplane",), plane, plane, [[0, 1, 1, 0]], "train_aug"),
            TinyImage("JPEGImages/2007_000033", ("tvmonitor",), tv, tv, [[0, 0, 20, 20]], "train_aug"),
            TinyImage("JPEGImages/2007_000039", ("tvmonitor",), tv, tv, [[0, 20, 20, 20]], "train_aug"),
        ],
    )
    return run, devkit


def test_voc_protocol_on_a_small_copy(voc: tuple[RunFolder, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """21 classes with the background, void left out, one confusion matrix over the list's images."""
    run, devkit = voc
    truth, lists = str(devkit / "SegmentationClass"), devkit / "ImageSets" / "Segmentation"
    command = ["evaluate", str(run.path), "--truth", truth, "--json"]
    assert run_cli([*command, "--ids", str(lists / "val.txt")]) == 0
    masks = json.loads(capsys.readouterr().out)
    assert len(masks["per_class"]) == 21 and masks["images"] == 2
    assert (masks["split"], masks["ids"]) == ("val.txt", str(lists / "val.txt"))
    # Background: 3 of 4; aeroplane: 1 of 2; tvmonitor: 2 of 2. Classes without a pixel take no part.
    assert masks["miou"] == pytest.approx(100 * (3 / 4 + 1 / 2 + 1) / 3, abs=1e-3)
    assert run_cli([*command, "--ids", str(lists / "train.txt"), "--what", "recam-seeds"]) == 0
    seeds = json.loads(capsys.readouterr().out)
    assert seeds["images"] == 1 and seeds["threshold_origin"] == "chosen with ground truth"
    assert set(RunFolder.open(run.path).metrics()["evaluation"]) == {"masks/val.txt", "recam-seeds/train.txt"}


def test_a_list_of_ids_that_does_not_fit(voc: tuple[RunFolder, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run, devkit = voc
    (devkit / "wrong.txt").write_text("2007_000032\n2010_000001\n")
    command = ["evaluate", str(run.path), "--truth", str(devkit / "SegmentationClass"), "--ids"]
    assert run_cli([*command, str(devkit / "wrong.txt")]) == 1
    assert "wrong.txt, row 2: no image '2010_000001'" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="give one of the two"):
        evaluate_run(run, devkit, split="train_aug", ids=devkit / "wrong.txt")


def test_coco_truth_masks(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools", reason="needs the extra export")
    module = load_script(RECIPES / "coco_truth_masks.py")
    box = {"iscrowd": 0, "area": 1, "bbox": [0, 0, 1, 1]}
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 90, "segmentation": {"size": [1, 3], "counts": [0, 2, 1]}, **box},
        {"id": 2, "image_id": 7, "category_id": 13, "segmentation": {"size": [1, 3], "counts": [1, 1, 1]}, **box},
    ]
    images = [{"id": 7, "file_name": "COCO_val2014_7.jpg", "height": 1, "width": 3}]
    categories = [{"id": number, "name": str(number)} for number in (90, 13, 1)]
    file = tmp_path / "instances.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    assert module.write_masks(file, tmp_path / "out") == 1
    with Image.open(tmp_path / "out" / "COCO_val2014_7.png") as mask:
        assert mask.mode == "L" and np.array(mask).tolist() == [[3, 2, 0]]
