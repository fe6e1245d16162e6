"""Painting in the review page, in a real browser: exact to the pixel from the mouse to the run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_by_hand import downloaded, opened, reloaded, state
from PIL import Image
from run_by_hand import TinyImage, make_run, with_present_images

from recamlabel.core.classes import ClassTable
from recamlabel.masks.render import render_mask
from recamlabel.masks.reviewed import ReviewedMasks, ReviewFolder
from recamlabel.review.decisions.take_in import import_decisions
from recamlabel.review.page.planes import level_codes, stored_levels
from recamlabel.review.page.report import write_report
from recamlabel.storage.hdf5 import ShardedWriter
from recamlabel.storage.run_folder import RunFolder

EVIL = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2>"
CLASSES = ("cat", EVIL)
HEIGHT, WIDTH, LEVEL = 48, 64, 0.5
TABLE = ClassTable(CLASSES)

pytestmark = pytest.mark.review


def scores_of(number: int) -> np.ndarray:
    rows, columns = np.mgrid[:12, :16]
    one = 255 - 12 * np.hypot(rows - 6, columns - 5 - number)
    two = 200 - 20 * np.hypot(rows - 3, columns - 12)
    return np.stack([one, two]).clip(0, 255).astype(np.uint8)


def mask_of(number: int) -> np.ndarray:
    mask = np.asarray(render_mask(scores_of(number), [1, 2], (HEIGHT, WIDTH), LEVEL, TABLE)).copy()
    mask[30:40, 10:30] = 255
    return mask


def segmenter_of(number: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:20, 5 : 20 + number] = 2
    return mask


def build(folder: Path, count: int = 3) -> RunFolder:
    """Images i/0 to i/2 with scores, masks and the segmenter's masks."""
    maps = np.linspace(0, 1, 384).reshape(2, 12, 16)
    images = [TinyImage(f"i/{number}", CLASSES, maps, maps, mask_of(number)) for number in range(count)]
    run = make_run(folder, CLASSES, images)
    stored = (("work/scores.h5", scores_of, {"class_ids": np.array([1, 2])}), ("segmenter.h5", segmenter_of, {}))
    for name, pick, ids in stored:
        with ShardedWriter(run.path / name, "key", {}) as writer:
            for number in range(count):
                path = f"scores/i/{number}" if ids else f"i/{number}"
                writer.add(f"i/{number}", {path: (pick(number), ids)})
            writer.finish()
    run.finish("refine", "refine-key", 1.0, ["work/scores.h5"])
    run.finish("segmentation", "segmentation-key", 1.0, ["segmenter.h5"])
    rows = {
        f"i/{number}": {
            "score": 0.2 + number / 10, "withheld": 0.0, "classes": {}, "withheld_classes": {},
            "missing": ["cat"] if number == 1 else [],
        }
        for number in range(count)
    }  # fmt: skip
    (run.path / "quality.json").write_text(json.dumps({"order": ["i/1", "i/0", *list(rows)[2:]], "images": rows}))
    run.finish("quality", "quality-key", 0.1, ["quality.json"])
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = build(tmp_path_factory.mktemp("editor"))
    write_report(run)
    return run


@pytest.fixture
def page(context: Any, run: RunFolder) -> Iterator[Any]:
    page = opened(context, run)
    yield page
    assert page.trouble == []
    assert page.evaluate("window.hacked") is None


