"""Masks that come back from CVAT, Label Studio and folders of PNGs: what is taken, what is left out and said."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from run_by_hand import TinyImage, make_run

from recamlabel.core.classes import voc_palette
from recamlabel.errors import StoreError
from recamlabel.export.encode.brush_rle import encode
from recamlabel.export.encode.pngs import colour_png
from recamlabel.masks.reviewed import ReviewedMasks, ReviewFolder
from recamlabel.review.decisions.take_in import ImportResult, import_decisions
from recamlabel.review.foreign.shapes import box, ellipse, polygon
from recamlabel.storage.run_folder import RunFolder

CLASSES = ("cat", "dog")
HEIGHT, WIDTH = 4, 6
BASE = np.array([[1, 1, 0, 0, 255, 255]] * 2 + [[0] * 6] * 2, np.uint8)
NEW = np.array([[1, 1, 1, 0, 255, 255], [1, 2, 2, 0, 255, 255], [0, 2, 2, 0, 0, 0], [0] * 6], np.uint8)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Images i/a to i/d labelled cat and dog, i/n labelled with nothing; the last pixels of two rows are withheld."""
    maps = np.zeros((2, 2, 2))
    images = [TinyImage(f"i/{letter}", CLASSES, maps, maps, BASE) for letter in "abcd"]
    images.append(TinyImage("i/n", (), maps[:0], maps[:0], np.zeros_like(BASE)))
    return make_run(tmp_path, CLASSES, images)


def take(run: RunFolder, path: Path) -> ImportResult:
    return import_decisions(run, [path])


def mask_of(run: RunFolder, image: str) -> list[list[int]]:
    found: list[list[int]] = ReviewedMasks(run.path)(image).tolist()
    return found


# ---- CVAT for images


def cvat(path: Path, *images: str) -> Path:
    path.write_text(f'<?xml version="1.0"?><annotations><version>1.1</version>{"".join(images)}</annotations>')
    return path


