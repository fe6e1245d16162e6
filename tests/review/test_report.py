"""The report: one page, nothing fetched, everything escaped, honest about what is missing."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from run_by_hand import TinyImage, make_run

from recamlabel.adapters.base import LabelledImage
from recamlabel.core.classes import ClassTable
from recamlabel.errors import ConfigError, StoreError
from recamlabel.evaluation.evaluate import evaluate_run, record
from recamlabel.masks.reviewed import Decision, ReviewFolder
from recamlabel.review.page import report
from recamlabel.review.page.charts import charts, training_steps
from recamlabel.review.page.gallery import choose_images
from recamlabel.review.page.layers import map_layer, mask_layer
from recamlabel.review.page.report import write_report
from recamlabel.review.page.thumbnails import class_colours, mask_overlay, thumbnail
from recamlabel.storage.png import write_mask
from recamlabel.storage.run_folder import RunFolder

EVIL = "<script>alert('x')</script>"
CLASSES = (EVIL, "dog & cat")


class Page(HTMLParser):
    """Tags with their attributes, the visible text, and whether every tag is closed in order."""

    VOID = frozenset({"meta", "img", "link", "br", "input", "path", "use"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.open, self.scripts = "", list[str](), list[str]()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.text += f" {data}"

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    one, none = np.eye(4)[None], np.zeros((0, 4, 4))
    images = [
        TinyImage("images/a", (EVIL,), one, one, np.eye(8, dtype=int), split="train"),
        TinyImage("images/b", CLASSES, np.stack([*one, *one]), np.stack([*one, *one]), np.full((8, 8), 2), split="val"),
        TinyImage("images/c", (), none, none, np.zeros((8, 8), int), split="val"),
    ]
    run = make_run(tmp_path, CLASSES, images)
    for step in (10, 20, 30):
        run.log(stage="classifier", event="step", step=step, steps=30, loss=1 / step, lr=0.1)
        run.log(
            stage="recam",
            event="step",
            step=step,
            steps=30,
            loss=1,
            loss_bce=0.1,
            loss_sce=9 / step,
            accuracy=step / 40,
        )
    run.state.config = {"preset": "quick", "masks": {"threshold": 0.5}, "maps": {"scales": [1.0, 0.5]}}
    run.state.dataset = {"source": f"/data/{EVIL}.csv"}
    run.state.versions = {"torch": "2.14"}
    run.save()
    return run


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    for name, mask in {"a": np.eye(8), "b": np.full((8, 8), 2), "c": np.full((8, 8), 255)}.items():
        write_mask(tmp_path / "truth" / f"{name}.png", mask.astype(np.uint8))
    return tmp_path / "truth"


def page_of(path: Path) -> Page:
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_page_needs_nothing_else(run: RunFolder, truth: Path) -> None:
    path = write_report(run, truth)
    assert path == run.path / "report.html"
    html = path.read_text(encoding="utf-8")
    page = page_of(path)
    assert {"link", "iframe", "base", "object"}.isdisjoint(tag for tag, _ in page.tags)
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
    outside = re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)
    assert not re.search(r"https?://|@import|url\((?!#|data:image/)", outside)
    assert len(html) < 5_000_000


def test_only_our_script_may_run(run: RunFolder, truth: Path) -> None:
    page = page_of(write_report(run, truth))
    assert [tag.get("type") for tag in page.named("script")] == ["application/json", "text/plain", None]
    policy = next(tag["content"] or "" for tag in page.named("meta") if tag.get("http-equiv"))
    digest = base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_names_are_text_everywhere(run: RunFolder, truth: Path) -> None:
    record(run, evaluate_run(run, truth, "masks"))
    ReviewFolder(run.path).add([Decision("images/b", "fix", EVIL, source="page:" + EVIL)], {}, 255)
    page = page_of(write_report(run, truth))
    assert page.text.count(EVIL) >= 4
    assert f"/data/{EVIL}.csv" in page.text
    assert "dog & cat" in page.text
    assert any(EVIL in (image["alt"] or "") for image in page.named("img"))
    data = json.loads(page.scripts[0])
    assert "<" not in page.scripts[0]
    assert [(card["image"], card["status"], card["note"]) for card in data["cards"]] == [
        ("images/a", None, ""),
        ("images/b", "fix", EVIL),
        ("images/c", None, ""),
    ]


def decoded(uri: str | None) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode((uri or "").partition(",")[2])))


def test_pictures_of_each_card(run: RunFolder, truth: Path) -> None:
    page = page_of(write_report(run, truth))
    images = page.named("img")
    assert [image["alt"] for image in images] == [
        f"CAM map of {EVIL} in images/a",
        f"ReCAM map of {EVIL} in images/a",
        "Mask of images/a",
        "True mask of images/a",
        f"CAM map of {EVIL} in images/b",
        "CAM map of dog & cat in images/b",
        f"ReCAM map of {EVIL} in images/b",
        "ReCAM map of dog & cat in images/b",
        "Mask of images/b",
        "True mask of images/b",
        "Mask of images/c",
        "True mask of images/c",
    ]
    photos = [div["aria-label"] for div in page.named("div") if div.get("role") == "img"]
    assert photos == [f"Image images/a: {EVIL}", f"Image images/b: {EVIL}, dog & cat", "Image images/c: no label"]
    for image in images:
        size = (4, 4) if "map" in (image["alt"] or "") else (8, 8)
        assert (decoded(image["src"]).format, decoded(image["src"]).size) == ("PNG", size)
    for card in page.named("article"):
        assert decoded((card["style"] or "")[len("--photo:url(") : -1]).size == (8, 8)
    assert page.text.count("no label, no map") == 2


def test_without_truth_and_scores_it_says_so(run: RunFolder) -> None:
    page = page_of(write_report(run))
    assert "No scores: this run was not compared with true masks." in page.text
    assert not any("True mask" in (image["alt"] or "") for image in page.named("img"))


def test_scores_and_outdated_scores(run: RunFolder, truth: Path) -> None:
    for what in ("masks", "cam-seeds"):
        record(run, evaluate_run(run, truth, what))  # type: ignore[arg-type]
    text = page_of(write_report(run)).text
    assert "CAM seeds" in text and "chosen with ground truth" in text
    assert "100.0" in text
    assert "measured on an earlier version" not in text
    run.finish("masks", "another-key", 1.0, ["masks.h5"])
    text = page_of(write_report(run)).text
    assert text.count("measured on an earlier version") == 1
    assert "(earlier masks)" in text


def test_facts_tables_and_curves(run: RunFolder) -> None:
    text = " ".join(page_of(write_report(run)).text.split())
    for part in (
        "images 3 classes 2 labels per image 1.00 without a label 1 size in pixels 8×8 splits train 1, val 2",
        "maps 1.5 s",
        "masks 1 min 05 s",
        "masks.threshold 0.5",
        "maps.scales [1.0, 0.5]",
        "torch 2.14",
        "background 0 – 62.5",
        "Classifier: loss",
        "SCE (softmax) from 0.9 to 0.3 over 30 optimiser steps",
        "labels told apart from 0.25 to 0.75 over 30 optimiser steps",
    ):
        assert part in text, part


def test_a_labelled_class_without_a_pixel_has_a_badge_and_is_first(run: RunFolder) -> None:
    plain = {"withheld": 0.0, "withheld_classes": {}, "missing": [], "kept": []}
    images = {
        "images/b": {**plain, "score": 0.0, "classes": {EVIL: 0.0, CLASSES[1]: 0.4}, "missing": [EVIL]},
        "images/a": {**plain, "score": 0.3, "classes": {EVIL: 0.2}, "kept": [EVIL]},
        "images/c": {**plain, "score": 0.9, "classes": {}},
    }
    (run.path / "quality.json").write_text(json.dumps({"order": list(images), "images": images}))
    run.finish("quality", "key", 0.0, ["quality.json"])
    page = page_of(write_report(run))
    badges = [attributes["class"] for attributes in page.named("span") if "badge" in (attributes.get("class") or "")]
    assert badges == ["badge", "badge doubt"]
    assert f"missing: {EVIL}" in page.text and f"own level: {EVIL}" in page.text
    assert page.text.index("missing: ") < page.text.index("own level: ")


@pytest.mark.parametrize(
    ("normal", "shown"),
    [
        ({"images": 80, "fires": ["images/a", "images/b", "images/c"]}, "the segmenter fires on 3 of 80 normal images"),
        ({"images": 1, "fires": []}, "the segmenter fires on 0 of 1 normal image"),
        ({"images": 0, "fires": []}, ""),
        (None, ""),
    ],
)
def test_what_the_segmenter_finds_where_nothing_is(run: RunFolder, normal: dict[str, Any] | None, shown: str) -> None:
    images = {
        f"images/{name}": {
            "withheld": 0.0,
            "withheld_classes": {},
            "missing": [],
            "kept": [],
            "score": 1,
            "classes": {},
        }
        for name in "abc"
    }
    tree = {"order": list(images), "images": images} | ({} if normal is None else {"normal": normal})
    (run.path / "quality.json").write_text(json.dumps(tree))
    run.finish("quality", "key", 0.0, ["quality.json"])
    text = " ".join(page_of(write_report(run)).text.split())
    assert shown in text and ("fires on" in text) == bool(shown)


def test_unfinished_run(run: RunFolder) -> None:
    for name in ("work/maps.h5", "masks.h5", "work/log.jsonl"):
        (run.path / name).unlink()
    run.begin("maps")
    run.begin("masks")
    text = page_of(write_report(run)).text
    assert text.count("not made yet") == 9
    assert "Nothing was logged yet." in text
    assert "No stage is finished yet." in text


def test_same_run_same_page(run: RunFolder, truth: Path) -> None:
    first = write_report(run, truth).read_bytes()
    assert write_report(run, truth).read_bytes() == first


def test_truth_for_a_part_shows_that_part_first(run: RunFolder, truth: Path) -> None:
    (truth / "a.png").unlink()
    page = page_of(write_report(run, truth, max_images=2))
    assert [image["alt"] for image in page.named("img") if "True" in (image["alt"] or "")] == [
        "True mask of images/b",
        "True mask of images/c",
    ]
    assert page_of(write_report(run, truth)).text.count("no true mask") == 1


def test_refusals_leave_the_old_page(run: RunFolder, tmp_path: Path) -> None:
    before = write_report(run).read_bytes()
    with pytest.raises(ConfigError, match="images in the report: expected at least 1, or all, got 0"):
        write_report(run, max_images=0)
    with pytest.raises(StoreError, match="no such folder; expected the folder with the true masks"):
        write_report(run, tmp_path / "gone")
    (run.path / "masks.h5").write_bytes(b"broken")
    with pytest.raises(StoreError, match=r"masks\.h5: not a readable HDF5 file"):
        write_report(run)
    assert (run.path / "report.html").read_bytes() == before
    (run.path / "work/dataset.json").unlink()
    with pytest.raises(StoreError, match=r"dataset\.json: no such file; run `recamlabel fit` first"):
        write_report(run)


def labelled(number: int, *present: str) -> LabelledImage:
    return LabelledImage(f"{number:02d}", Path(f"{number}.jpg"), frozenset(present), frozenset())


def test_chosen_images_cover_every_class_first() -> None:
    table = ClassTable(("a", "b", "c"))
    images = [labelled(number, "a") for number in range(20)] + [labelled(20, "b", "c"), labelled(21, "c"), labelled(22)]
    assert [image.id for image in choose_images(images, table, 2)] == ["00", "20"]
    five = choose_images(images, table, 5)
    assert [image.id for image in five] == ["00", "01", "08", "15", "20"]
    assert choose_images(images, table, 5) == five
    assert choose_images(images, table, 99) == images
    assert [image.id for image in choose_images(images, table, 1)] == ["00"]
    assert choose_images([], table, 5) == []


def test_steps_after_a_restart_or_a_kill() -> None:
    def steps(*numbers: int) -> list[dict[str, Any]]:
        return [{"stage": "s", "event": "step", "step": step, "loss": index} for index, step in enumerate(numbers)]

    assert [(event["step"], event["loss"]) for event in training_steps(steps(10, 20, 30, 10, 20), "s")] == [
        (10, 3),
        (20, 4),
    ]
    assert [(event["step"], event["loss"]) for event in training_steps(steps(10, 20, 30, 25, 30), "s")] == [
        (10, 0), (20, 1), (25, 3), (30, 4),
    ]  # fmt: skip
    noise = [{"stage": "s", "event": "start"}, {"event": "step"}, {"stage": "s", "event": "step", "step": "x"}]
    assert training_steps(noise, "s") == []
    assert charts(noise) == []


def test_map_layer_by_hand() -> None:
    picture = np.asarray(decoded(map_layer(np.array([[0.0, 0.5, 1.0]]))).convert("RGBA")).astype(int)[0]
    assert picture.shape == (3, 4)
    assert picture[0, :3].sum() < 20 < picture[1, :3].sum() < picture[2, :3].sum()
    assert picture[:, 3].tolist() == sorted(picture[:, 3]) and picture[2, 3] == 255
    assert decoded(map_layer(np.zeros((300, 600)))).size == (96, 48)


def test_mask_layer_by_hand() -> None:
    table = ClassTable(("a", "b"))
    mask = np.zeros((10, 10), np.uint8)
    mask[:, 4:] = 2
    mask[:, 8:] = 255
    layer = np.asarray(decoded(mask_layer(mask, 5, 5, table)).convert("RGBA"))
    assert (layer[:, :2, 3] == 0).all(), "background is clear"
    assert (layer[:, 2:] == 255).all(), "outlines meet: white"
    whole = np.asarray(decoded(mask_layer(np.full((4, 4), 2), 4, 4, table)).convert("RGBA"))
    assert (whole == [*class_colours(table)[2], 255]).all()
    ignored = np.asarray(decoded(mask_layer(np.full((6, 6), 255), 6, 6, table)).convert("RGBA"))
    rows, columns = np.mgrid[:6, :6]
    expected = np.where(((rows + columns) % 6 < 2)[..., None], 60, class_colours(table)[-1])
    np.testing.assert_array_equal(ignored[..., :3], expected)
    assert decoded(mask_layer(mask, 5, 5, table)).info["ids"] == "0 2 255 0 2 255 0 2 255"


def test_mask_layer_of_more_values_than_a_palette_holds() -> None:
    table = ClassTable(tuple(map(str, range(300))))
    mask = np.arange(300).reshape(10, 30)
    layer = decoded(mask_layer(np.kron(mask, np.ones((4, 4), int)), 40, 120, table)).convert("RGBA")
    assert (np.asarray(layer)[1::4, 1::4][9, 9, :3] == class_colours(table)[279]).all()


def test_mask_overlay_by_hand() -> None:
    table = ClassTable(("a", "b"))
    image = np.full((5, 5, 3), 100, dtype=np.uint8)
    mask = np.zeros((5, 5), np.uint8)
    mask[:, 2:] = 2
    picture = mask_overlay(image, mask, table)
    assert (picture[:, :2] == 100).all()
    assert (picture[:, 2] == 255).all(), "outline"
    expected = np.floor(100 * 0.45 + class_colours(table)[2] * 0.55)
    assert np.abs(picture[2, 4] - expected).max() <= 1
    ignored = mask_overlay(image, np.full((10, 10), 255, np.uint8), table)
    assert ignored.shape == (5, 5, 3) and (ignored[0, :2] < ignored[0, 2:4]).all(), "hatched"


def test_class_colours_differ() -> None:
    colours = class_colours(ClassTable(tuple(map(str, range(12)))))[1:].astype(int)
    distances = np.abs(colours[:, None] - colours[None]).sum(axis=2)[~np.eye(13, dtype=bool)]
    assert distances.min() > 40


def test_thumbnail_keeps_the_shape_and_never_enlarges() -> None:
    assert thumbnail(np.zeros((100, 400, 3), np.uint8), 200).shape == (50, 200, 3)
    assert thumbnail(np.zeros((10, 4, 3), np.uint8), 200).shape == (10, 4, 3)
    assert thumbnail(np.zeros((1000, 1, 3), np.uint8), 10).shape == (10, 1, 3)


def test_a_forced_run_says_so_at_the_head_of_every_page(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "PAGE_IMAGES", 1)
    one = np.ones((1, 2, 2))
    run = make_run(tmp_path, ("cat",), [TinyImage(name, ("cat",), one, one, [[0, 1, 1, 0, 255]]) for name in "ab"])
    assert "--force" not in write_report(run, max_images=None).read_text()
    run.state.stages["maps"]["useless"] = True
    run.save()
    write_report(run, max_images=None)
    for name in ("report.html", "report-2.html"):
        head, _, rest = (run.path / name).read_text().partition("</header>")
        assert '<span class="badge">learnt nothing</span> The training of maps learnt nothing and was gone on' in head
        assert "no map, mask or score of this run is to be trusted" in head
        assert "withheld</button></li>" in rest and "no label (ignored)" not in rest
