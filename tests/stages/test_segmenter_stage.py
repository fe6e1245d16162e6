"""The segmenter from the masks to new images, on a tiny generated data set."""

from __future__ import annotations

import json
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from recamlabel.adapters import load_dataset
from recamlabel.cli.main import run as command
from recamlabel.config import load_config
from recamlabel.data.catalog import Catalog
from recamlabel.errors import DatasetError, RecamlabelError, StoreError
from recamlabel.evaluation.evaluate import evaluate_run
from recamlabel.run.engine import make_plan
from recamlabel.run.fit import fit
from recamlabel.run.predict import export_segmenter, open_predictor, predict
from recamlabel.stages import segmenter as stage
from recamlabel.stages.graph import Scope
from recamlabel.stages.networks import encoder_source
from recamlabel.storage.png import write_mask
from tests.helpers import TINY, TINY_SEGMENTER, draw, make_tiny_csv


@pytest.fixture(scope="module")
def finished(copy_run, tmp_path_factory):
    return copy_run(tmp_path_factory.mktemp("segmenter"), *TINY_SEGMENTER)[1]


def test_masks_of_all_images_and_quality(finished):
    with h5py.File(finished.path / "segmenter.h5") as file, h5py.File(finished.path / "masks.h5") as masks:
        for number in range(8):
            item = file[f"images/{number}"]
            assert item.shape == (64, 80) and item.dtype == np.uint8 and item[()].max() <= 2
            assert 0 <= masks[f"images/{number}"].attrs["quality"] <= 1
            assert 0 < item.attrs["support"] <= 1 and len(item.attrs["class_support"]) == len(
                item.attrs["agreement_ids"]
            )
            assert set(item.attrs["agreement_ids"]) == set(masks[f"images/{number}"].attrs["quality_ids"])
    tree = json.loads((finished.path / "quality.json").read_text())
    scores = [tree["images"][name]["score"] for name in tree["order"]]
    assert scores == sorted(scores) and len(scores) == 8
    with h5py.File(finished.path / "segmenter.h5") as file:
        fires = [] if file["images/3"][()].max() == 0 else ["images/3"]  # the one image without a label
    assert tree["normal"] == {"images": 1, "fires": fires}
    assert finished.state.stages["quality"]["fires"] == len(fires)
    assert finished.metrics()["threshold"]["used"] == finished.state.stages["masks"]["threshold"]


def test_only_what_depends_on_it_runs_again(finished, capsys):
    def ran(*lines):
        capsys.readouterr()
        source = finished.path.parent / "data"
        source = source if source.exists() else next(finished.path.parent.glob("*/labels.csv")).parent
        fit(source, finished.path, load_config(assignments=[*TINY_SEGMENTER, *lines]))
        return [line.split(":")[0] for line in capsys.readouterr().err.splitlines() if ": done in" in line]

    assert ran("segmenter.predict.flip=false") == ["segmentation", "quality"]
    assert ran("segmenter.predict.flip=false", "segmenter.predict.crf.iterations=3") == ["segmentation", "quality"]
    assert ran("segmenter.lr=0.02") == ["segmenter", "segmentation", "quality"]
    assert ran("segmenter.enabled=false") == ["quality"]
    assert ran() == ["segmenter", "segmentation", "quality"]


def test_evaluate_the_segmenter_the_scores_and_the_complete_masks(finished, tmp_path):
    for number, names in enumerate((["red"], ["blue"])):
        write_mask(tmp_path / "truth" / f"{number}.png", draw(tmp_path / "x.png", names, number))
    results = {
        what: evaluate_run(finished, tmp_path / "truth", what) for what in ("segmenter", "scores", "complete-masks")
    }
    assert all(0 <= result.miou <= 100 and result.images == 2 for result in results.values())
    assert results["segmenter"].threshold is None and "ground truth" in results["scores"].threshold_origin
    assert results["complete-masks"].scores.coverage == 1


def images(folder):
    for number, size in enumerate([(30, 40), (64, 64), (1, 1)]):
        draw_size = np.random.default_rng(number).integers(0, 256, (*size, 3)).astype(np.uint8)
        (folder / "sub").mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_size).save(folder / "sub" / f"ä {number}.png")
    return folder