def image(name: str, *shapes: str, size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    return f'<image id="0" name="{name}" width="{size[0]}" height="{size[1]}">{"".join(shapes)}</image>'


RLE = '<mask label="{}" rle="{}" left="{}" top="{}" width="{}" height="{}" z_order="{}"></mask>'
CAT = RLE.format("cat", "0, 3, 0, 1, 2", 0, 0, 3, 2, 0)
DOG = RLE.format("dog", "0, 4", 1, 1, 2, 2, 1)


def test_cvat_masks_polygons_and_their_order(run: RunFolder, tmp_path: Path) -> None:
    square = '<polygon label="{}" points="{}" z_order="{}"/>'
    dog = square.format("dog", "1.0,1.0;3.0,1.0;3.0,3.0;1.0,3.0", 1)
    cat = square.format("cat", "0,0;3,0;3,1;1,1;1,2;0,2", 0)
    path = cvat(
        tmp_path / "annotations.xml",
        image("i/a.png", DOG, CAT),
        image("b.png", dog, cat),
        image("upload/i/c.jpg", square.format("cat", "0,0;2,0;2,2;0,2", 0)),
        image("i/n.png"),
    )
    lines = take(run, path).lines()
    assert lines[0] == "review: 4 decisions recorded (4 accepted, 2 painted)"
    assert "annotations.xml: 12 withheld pixels that nobody painted stay withheld" in lines
    assert mask_of(run, "i/a") == NEW.tolist() == mask_of(run, "i/b"), "a later shape lies over an earlier one"
    assert ReviewFolder(run.path).kinds() == {
        "i/a": "painted", "i/b": "painted", "i/c": "accepted", "i/n": "accepted",
    }  # fmt: skip
    assert ReviewFolder(run.path).decisions()["i/a"].source == "cvat:annotations.xml"
    assert take(run, path).lines()[0] == "review: 0 decisions recorded, 4 as before"


def test_cvat_what_is_left_out_is_named_and_the_rest_taken(run: RunFolder, tmp_path: Path) -> None:
    path = cvat(
        tmp_path / "annotations.xml",
        image("i/a.png", CAT),
        image("i/b.png", CAT.replace("cat", "cta")),
        image("i/c.png"),
        image("i/d.png", DOG, size=(8, 4)),
        image("<z>".replace("<", "&lt;"), CAT),
        image("i/n.png", DOG, '<points label="cat" points="1,1"/>', '<polyline label="cat" points="1,1;2,2"/>'),
    )
    lines = take(run, path).lines()
    assert lines[0] == "review: 2 decisions recorded (2 accepted, 2 painted)"
    text = "\n".join(lines)
    for part in (
        "not taken: 1 image with the label 'cta', which the run has not (did you mean 'cat'?): i/b",
        "not taken: 1 image without any shape although the labels name classes",
        "not taken: 1 image with a mask of another size than the image (8x4): i/d",
        "not taken: 1 image that the run has not: <z>",
        "1 mask with a class that the image's label denies: i/n; taken as painted",
        "shapes without an area were left out: 1 points, 1 polyline",
    ):
        assert part in text, part
    assert set(ReviewFolder(run.path).kinds()) == {"i/a", "i/n"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotations", "not readable XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>', "not readable XML"),
        ("<html></html>", "root <html>; expected <annotations>"),
        ("<annotations><track/></annotations>", "export the task from CVAT as 'CVAT for images 1.1'"),
        ("<annotations></annotations>", "no mask of it was taken\n  it holds no image"),
        (f"<annotations>{image('i/a', RLE.format('cat', '0, 3', 0, 0, 3, 2, 0))}</annotations>", "runs do not fill"),
        (f"<annotations>{image('i/a', RLE.format('cat', '0, 6', 5, 0, 3, 2, 0))}</annotations>", "beyond the image"),
        (f"<annotations>{image('i/a', RLE.format('cat', 'x', 5, 0, 3, 2, 0))}</annotations>", "with a damaged shape"),
        (
            f"<annotations>{image('i/a', DOG)}{image('i/a', CAT)}</annotations>",
            "found in it twice, with different masks",
        ),
    ],
)
def test_cvat_files_that_cannot_be_taken(run: RunFolder, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.xml").write_text(text)
    with pytest.raises(StoreError) as refused:
        take(run, tmp_path / "x.xml")
    assert message in str(refused.value) and str(tmp_path / "x.xml") in str(refused.value)
    assert ReviewFolder(run.path).history() == []


# ---- CVAT's segmentation masks


LABEL_MAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ndog:0,128,0::\nignore:224,224,192::\ncat:128,0,0::\n"


def archive(path: Path, files: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path


@pytest.mark.parametrize("unpacked", [False, True])
def test_cvat_segmentation_masks(run: RunFolder, tmp_path: Path, unpacked: bool) -> None:
    known = np.where(NEW == 255, 0, NEW).astype(np.uint8)
    files: dict[str, bytes | str] = {
        "labelmap.txt": LABEL_MAP,
        "ImageSets/Segmentation/default.txt": "i/a\ni/b\ni/c\n",
        "SegmentationClass/i/a.png": colour_png(known),
        "SegmentationClass/i/b.png": colour_png(np.full((HEIGHT, WIDTH), 3, np.uint8)),
        "SegmentationObject/i/a.png": colour_png(known),
    }
    path = archive(tmp_path / "task.zip", files)
    if unpacked:
        with zipfile.ZipFile(path) as file:
            file.extractall(path := tmp_path / "task")
    lines = take(run, path).lines()
    assert lines[0] == "review: 1 decision recorded (1 accepted, 1 painted)"
    assert mask_of(run, "i/a") == NEW.tolist()
    text = "\n".join(lines)
    assert "1 image listed in ImageSets/Segmentation/ without a mask in SegmentationClass/: i/c" in text
    assert "1 image with a colour that labelmap.txt does not name (128, 128, 0): i/b" in text


def test_archives_that_cannot_be_taken(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(b"PK")
    unknown = LABEL_MAP.replace("cat", "lion")
    cat = np.where(NEW == 1, 1, 0).astype(np.uint8)
    cases = {
        "broken.zip": "not a readable zip archive",
        archive(tmp_path / "empty.zip", {"a.txt": ""}).name: "no mask in it; expected index PNGs",
        archive(tmp_path / "map.zip", {"labelmap.txt": LABEL_MAP}).name: "a labelmap.txt, but no mask",
        archive(tmp_path / "bad.zip", {"labelmap.txt": "cat\n", "SegmentationClass/i/a.png": ""}).name: "line 1: 'cat'",
        archive(
            tmp_path / "twin.zip", {"labelmap.txt": "a:1,1,1::\nb:1,1,1::", "SegmentationClass/i/a.png": ""}
        ).name: "'a' and 'b' have one colour",
        archive(
            tmp_path / "lion.zip", {"labelmap.txt": unknown, "SegmentationClass/i/a.png": colour_png(cat)}
        ).name: "with the label 'lion', which the run has not",
        archive(
            tmp_path / "png.zip", {"labelmap.txt": LABEL_MAP, "SegmentationClass/i/a.png": b"\x89PNG"}
        ).name: "with a damaged PNG: i/a",
    }
    for name, message in cases.items():
        with pytest.raises(StoreError) as refused:
            take(run, tmp_path / name)
        assert message in str(refused.value), name
    assert ReviewFolder(run.path).history() == []


# ---- Label Studio


def brush(label: str, region: np.ndarray, size: tuple[int, int] = (HEIGHT, WIDTH)) -> dict[str, Any]:
    value = {"format": "rle", "rle": encode(region), "brushlabels": [label]}
    return {
        "id": label, "type": "brushlabels", "original_height": size[0], "original_width": size[1], "image_rotation": 0,
        "value": value,
    }  # fmt: skip


def task(data: Any, *results: Any, **more: Any) -> dict[str, Any]:
    return {"data": data, "annotations": [{"result": list(results), "was_cancelled": False, **more}]}


def studio(path: Path, *tasks: Any) -> Path:
    path.write_text(json.dumps(tasks))
    return path


def test_label_studio_brushes_and_polygons(run: RunFolder, tmp_path: Path) -> None:
    cat, dog, withheld = brush("cat", NEW == 1), brush("dog", NEW == 2), brush("ignore", NEW == 255)
    corners = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in ((1, 1), (3, 1), (3, 3), (1, 3))]
    shape = {**dog, "type": "polygonlabels", "value": {"points": corners, "polygonlabels": ["dog"]}}
    apart = [
        {**cat, "type": "brush", "value": {"format": "rle", "rle": encode(NEW == 1)}},
        {**cat, "type": "labels", "value": {"labels": ["cat"]}},
    ]
    path = studio(
        tmp_path / "project.json",
        task({"image": "/data/x.png", "recamlabel_id": "i/a"}, cat, dog, withheld),
        task({"image": "/data/local-files/?d=photos/i/b.png"}, cat, shape),
        task({"image": "/data/upload/1/0123abcd-c.png"}, *apart, dog, updated_at="2026-11-22T20:00:00.5Z"),
        task({"image": "i/d.png"}),
        {**task({"image": "i/n.png"}, cat), "annotations": []},
    )
    lines = take(run, path).lines()
    assert lines[0] == "review: 3 decisions recorded (3 accepted, 3 painted)"
    for name in ("i/a", "i/b", "i/c"):
        assert mask_of(run, name) == NEW.tolist(), name
    decision = ReviewFolder(run.path).decisions()["i/c"]
    assert (decision.source, decision.time) == ("labelstudio:project.json", "2026-11-22T20:00:00.500+00:00")
    text = "\n".join(lines)
    assert "1 task without a submitted annotation (skipped or deleted): not taken" in text
    assert "1 image without any shape although the labels name classes" in text and ": i/d" in text


def test_label_studio_what_is_left_out(run: RunFolder, tmp_path: Path) -> None:
    cat = brush("cat", NEW == 1)
    turned, cut = {**cat, "image_rotation": 90}, {**cat, "value": {**cat["value"], "rle": [0, 0, 1]}}
    path = studio(
        tmp_path / "project.json",
        task({"image": "i/a.png"}, cat, {"type": "keypointlabels", "value": {"keypointlabels": ["cat"]}}),
        task({"image": "i/b.png"}, turned),
        task({"image": "i/c.png"}, cut),
        {"data": {"image": "i/d.png"}, "annotations": [{"result": [cat]}, {"result": [brush("dog", NEW == 2)]}]},
        task({"image": "i/n.png"}, brush("cat", np.ones((9, 9), bool), (9, 9))),
        task({"text": 3}, cat),
    )
    text = "\n".join(take(run, path).lines())
    for part in (
        "1 decision recorded",
        "regions of kinds that are not read were left out: 1 keypointlabels",
        "1 image turned in Label Studio: i/b",
        "1 image with a damaged region (brush encoding cut short after 3 bytes): i/c",
        "1 image found in it twice, with different masks",
        "1 image with a mask of another size than the image (9x9): i/n",
        "1 image that the run has not: a task without an image",
    ):
        assert part in text, part
    assert set(ReviewFolder(run.path).kinds()) == {"i/a"}


def test_label_studio_predictions_are_no_review(run: RunFolder, tmp_path: Path) -> None:
    cancelled = task({"image": "i/a.png"}, brush("cat", NEW == 1), was_cancelled=True)
    predicted = {"data": {"image": "i/b.png"}, "predictions": [{"result": [brush("cat", NEW == 1)]}]}
    with pytest.raises(StoreError, match="2 tasks, none with a submitted annotation"):
        take(run, studio(tmp_path / "tasks.json", cancelled, predicted))


# ---- index PNGs


def pngs(folder: Path, **images: Image.Image | np.ndarray) -> Path:
    for name, picture in images.items():
        (folder / "i").mkdir(parents=True, exist_ok=True)
        (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(folder / f"i/{name}.png")
    return folder


def palette_image(mask: np.ndarray, palette: np.ndarray) -> Image.Image:
    picture = Image.fromarray(mask)
    picture.putpalette(palette.astype(np.uint8).tobytes())
    return picture


def test_index_pngs_of_every_kind(run: RunFolder, tmp_path: Path) -> None:
    voc, places = voc_palette(), [0, 7, 9]
    # As an editor sorts a palette: other numbers, the same colours.
    moved = np.zeros_like(NEW)
    sorted_palette = np.zeros((256, 3))
    for number, class_id in zip([3, 2, 1, 0], [0, 1, 2, 255], strict=True):
        moved[class_id == NEW], sorted_palette[number] = number, voc[class_id]
    own = np.random.default_rng(0).integers(0, 255, (256, 3))
    own[places] = 1
    folder = pngs(
        tmp_path / "masks",
        a=NEW,
        b=palette_image(NEW, voc),
        c=palette_image(moved, sorted_palette),
        d=palette_image(NEW, own),
        n=Image.open(io.BytesIO(colour_png(NEW))),
    )
    lines = take(run, folder).lines()
    assert lines[0] == "review: 5 decisions recorded (5 accepted, 5 painted)"
    for name in "abcdn":
        assert mask_of(run, f"i/{name}") == NEW.tolist(), name
    assert "masks: 1 mask with a sorted palette: colours, not numbers, were read" in lines


def test_index_pngs_that_are_left_out(run: RunFolder, tmp_path: Path) -> None:
    colours = np.zeros((HEIGHT, WIDTH, 3), np.uint8) + 3
    (tmp_path / "masks/i").mkdir(parents=True)
    (tmp_path / "masks/i/n.png").write_bytes(b"no picture")
    folder = pngs(tmp_path / "masks", a=NEW, b=NEW + 3, c=NEW.T.copy(), d=colours, z=NEW)
    text = "\n".join(take(run, folder).lines())
    for part in (
        "1 decision recorded",
        "1 image with values that are no class id (3, 4, 5): i/b",
        "1 image with a mask of another size than the image, turned (4x6): i/c",
        "1 image in colour (mode RGB), with colours that are not the VOC palette's: i/d",
        "1 image with a damaged PNG: i/n",
        "1 image that the run has not: i/z.png",
    ):
        assert part in text, part


def swapped_run(folder: Path) -> tuple[RunFolder, dict[str, np.ndarray]]:
    """Twelve images of a cat or of a dog, and their masks with the two ids the other way round."""
    maps, images, masks = np.zeros((1, 2, 2)), [], {}
    for number in range(12):
        mine = number % 2
        images.append(TinyImage(f"i/{number}", (CLASSES[mine],), maps, maps, np.zeros_like(BASE)))
        masks[str(number)] = np.where(BASE == 1, 2 - mine, 0).astype(np.uint8)
    return make_run(folder, CLASSES, images), masks


def test_ids_in_another_order_are_noticed_and_names_help(tmp_path: Path) -> None:
    run, masks = swapped_run(tmp_path)
    folder = pngs(tmp_path / "masks", **masks)
    with pytest.raises(StoreError, match=r"(?s)0 of 12 images agree .* 12 do\. Nothing was recorded.*:\n  dog\n  cat$"):
        take(run, folder)
    assert ReviewFolder(run.path).history() == []
    (folder / "classes.txt").write_text("dog\ncat\n")
    assert len(take(run, folder).recorded) == 12
    assert set(np.unique(mask_of(run, "i/0"))) == {0, 1} and set(np.unique(mask_of(run, "i/1"))) == {0, 2}
    (folder / "classes.txt").write_text("background\ndog\ncats\n")
    with pytest.raises(StoreError, match=r"classes\.txt, line 3: with the label 'cats', .*did you mean 'cat'"):
        take(run, folder)


def test_two_tools_that_disagree(run: RunFolder, tmp_path: Path) -> None:
    xml = cvat(tmp_path / "annotations.xml", image("i/a.png", CAT))
    folder = pngs(tmp_path / "masks", a=NEW)
    with pytest.raises(StoreError, match=r"disagree about 1 image:\n  i/a: accepted, painted, in .*\.xml, acc"):
        import_decisions(run, [xml, folder])
    assert ReviewFolder(run.path).history() == []
    import_decisions(run, [xml, folder], take="last")
    assert mask_of(run, "i/a") == NEW.tolist()


def test_names_that_fit_two_images(tmp_path: Path) -> None:
    maps = np.zeros((2, 2, 2))
    run = make_run(tmp_path, CLASSES, [TinyImage(name, CLASSES, maps, maps, BASE) for name in ("x/a", "y/a", "b")])
    path = cvat(tmp_path / "annotations.xml", image("a.png", CAT), image("x__a.png", CAT), image("../../b.png", CAT))
    result = take(run, path)
    assert {decision.image for decision in result.recorded} == {"x/a", "b"}
    assert "1 image whose name fits two images or more; name them by their whole id: a.png" in "\n".join(result.lines())


# ---- shapes


def by_hand(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Even-odd rule, pixel by pixel."""
    found = np.zeros(shape, bool)
    for row in range(shape[0]):
        for column in range(shape[1]):
            x, y, inside = column + 0.5, row + 0.5, False
            for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
                if (y0 <= y) != (y1 <= y) and x >= x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                    inside = not inside
            found[row, column] = inside
    return found


@pytest.mark.parametrize("make", [lambda g: g.uniform(-4, 24, (7, 2)), lambda g: g.integers(0, 20, (9, 2)) + 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_polygons_pixel_by_pixel(make: Callable[[np.random.Generator], np.ndarray], seed: int) -> None:
    points = np.asarray(make(np.random.default_rng(seed)), dtype=float)
    np.testing.assert_array_equal(polygon(points, (16, 20)), by_hand(points, (16, 20)))


def test_boxes_and_ellipses() -> None:
    upright = box(1, 1, 5, 3, 90, (3, 2))
    assert np.argwhere(polygon(upright, (6, 6)))[[0, -1]].tolist() == [[0, 2], [3, 3]]
    assert ellipse(2.5, 1.5, 2.0, 1.0, 0, (3, 5)).astype(int).tolist() == [
        [0, 0, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0],
    ]  # fmt: skip
    np.testing.assert_array_equal(ellipse(3, 3, 2, 1, 90, (6, 6)), ellipse(3, 3, 1, 2, 0, (6, 6)))
    assert not polygon(np.array([[0.0, 0.0], [np.nan, 2.0], [3.0, 3.0]]), (4, 4)).any()