def until(page: Any, condition: str) -> None:
    """Wait for a condition of the page; playwright's own waiting would need a script that the page forbids."""
    for _ in range(100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true: {condition}")


def edit(page: Any, image: str = "i/0") -> None:
    page.get_by_role("article", name=image, exact=True).get_by_role("button", name="Edit mask").click()
    until(page, "document.getElementById('editor').open && document.getElementById('sheet').style.transform")


def spot(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where a point of the image is on the screen."""
    left, top, width = page.evaluate(
        "(({left, top, width}) => [left, top, width])(document.getElementById('sheet').getBoundingClientRect())"
    )
    scale = width / WIDTH
    return left + x * scale, top + y * scale


def stroke(page: Any, *points: tuple[float, float]) -> None:
    page.mouse.move(*spot(page, *points[0]))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*spot(page, *point))
    page.mouse.up()


def under(points: list[tuple[float, float]], size: float) -> np.ndarray:
    """Pixels with their centre at most half of ``size`` from the line through the points."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    reached = np.zeros((HEIGHT, WIDTH), bool)
    for (x0, y0), (x1, y1) in zip(points, points[1:] or points, strict=False):
        dx, dy = x1 - x0, y1 - y0
        length = dx * dx + dy * dy
        along = np.clip(((columns - x0) * dx + (rows - y0) * dy) / length, 0, 1) if length else 0.0
        reached |= (columns - x0 - along * dx) ** 2 + (rows - y0 - along * dy) ** 2 <= (size / 2) ** 2
    return reached


def brush_size(page: Any, size: int) -> None:
    page.locator("#brush-size").fill(str(size))


def recorded(page: Any, tmp_path: Path) -> tuple[RunFolder, dict[str, Any]]:
    """Download what was decided, import it into a run like the page's, and give both."""
    if page.locator("#editor").evaluate("one => one.open"):
        page.locator("#editor-close").click()
    tree = downloaded(page, tmp_path / "decisions.json")
    run = build(tmp_path)
    import_decisions(run, [tmp_path / "decisions.json"])
    return run, {one["image"]: one for one in tree["decisions"]}


def test_strokes_are_exact_from_the_mouse_to_the_run(page: Any, tmp_path: Path) -> None:
    edit(page)
    path = [(5.3, 4.2), (30.1, 9.7), (31.4, 25.2), (60.0, 40.3)]
    brush_size(page, 7)
    page.locator("#editor-classes").get_by_label(EVIL).check()
    stroke(page, *path)
    brush_size(page, 1)
    stroke(page, (2.5, 2.5))
    page.locator("#editor-classes").get_by_label("withheld").check()
    brush_size(page, 4)
    stroke(page, (50.0, 5.0), (58.0, 5.0))
    page.locator("#editor-accept").click()
    expected = mask_of(0)
    expected[under(path, 7)] = 2
    expected[2, 2] = 2
    expected[under([(50.0, 5.0), (58.0, 5.0)], 4)] = 255
    run, entries = recorded(page, tmp_path)
    np.testing.assert_array_equal(ReviewedMasks(run.path)("i/0"), expected)
    assert entries["i/0"]["status"] == "accepted" and entries["i/0"]["painted"]["size"] == [HEIGHT, WIDTH]
    assert ReviewFolder(run.path).kinds() == {"i/0": "painted"}


def test_strokes_are_exact_at_another_zoom_and_place(page: Any, tmp_path: Path) -> None:
    edit(page)
    page.mouse.move(*spot(page, 20, 20))
    page.mouse.wheel(0, -700)
    page.keyboard.press("h")
    stroke(page, (20.0, 20.0), (23.0, 24.0))
    page.keyboard.press("b")
    brush_size(page, 9)
    path = [(18.25, 20.5), (24.75, 27.25)]
    stroke(page, *path)
    run, _ = recorded(page, tmp_path)
    expected = mask_of(0)
    expected[under(path, 9)] = 1
    np.testing.assert_array_equal(ReviewedMasks(run.path)("i/0"), expected)


def test_eraser_and_fill_and_steps_back(page: Any, tmp_path: Path) -> None:
    edit(page)
    base, path = mask_of(0), [(3.0, 24.0), (60.0, 14.0)]
    brush_size(page, 12)
    page.keyboard.press("e")
    page.locator("#editor-classes").get_by_label("cat").check()
    stroke(page, *path)
    erased = np.where(under(path, 12) & (base == 1), 0, base)
    assert (erased != base).any() and (erased == 2).sum() == (base == 2).sum(), "of one class alone"
    page.keyboard.press("g")
    page.locator("#editor-classes").get_by_label(EVIL).check()
    page.mouse.click(*spot(page, 20.5, 35.5))
    filled = np.where(base == 255, 2, erased)
    page.keyboard.press("b")
    stroke(page, (5.0, 5.0))
    for _ in range(3):
        page.keyboard.press("Control+z")
    assert page.locator("#editor-undo").is_disabled()
    for key in ("Control+y", "Control+Shift+z"):
        page.keyboard.press(key)
    run, _ = recorded(page, tmp_path)
    np.testing.assert_array_equal(ReviewedMasks(run.path)("i/0"), filled)


def test_the_slider_shows_the_mask_of_every_level_and_spares_paint(page: Any, tmp_path: Path, run: RunFolder) -> None:
    levels, used = stored_levels(run)
    assert used == LEVEL and len(levels) == 19
    edit(page)
    brush_size(page, 6)
    page.locator("#editor-classes").get_by_label(EVIL).check()
    stroke(page, (20.0, 30.0))
    slider = page.locator("#level")
    assert slider.input_value() == str(len(levels) - 1 - levels.index(LEVEL))
    slider.fill("17")
    assert "background level 0.10" in page.locator("#level-value").inner_text()
    slider.fill("15")
    expected = np.array(render_mask(scores_of(0), [1, 2], (HEIGHT, WIDTH), levels[3], TABLE))
    assert (expected > 0).sum() > (mask_of(0) > 0).sum(), "larger"
    expected[under([(20.0, 30.0)], 6)] = 2
    run, _ = recorded(page, tmp_path)
    np.testing.assert_array_equal(ReviewedMasks(run.path)("i/0"), expected)


@pytest.mark.parametrize("seed", range(3))
def test_codes_of_levels_are_the_masks_of_the_levels(seed: int) -> None:
    scores = np.random.default_rng(seed).integers(0, 256, (3, 9, 7)).astype(np.uint8)
    levels, ids = [0.1, 0.25, 0.5, 0.6, 200 / 255, 0.9], [2, 5, 7]
    codes = level_codes(scores, (40, 33), levels).astype(int)
    table = ClassTable(tuple("abcdefg"))
    for place, level in enumerate(levels):
        above = (codes - 1) // 3 + 1 > place
        mask = np.where((codes > 0) & above, np.array(ids)[(codes - 1) % 3], 0)
        np.testing.assert_array_equal(mask, render_mask(scores, ids, (40, 33), level, table))


def test_the_segmenters_mask_and_clear_withheld(page: Any, tmp_path: Path) -> None:
    edit(page)
    page.locator("#take-segmenter").click()
    until(page, "!document.getElementById('editor-undo').disabled")
    page.keyboard.press("k")
    until(page, "document.getElementById('editor-name').textContent === 'i/1'")
    page.locator("#clear-withheld").click()
    page.keyboard.press("j")
    until(page, "document.getElementById('editor-name').textContent === 'i/0'")
    page.keyboard.press("j")
    until(page, "document.getElementById('editor-name').textContent === 'i/2'")
    page.locator("#clear-withheld").click()
    page.locator("#take-made").click()
    run, entries = recorded(page, tmp_path)
    masks = ReviewedMasks(run.path)
    np.testing.assert_array_equal(masks("i/0"), segmenter_of(0))
    whole = render_mask(scores_of(1), [1, 2], (HEIGHT, WIDTH), LEVEL, TABLE)
    np.testing.assert_array_equal(masks("i/1"), whole)
    assert set(entries) == {"i/0", "i/1"}, "i/2 is as it was made"


def test_paint_survives_a_reload_and_goes_on_after_the_import(context: Any, tmp_path: Path) -> None:
    run = build(tmp_path)
    write_report(run)
    page = opened(context, run)
    edit(page)
    brush_size(page, 9)
    stroke(page, (60.0, 44.0))
    page.locator("#editor-close").click()
    reloaded(page)
    assert state(page, "i/0") == "painted" and "1 painted" in page.locator("#progress").inner_text()
    downloaded(page, tmp_path / "one.json")
    import_decisions(run, [tmp_path / "one.json"])
    expected = mask_of(0)
    expected[under([(60.0, 44.0)], 9)] = 1
    np.testing.assert_array_equal(ReviewedMasks(run.path)("i/0"), expected)
    write_report(run)
    reloaded(page)
    edit(page)
    brush_size(page, 5)
    stroke(page, (55.0, 30.0))
    page.locator("#editor-close").click()
    downloaded(page, tmp_path / "two.json")
    import_decisions(run, [tmp_path / "two.json"])
    expected[under([(55.0, 30.0)], 5)] = 1
    np.testing.assert_array_equal(ReviewedMasks(run.path)("i/0"), expected)
    assert page.trouble == []


def test_a_file_with_paint_is_loaded_back(page: Any, run: RunFolder, browser: Any, tmp_path: Path) -> None:
    edit(page)
    brush_size(page, 9)
    stroke(page, (60.0, 44.0))
    page.locator("#editor-close").click()
    tree = downloaded(page, tmp_path / "decisions.json")
    bad = {**tree["decisions"][0], "image": "i/1", "painted": {"size": [1, 1], "runs": [0, 1]}}
    (tmp_path / "more.json").write_text(json.dumps({**tree, "decisions": [*tree["decisions"], bad]}))
    elsewhere = browser.new_context(accept_downloads=True)
    other = opened(elsewhere, run)
    other.get_by_label("Load").set_input_files(tmp_path / "more.json")
    other.get_by_text("more.json: 1 decision loaded, 1 left out: damaged").last.wait_for(state="attached")
    assert state(other, "i/0") == "painted"
    again = downloaded(other, tmp_path / "again.json")
    assert [one["painted"] for one in again["decisions"]] == [tree["decisions"][0]["painted"]]
    assert other.trouble == []
    elsewhere.close()


def test_every_decision_can_be_taken_back_and_a_note_keeps_its_own(page: Any) -> None:
    page.get_by_role("article", name="i/0", exact=True).focus()
    page.keyboard.press("a")
    page.get_by_role("article", name="i/1", exact=True).focus()
    page.keyboard.press("r")
    edit(page, "i/2")
    page.locator("#editor-classes").get_by_label(EVIL).check()
    stroke(page, (60.0, 44.0))
    page.locator("#editor-close").click()
    states = lambda: [state(page, f"i/{number}") for number in range(3)]  # noqa: E731
    assert states() == ["accepted", "rejected", "painted"]
    page.get_by_label("Note on i/1").click()
    page.keyboard.type("tip")
    page.keyboard.press("Control+z")
    assert states() == ["accepted", "rejected", "painted"], "Ctrl+Z in a note is the note's"
    page.keyboard.press("Escape")
    page.keyboard.press("Control+z")
    assert states() == ["accepted", "rejected", ""]
    page.locator("#undo").click()
    assert states() == ["accepted", "", ""]
    page.keyboard.press("Control+z")
    assert states() == ["", "", ""] and page.locator("#undo").is_disabled()
    for _ in range(3):
        page.keyboard.press("Control+y")
    assert states() == ["accepted", "rejected", "painted"]


def test_a_photograph_is_shown_from_its_file_at_full_size(context: Any, tmp_path: Path) -> None:
    maps = np.zeros((1, 2, 2))
    mask = np.zeros((400, 600), np.uint8)
    run = make_run(tmp_path, ("cat",), [TinyImage(name, ("cat",), maps, maps, mask) for name in ("a b#c", "gone")])
    for name in ("a b#c", "gone"):
        Image.fromarray(np.zeros((400, 600, 3), np.uint8)).save(tmp_path / f"run-data/{name}.png")
    with_present_images(run)
    write_report(run, side=64)
    (tmp_path / "run-data/gone.png").unlink()
    page = opened(context, run)
    widths = {}
    for name in ("a b#c", "gone"):
        edit(page, name)
        until(page, "document.getElementById('editor').dataset.photo")
        until(page, "document.getElementById('sheet-photo').complete")
        widths[name] = page.evaluate("document.getElementById('sheet-photo').naturalWidth")
        page.keyboard.press("1")
        assert page.locator("#zoom-value").inner_text() == "100 %"
        page.locator("#editor-close").click()
    assert widths == {"a b#c": 600, "gone": 64}
    assert [line for line in page.trouble if "ERR_FILE_NOT_FOUND" not in line] == []


def test_a_class_is_hidden_by_its_legend(page: Any) -> None:
    colours = """async selector => {
      const image = document.querySelector(selector), canvas = document.createElement('canvas');
      await image.decode();
      [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
      const context = canvas.getContext('2d'); context.drawImage(image, 0, 0);
      const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
      return [...Array(data.length / 4).keys()].map(at => data[4 * at + 3] > 0); }"""
    image = "#card-1 [data-subject] img[data-mask]"

    def comes_to_show(wanted: np.ndarray) -> None:
        for _ in range(100):
            seen = np.array(page.evaluate(colours, image)).reshape(HEIGHT, WIDTH)
            if np.array_equal(seen, wanted):
                return
            page.wait_for_timeout(50)
        np.testing.assert_array_equal(seen, wanted)

    mask = mask_of(0)
    comes_to_show(mask > 0)
    legend = page.get_by_role("list", name="Class colours")
    legend.get_by_role("button", name="cat").click()
    comes_to_show(mask > 1)
    legend.get_by_role("button", name="withheld").click()
    comes_to_show(mask == 2)
    assert page.locator("#card-1 figure:visible img[data-class='1']").count() == 0
    legend.get_by_role("button", name="cat").click()
    legend.get_by_role("button", name="withheld").click()
    comes_to_show(mask > 0)


def test_filters_of_what_is_missing_painted_and_changed(context: Any, tmp_path: Path) -> None:
    run = build(tmp_path)
    write_report(run)
    page = opened(context, run)
    shown = lambda: page.eval_on_selector_all("#cards > :not([hidden]) h3", "all => all.map(one => one.textContent)")  # noqa: E731
    assert shown() == ["i/1", "i/0", "i/2"], "the mask that lacks a labelled class first"
    page.locator("#by-status").select_option("labelled but missing")
    assert shown() == ["i/1"]
    page.locator("#by-status").select_option("changed since")
    assert shown() == []
    page.locator("#by-status").select_option("undecided")
    page.get_by_role("group", name="Decision on i/0").get_by_role("button", name="Accept").click()
    assert shown() == ["i/1", "i/2"], "decided: gone from this list"
    import h5py

    with h5py.File(run.path / "masks.h5", "a") as file:
        file["i/0"][...] = 0
    run.finish("masks", "another-key", 1.0, ["masks.h5"])
    for name in ("refine", "segmentation", "quality"):
        run.finish(name, "another-key", 1.0, run.state.stages[name]["outputs"])
    write_report(run)
    reloaded(page)
    page.locator("#by-status").select_option("changed since")
    assert shown() == ["i/0"]
    assert page.get_by_text("mask changed since it was accepted").filter(visible=True).count() == 1
    assert page.trouble == []


def test_cards_first_and_statistics_behind_a_tab(page: Any) -> None:
    assert page.locator("#part-review").is_visible() and page.locator("#part-statistics").is_hidden()
    page.get_by_role("tab", name="Statistics").click()
    assert page.locator("#part-review").is_hidden() and page.get_by_role("heading", name="Classes").is_visible()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#cards").is_visible()
    page.goto(page.url + "#gate")
    assert page.get_by_role("heading", name="Labels").is_visible()


def test_on_a_phone_the_bar_sticks_and_two_fingers_do_not_paint(browser: Any, run: RunFolder) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = opened(context, run)
    assert not page.locator("#filters").evaluate("one => one.open")
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.wait_for_timeout(100)
    assert page.locator(".bar-sticky").bounding_box()["y"] == 0 and page.locator("#download").is_visible()
    edit(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.locator("#stage").bounding_box()
    assert box["height"] > 300
    touch = context.new_cdp_session(page)
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def fingers(kind: str, *points: tuple[float, float]) -> None:
        at = [{"x": middle[0] + x, "y": middle[1] + y, "id": number} for number, (x, y) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    before = page.locator("#zoom-value").inner_text()
    fingers("touchStart", (-20, 0))
    fingers("touchStart", (-20, 0), (20, 0))
    fingers("touchMove", (-60, 0), (60, 0))
    fingers("touchEnd")
    assert page.locator("#editor-undo").is_disabled(), "nothing was painted"
    assert int(page.locator("#zoom-value").inner_text()[:-2]) > 1.5 * int(before[:-2])
    fingers("touchStart", (0, 0))
    fingers("touchMove", (30, 10))
    fingers("touchEnd")
    assert page.locator("#editor-undo").is_enabled(), "one finger paints"
    assert page.trouble == []
    context.close()


def test_every_part_of_the_editor_has_a_name(page: Any) -> None:
    edit(page)
    unnamed = page.evaluate("""() => [...document.querySelectorAll('#editor button, #editor input, #editor img')]
      .filter(one => one.checkVisibility() && !(one.getAttribute('aria-label') || one.getAttribute('alt')
        || one.textContent.trim() || [...(one.labels ?? [])].some(label => label.textContent.trim())))
      .map(one => one.outerHTML)""")
    assert unnamed == []
    page.keyboard.press("Escape")
    assert page.locator("#editor").is_hidden()


def test_the_way_to_cvat_and_back_is_offered_where_something_is_to_be_fixed(page: Any, tmp_path: Path) -> None:
    card = page.get_by_role("article", name="i/2", exact=True)
    assert card.locator(".mend").is_hidden()
    card.get_by_role("button", name="Fix").click()
    assert "recamlabel export RUN --format cvat --ids to-fix.txt" in card.locator(".mend").inner_text()
    with page.expect_download() as event:
        card.get_by_role("button", name="the list of those to fix").click()
    assert event.value.suggested_filename == "to-fix.txt"
    event.value.save_as(tmp_path / "to-fix.txt")
    assert (tmp_path / "to-fix.txt").read_text() == "i/2\n"


def test_paint_that_the_browser_had_no_room_for_is_told_and_not_taken_for_the_mask_made(page: Any) -> None:
    page.evaluate("""() => { const set = Storage.prototype.setItem;
      Storage.prototype.setItem = function (key, value) {
        if (key.includes(":painted:")) throw new DOMException("full", "QuotaExceededError");
        return set.call(this, key, value); }; }""")
    edit(page)
    page.locator("#editor-classes").get_by_label(EVIL).check()
    stroke(page, (30.0, 20.0), (40.0, 25.0))
    page.locator("#editor-accept").click()
    page.locator("#editor-close").click()
    assert "This browser keeps nothing more here" in page.locator("#warning").inner_text()
    assert state(page, "i/0") == "accepted, painted", "still there until the page is left"