def test_predict_labels_new_images(finished, tmp_path, capsys):
    source, out = images(tmp_path / "new"), tmp_path / "out"
    assert command(["predict", str(finished.path), str(source), "--out", str(out), "--probabilities"]) == 0
    assert "masks: 3 in" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == [
        "classes.txt",
        "index.html",
        "masks",
        "masks.h5",
        "overlays",
        "probabilities.h5",
    ]
    assert (out / "classes.txt").read_text() == "red\nblue\n"
    page = (out / "index.html").read_text()
    assert "3 predicted masks" in page and "overlays/sub/%C3%A4%201.jpg" in page and "script" not in page
    for number, size in enumerate([(40, 30), (64, 64), (1, 1)]):
        assert Image.open(out / "overlays" / "sub" / f"ä {number}.jpg").size == size
        assert Image.open(out / "masks" / "sub" / f"ä {number}.png").mode == "P"
    with h5py.File(out / "masks.h5") as masks, h5py.File(out / "probabilities.h5") as soft:
        assert masks.attrs["class_names"] == '["red", "blue"]'
        for number, size in enumerate([(30, 40), (64, 64), (1, 1)]):
            png = np.array(Image.open(out / "masks" / "sub" / f"ä {number}.png"))
            assert png.shape == size and np.array_equal(png, masks[f"sub/ä {number}"][()])
            probabilities = soft[f"sub/ä {number}"][()].astype(float)
            assert probabilities.shape[0] == 3 and np.allclose(probabilities.sum(0), 1, atol=1e-2)


def test_predict_with_the_crf(finished, tmp_path):
    source = images(tmp_path / "new")
    masks = []
    for out, crf in (("with", True), ("without", False), ("as the run", None)):
        assert predict(finished.path, source, tmp_path / out, crf=crf) == 3
        masks.append(np.array(Image.open(tmp_path / out / "masks/sub/ä 1.png")))
    assert masks[0].shape == (64, 64)
    assert np.array_equal(masks[0], masks[2]) and not np.array_equal(masks[0], masks[1])


