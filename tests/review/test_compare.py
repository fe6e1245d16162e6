"""Two runs side by side: every figure by hand, the page, and what cannot be compared."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_by_hand import TinyImage, make_run

from recamlabel.data.catalog import load_catalog
from recamlabel.errors import ConfigError, DatasetError, StoreError
from recamlabel.review.compare.page import share_rows, write_comparison
from recamlabel.review.compare.runs import Difference, ImageChange, compare_runs, mask_change
from recamlabel.review.page.html import change
from recamlabel.review.page.thumbnails import DIFFERENCE, difference_overlay
from recamlabel.storage.png import write_mask
from recamlabel.storage.run_folder import RunFolder

EVIL = "<script>alert('x')</script>"
CLASSES = (EVIL, "dog")


def tiny(name: str, mask: list[list[int]], labels: tuple[str, ...] = CLASSES) -> TinyImage:
    maps = np.zeros((len(labels), 2, 2))
    return TinyImage(name, labels, maps, maps, mask)


def settings(run: RunFolder, **values: object) -> RunFolder:
    run.state.config = {"seed": 0, "maps": {"flip": True, "scales": [1.0, 0.5]}, **values}
    run.state.dataset = {"source": "/data", "fingerprint": "f"}
    run.save()
    return run


@pytest.fixture
def runs(tmp_path: Path) -> tuple[RunFolder, RunFolder]:
    one = [
        tiny("images/a", [[0, 1, 1, 1]]),
        tiny("images/b", [[0, 0, 2, 255]]),
        tiny("images/c", [[2, 2, 2, 2]]),
        tiny("images/gone", [[1, 1, 1, 1]]),
    ]
    two = [
        tiny("images/b", [[1, 2, 2, 255]]),
        tiny("images/a", [[0, 0, 1, 1]]),
        tiny("images/c", [[2, 2, 2, 2]]),
        tiny("images/new", [[0, 0, 0, 0]]),
    ]
    first = settings(make_run(tmp_path, CLASSES, one, "one"))
    second = settings(make_run(tmp_path, CLASSES, two, "two"), seed=1, maps={"flip": True, "scales": [1.0]}, extra=None)
    second.finish("masks", "other-key", 1.0, ["masks.h5"])
    second.finish("edges", "edges-key", 1.0, [])
    return first, second


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    write_mask(tmp_path / "truth" / "a.png", np.array([[0, 0, 1, 1]], np.uint8))
    write_mask(tmp_path / "truth" / "b.png", np.array([[0, 0, 2, 2]], np.uint8))
    return tmp_path / "truth"


def test_the_page_runs_no_script(tmp_path: Path) -> None:
    """A content policy on every page: what a class is called is text."""
    from recamlabel.review.page.html import static_file

    for name in ("compare.html.j2", "predicted.html.j2"):
        assert 'include "policy.html.j2"' in static_file(name)
    assert "default-src 'none'" in static_file("policy.html.j2") and "script-src" not in static_file("policy.html.j2")


def test_every_figure_by_hand(runs: tuple[RunFolder, RunFolder]) -> None:
    found = compare_runs(*runs)
    assert found.images == (
        # Values 0, 1, 2, 255: no pixel of 0 in common, none of 1, one of the two 2s, the 255.
        ImageChange("images/b", 0.5, (0 + 0 + 1 / 2 + 1) / 4),
        ImageChange("images/a", 0.25, (1 / 2 + 2 / 3) / 2),
        ImageChange("images/c", 0.0, 1.0),
    )
    assert (found.equal, found.mean_change) == (1, 0.25)
    assert (found.only_first, found.only_second) == (("images/gone",), ("images/new",))
    assert found.other_content == found.other_size == () and found.scores is None
    assert found.settings == (Difference("seed", 0, 1), Difference("maps.scales", [1.0, 0.5], [1.0]))
    assert found.stages == (
        Difference("edges", None, "edges-key"), Difference("masks", "masks-key", "other-key")
    )  # fmt: skip
    assert found.pixels_first.tolist() == [3, 3, 5, 1] and found.pixels_second.tolist() == [2, 3, 6, 1]
    assert found.notes() == [
        f"1 image in {runs[0].path} only: images/gone",
        f"1 image in {runs[1].path} only: images/new",
    ]


def test_the_other_way_round_is_the_mirror_image(runs: tuple[RunFolder, RunFolder]) -> None:
    one, two = compare_runs(*runs), compare_runs(*runs[::-1])
    assert one.images == two.images and one.pixels_first.tolist() == two.pixels_second.tolist()
    assert list(one.settings) == [Difference(d.name, d.second, d.first) for d in two.settings]


def test_a_run_equals_itself(runs: tuple[RunFolder, RunFolder], tmp_path: Path) -> None:
    found = compare_runs(runs[0], runs[0])
    assert found.settings == found.stages == () and found.equal == 4 and found.notes() == []
    page = write_comparison(found, tmp_path / "same.html").read_text(encoding="utf-8")
    assert "None: all masks are equal." in page and "Nothing differs." in page


def test_scores_are_over_the_same_images(runs: tuple[RunFolder, RunFolder], truth: Path) -> None:
    write_mask(truth / "gone.png", np.array([[2, 2, 2, 2]], np.uint8))
    scores = compare_runs(*runs, truth).scores
    assert scores is not None and scores.images == 2
    # A: background 3 of 4 (union 4), class one 2 of 3, dog 1 of 2. B: 2 of 4, 2 of 3, 1 of 3.
    assert scores.first.iou.tolist() == [3 / 4, 2 / 3, 1 / 2]
    assert scores.second.iou.tolist() == [2 / 4, 2 / 3, 1 / 3]
    # Without the withheld dog pixel; neither run's scores are there, so nothing is said of the complete masks.
    assert [side.tolist() for side in scores.iou()] == [[3 / 4, 2 / 3, 1], [2 / 4, 2 / 3, 1 / 2]]
    assert [(one.name, one.first, one.second) for one in scores.measures] == [
        ("mIoU of what remains", pytest.approx(29 / 36), pytest.approx(20 / 36)), ("coverage", 7 / 8, 7 / 8)
    ]  # fmt: skip
    assert scores.notes == (f"{truth} has no mask for 1 image: not scored",)


def test_rows_of_classes(runs: tuple[RunFolder, RunFolder], truth: Path) -> None:
    rows = list(share_rows(compare_runs(*runs, truth)))
    assert [row["name"] for row in rows] == ["background", EVIL, "dog", "withheld"]
    assert [row["first"] for row in rows] == pytest.approx([25, 25, 500 / 12, 100 / 12])
    assert [row["iou_second"] for row in rows] == [50, pytest.approx(200 / 3), 50, None]
    assert sum(row["second"] for row in rows) == pytest.approx(100)


def test_the_page(runs: tuple[RunFolder, RunFolder], truth: Path, tmp_path: Path) -> None:
    page = write_comparison(compare_runs(*runs, truth), tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not re.search(r'(src|href)="(?!data:|#)|https?://|@import', page)
    assert re.findall(r'alt="([^"]*)"', page) == [
        text
        for name in ("images/b", "images/a")
        for text in (
            f"Image {name}", f"Mask of {name} in A", f"Mask of {name} in B", f"Where the masks of {name} differ",
        )
    ]  # fmt: skip
    for uri in re.findall(r'src="data:image/webp;base64,([^"]*)"', page):
        assert Image.open(io.BytesIO(base64.b64decode(uri))).size == (4, 1)
    for text in (
        "maps.scales",
        "[1.0, 0.5]",
        "other-key",
        "50.0 % of the pixels differ",
        "80.6 → 55.6",
        "mIoU of what remains",
        "−25.0, 95 % interval −",
        "images/gone",
    ):
        assert text in page, text
    one = write_comparison(compare_runs(*runs), tmp_path / "one.html", max_images=1).read_text(encoding="utf-8")
    assert one.count("<article") == 1 and "IoU A" not in one


def test_nothing_is_written_into_the_runs(runs: tuple[RunFolder, RunFolder], truth: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for run in runs for path in run.path.rglob("*") if path.is_file()}
    write_comparison(compare_runs(*runs, truth), tmp_path / "compare.html")
    assert {path: path.read_bytes() for run in runs for path in run.path.rglob("*") if path.is_file()} == before


def test_other_classes_are_named(runs: tuple[RunFolder, RunFolder], tmp_path: Path) -> None:
    other = make_run(tmp_path, ("cat", "dog"), [tiny("images/a", [[0]], ("cat",))], "cats")
    with pytest.raises(DatasetError, match=r"other classes: .*one alone has <script>.*cats alone has cat; "):
        compare_runs(runs[0], other)
    turned = make_run(tmp_path, CLASSES[::-1], [tiny("images/a", [[0]], ("dog",))], "turned")
    with pytest.raises(DatasetError, match=r"the same classes in another order.*turned has dog, <script>"):
        compare_runs(runs[0], turned)


def test_no_image_in_common(runs: tuple[RunFolder, RunFolder], tmp_path: Path) -> None:
    other = make_run(tmp_path, CLASSES, [tiny("photos/a", [[0]])], "other")
    with pytest.raises(DatasetError, match=r"no image in common: images/a, .* against photos/a; compare runs on"):
        compare_runs(runs[0], other)


def test_images_of_another_size_or_content(runs: tuple[RunFolder, RunFolder], tmp_path: Path) -> None:
    images = [tiny("images/a", [[0, 0]]), tiny("images/c", [[2, 2, 2, 2]])]
    other = make_run(tmp_path, CLASSES, images, "other")
    text = re.sub(r'"hash": "\w+"', '"hash": "1"', (other.path / "work/dataset.json").read_text())
    (other.path / "work/dataset.json").write_text(text)
    assert set(load_catalog(other.path / "work/dataset.json").hashes.values()) == {"1"}
    found = compare_runs(runs[0], other)
    assert [image.id for image in found.images] == ["images/c"] and found.other_size == ("images/a",)
    assert found.notes()[-2:] == [
        "2 images with another file content in the two runs: images/a, images/c",
        "1 image left out, because their masks have another size in the two runs: images/a",
    ]
    small = make_run(tmp_path, CLASSES, images[:1], "small")
    with pytest.raises(DatasetError, match="masks of all 1 common images differ in size"):
        compare_runs(runs[0], small)


def test_unfinished_and_damaged_runs(runs: tuple[RunFolder, RunFolder], tmp_path: Path) -> None:
    runs[1].begin("masks")
    with pytest.raises(StoreError, match=r"two: stage 'masks' is not finished; run `recamlabel fit` again"):
        compare_runs(*runs)
    runs[1].finish("masks", "k", 1.0, ["masks.h5"])
    (runs[1].path / "masks.h5").write_bytes(b"broken")
    with pytest.raises(StoreError, match=r"masks\.h5: not a readable HDF5 file"):
        compare_runs(*runs)


@pytest.mark.parametrize(("name", "message"), [("page.png", "not the name of a page"), (".", "a folder")])
def test_where_no_page_can_be(runs: tuple[RunFolder, RunFolder], tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"{message}; expected a file such as compare.html"):
        write_comparison(compare_runs(*runs), tmp_path / name)


def test_change_of_one_mask() -> None:
    mask = np.array([[0, 3], [3, 255]], np.uint8)
    assert mask_change("a", mask, mask) == ImageChange("a", 0.0, 1.0)
    assert mask_change("a", mask, np.full((2, 2), 7, np.uint8)) == ImageChange("a", 1.0, 0.0)
    wide = np.array([[65535, 300]], np.uint16)
    assert mask_change("a", wide, wide[:, ::-1]) == ImageChange("a", 1.0, 0.0)


def test_difference_overlay_by_hand() -> None:
    image = np.full((1, 6, 3), 100, dtype=np.uint8)
    first = np.array([[1, 0, 1, 255, 1, 0]])
    second = np.array([[0, 1, 2, 0, 1, 0]])
    picture = difference_overlay(image, first, second, 255)[0]
    expected = [np.array(colour) * 0.8 + 100 * 0.2 for colour in DIFFERENCE.values()]
    assert np.abs(picture[:4] - np.array(expected)).max() <= 1
    assert (picture[4:] == 100).all(), "equal pixels show the image"


def test_signed_figures() -> None:
    assert [change(value) for value in (1.26, -0.74, 0.04, -0.04)] == ["+1.3", "−0.7", "0.0", "0.0"]
