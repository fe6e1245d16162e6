"""Run lengths, brushes and polygons against arrays written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from export_by_hand import scattered_mask

from recamlabel.core.classes import ClassTable
from recamlabel.export.encode.brush_rle import decode, encode
from recamlabel.export.encode.pngs import PALETTE, ids_of_colours
from recamlabel.export.encode.rle import coco_rle, segments
from recamlabel.export.formats.json_rows import json_rows, read_rows

TABLE = ClassTable(("cat", "dog", "cow"))


def ring(size: int = 9) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[1:-1, 1:-1] = 1
    mask[3:-3, 3:-3] = 0
    return mask


def test_brush_bits_by_hand() -> None:
    # 2 pixels: 8 values. Sizes 3, 4, 8, 16; runs of 4 x 0 and 4 x 255, each with the 3-bit size.
    header = f"{8:032b}" + f"{7:05b}" + "0010" + "0011" + "0111" + "1111"
    runs = "1" + "00" + "011" + "00000000" + "1" + "00" + "011" + "11111111"
    bits = (header + runs).ljust(-(-len(header + runs) // 8) * 8, "0")
    assert encode(np.array([[False, True]])) == [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (300, 200)])
def test_brushes_come_back(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for region in (np.zeros(shape, bool), np.ones(shape, bool), rng.random(shape) < 0.5, rng.random(shape) < 0.01):
        assert np.array_equal(decode(encode(region), shape), region)


def test_literal_runs_are_read_too() -> None:
    bits = f"{4:032b}{7:05b}" + "0010" * 4 + "0" + "01" + "011" + "".join(f"{value:08b}" for value in (1, 2, 3, 9))
    bits = bits.ljust(-(-len(bits) // 8) * 8, "0")
    assert decode([int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)], (1, 1)).tolist() == [[True]]


def test_damaged_brushes() -> None:
    data = encode(np.ones((2, 2), bool))
    with pytest.raises(ValueError, match="cut short after 8 bytes"):
        decode(data[:8], (2, 2))
    with pytest.raises(ValueError, match="of 16 values, expected 24"):
        decode(data, (2, 3))


def test_run_lengths_are_those_of_pycocotools() -> None:
    tools = pytest.importorskip("pycocotools.mask")
    for seed in range(8):
        mask = scattered_mask(seed)
        for instances in ("class", "component"):
            for segment in segments(mask, TABLE, instances, background=True):
                whole = np.zeros(mask.shape, np.uint8)
                top, left = segment.top, segment.left
                height, width = segment.pixels.shape
                whole[top : top + height, left : left + width] = segment.pixels
                expected = tools.encode(np.asfortranarray(whole))
                assert coco_rle(segment, mask.shape)["counts"].encode() == expected["counts"]
                assert segment.area == tools.area(expected) and segment.box == tools.toBbox(expected).tolist()


def test_components_have_eight_neighbours_and_one_class() -> None:
    mask = np.array([[1, 0, 2], [0, 1, 2], [255, 0, 0], [1, 0, 0]], np.uint8)
    found = [(segment.class_id, segment.area) for segment in segments(mask, TABLE, "component")]
    assert found == [(1, 2), (1, 1), (2, 2)]
    assert [(s.class_id, s.area) for s in segments(mask, TABLE, "class", background=True)] == [(0, 6), (1, 3), (2, 2)]


def iou(mask: np.ndarray) -> float:
    from recamlabel.export.encode.polygons import fill, polygons

    drawn = fill(list(polygons(mask, TABLE)), mask.shape, mask.dtype)
    valid = mask != 255
    there, again = mask[valid] > 0, drawn[valid] > 0
    assert np.array_equal(drawn[valid][there & again], mask[valid][there & again])
    return (there & again).sum() / max((there | again).sum(), 1)


def test_polygons_keep_holes_and_single_pixels() -> None:
    pytest.importorskip("cv2")
    assert iou(ring()) == 1.0
    for region in ([[1]], [[1, 1, 1]], [[1], [1]], [[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 1], [0, 1]]):
        mask = np.pad(np.array(region, np.uint8), 1)
        assert iou(mask) == 1.0, region
    island = np.pad(ring(), 2)
    island[6, 6] = 2
    assert iou(island) == 1.0


def test_polygon_rows_have_three_points_and_a_box_with_an_area() -> None:
    pytest.importorskip("cv2")
    from recamlabel.export.encode.polygons import polygons

    for seed in range(8):
        mask = scattered_mask(seed)
        height, width = mask.shape
        for polygon in polygons(mask, TABLE):
            assert len(polygon.points) >= 3 and (np.ptp(polygon.points, axis=0) > 0).all()
            assert (polygon.points > 0).all() and (polygon.points < (width, height)).all()


def test_polygons_of_many_holes_lose_little() -> None:
    pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    noise = (rng.random((60, 80)) < 0.8).astype(np.uint8)
    assert iou(noise) > 0.97
    for seed in range(8):
        assert iou(scattered_mask(seed)) > 0.995


def test_colours_to_ids() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(ids_of_colours(PALETTE[every]), every)
    with pytest.raises(Exception, match="not in the VOC palette"):
        ids_of_colours(np.full((1, 1, 3), 7))


def test_json_rows(tmp_path) -> None:
    path = tmp_path / "a.json"
    with json_rows(path, {"x": {"é": 1}, "images": iter(())}, "rows"):
        pass
    assert read_rows(path, "rows", lambda row: True) == []
    with json_rows(path, None) as add:
        add({"a": "]}\n"})
        add({"a": "🙂"})
    assert read_rows(path, None, lambda row: row["a"] == "🙂") == [{"a": "🙂"}]
    assert path.read_text().count("\n") == 4