def test_predict_refuses_before_any_work(finished, tmp_path):
    source = images(tmp_path / "new")
    with pytest.raises(DatasetError, match="nowhere: no such file or folder"):
        predict(finished.path, tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(StoreError, match="lies inside"):
        predict(finished.path, source, source / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(StoreError, match="not an empty folder"):
        predict(finished.path, source, tmp_path / "full")
    (source / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"broken\.jpg"):
        predict(finished.path, source, tmp_path / "out")
    (source / "broken.jpg").unlink()
    Image.new("RGB", (4, 4)).save(source / "sub" / "ä 0.jpg")
    with pytest.raises(DatasetError, match="has the id 'sub/ä 0', which"):
        predict(finished.path, source, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no image in it"):
        predict(finished.path, tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_predict_needs_a_segmenter(copy_run, tmp_path):
    _, run = copy_run(tmp_path, *TINY, "refine.method=none")
    with pytest.raises(StoreError, match="stage 'segmenter' is not finished"):
        predict(run.path, images(tmp_path / "new"), tmp_path / "out")


def test_torchscript_is_checked_and_holds_the_classes(finished, tmp_path):
    target = tmp_path / "model.pt"
    assert export_segmenter(finished.path, target, "torchscript", (64, 96)) <= 1e-3
    extra = {"recamlabel.json": ""}
    model = torch.jit.load(str(target), _extra_files=extra)
    assert json.loads(extra["recamlabel.json"])["classes"] == ["background", "red", "blue"]
    probabilities = model(torch.rand(3, 3, 64, 96))
    assert probabilities.shape == (3, 3, 64, 96) and torch.allclose(
        probabilities.sum(1), torch.ones(3, 64, 96), atol=1e-4
    )
    with pytest.raises(RecamlabelError, match="multiples of 32"):
        export_segmenter(finished.path, tmp_path / "no.pt", "torchscript", (60, 64))
    assert not (tmp_path / "no.pt").exists()


def test_onnx_is_checked(finished, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="ONNX is an extra")
    pytest.importorskip("onnxscript", reason="ONNX is an extra")
    assert (
        command(
            [
                "export-model",
                str(finished.path),
                "--format",
                "onnx",
                "--size",
                "64x64",
                "--out",
                str(tmp_path / "m.onnx"),
            ]
        )
        == 0
    )
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(None, {"images": np.zeros((1, 3, 64, 64), np.float32)})[0]
    assert found.shape == (1, 3, 64, 64)
    assert "red" in session.get_modelmeta().custom_metadata_map["recamlabel"]


@pytest.mark.parametrize(
    "lines", [["data.background=false"], ["masks.ignore=0.2"], ["masks.ignore=none", "masks.threshold=1.0"]]
)
def test_odd_masks_train_a_segmenter_too(copy_run, tmp_path, lines):
    data, run = copy_run(tmp_path, *TINY_SEGMENTER)
    fit(data, run.path, load_config(assignments=[*TINY_SEGMENTER, *lines]))
    with h5py.File(run.path / "masks.h5") as masks, h5py.File(run.path / "segmenter.h5") as predicted:
        values = {int(value) for number in range(8) for value in np.unique(masks[f"images/{number}"][()])}
        if "data.background=false" in lines:
            assert 0 not in values and all(predicted[f"images/{number}"][()].min() > 0 for number in range(8))
        if "masks.threshold=1.0" in lines:
            for number in range(8):
                mask = masks[f"images/{number}"]
                assert set(np.unique(mask[()])) - {0, 255} == set(mask.attrs["kept_ids"].tolist())


@pytest.mark.parametrize("start", ["classifier", "backbone"])
def test_another_encoder_cannot_start_from_the_classifiers_weights(tmp_path, start):
    lines = [*TINY_SEGMENTER, "segmenter.encoder=resnet18", f"segmenter.encoder_weights={start}"]
    with pytest.raises(RecamlabelError, match=rf"cannot start from the {start}'s weights, .* imagenet, embedded, none"):
        fit(make_tiny_csv(tmp_path), tmp_path / "run", load_config(assignments=lines))
    assert not (tmp_path / "run" / "weights").exists()


def test_what_the_encoder_starts_from():
    def start(*lines):
        return encoder_source(load_config(assignments=lines))

    assert start() == "embedded"
    assert start("backbone.weights=w.pt") == "w.pt"
    assert start("backbone.weights=none") == "classifier"
    assert start("segmenter.encoder_weights=classifier") == "classifier"
    assert start("segmenter.encoder_weights=none") == "none"


def test_another_content_of_the_encoders_weights_file_is_another_segmenter(tiny_csv, tmp_path):
    dataset, weights = load_dataset(tiny_csv), tmp_path / "encoder.safetensors"
    catalog = Catalog(dataset, {}, {image.id: image.id for image in dataset.images})
    settings = load_config(assignments=[*TINY_SEGMENTER, f"segmenter.encoder_weights={weights}"])
    keys = []
    for content in (b"one", b"two", b"one"):
        weights.write_bytes(content)
        keys.append(dict(make_plan(Scope(settings, catalog)).keys))
    assert keys[0] == keys[2]
    assert {name for name in keys[0] if keys[0][name] != keys[1][name]} == {"segmenter", "segmentation", "quality"}


@pytest.mark.parametrize(
    ("side", "scale", "expected"),
    [
        ("auto", {}, None),
        ("auto", {"admitted": False, "side": 2048}, None),
        ("auto", {"admitted": True, "side": 640}, None),
        ("auto", {"admitted": True, "side": 1310}, 1310),
        ("auto", {"admitted": True, "side": 4096}, 2000),  # no image is larger
        (900, {"admitted": True, "side": 1310}, 900),
    ],
)
def test_it_looks_at_the_size_at_which_the_classes_are_recognised(side, scale, expected, monkeypatch):
    monkeypatch.setattr(stage, "read_scale", lambda view: scale)
    settings = load_config(assignments=[f"segmenter.side={side}"])
    images = [SimpleNamespace(id=name) for name in "abc"]
    catalog = SimpleNamespace(images=images, shapes={"a": (2000, 100), "b": (2000, 10), "c": (9, 9)})
    assert stage.side_of(SimpleNamespace(config=settings, catalog=catalog)) == expected


def test_what_it_learnt_at_is_what_it_is_asked_at(copy_run, tmp_path):
    _, run = copy_run(tmp_path, *TINY_SEGMENTER, "segmenter.side=96", "segmenter.predict.max_side=64")
    assert run.state.stages["segmenter"]["side"] == 96
    predictor = open_predictor(run.path, "cpu")
    assert predictor.max_side == 96 and predictor.scales == [1.0]
    assert predictor.probabilities([np.zeros((64, 128, 3), np.uint8)]).shape == (1, 3, 24, 48)
