"""The review page in a real browser, from file://, as a reviewer uses it.

Needs pip's playwright, and Chromium: the one at RECAMLABEL_CHROMIUM, the system's, or playwright's own.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from browser_by_hand import downloaded, opened, reloaded, state
from PIL import Image
from run_by_hand import TinyImage, make_run

from recamlabel.masks.reviewed import Decision, ReviewedMasks, ReviewFolder
from recamlabel.review.decisions.take_in import import_decisions
from recamlabel.review.page import report as report_module
from recamlabel.review.page.report import write_report
from recamlabel.storage.run_folder import RunFolder

EVIL = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2>"
CLASSES = ("cat", EVIL)
COUNT = 8

pytestmark = pytest.mark.review


def build(folder: Path) -> RunFolder:
    """Eight images, i/0 with the best mask and i/7 with the worst; the even ones cats."""
    images, rows = [], {}
    for number in range(COUNT):
        mask = np.zeros((48, 64), np.uint8)
        mask[8:40, 8 + number : 40 + number] = 1 + number % 2
        maps = np.linspace(0, 1, 192).reshape(1, 12, 16)
        label = CLASSES[number % 2]
        images.append(TinyImage(f"i/{number}", (label,), maps, maps, mask))
        scores = {"background": 0.9, label: 0.9 - number / 10}
        rows[f"i/{number}"] = {"score": 0.9 - number / 10, "withheld": 0.0, "classes": scores, "withheld_classes": {}}
    run = make_run(folder, CLASSES, images)
    (run.path / "quality.json").write_text(json.dumps({"order": [*rows][::-1], "images": rows}))
    run.finish("quality", "quality-key", 0.1, ["quality.json"])
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = build(tmp_path_factory.mktemp("page"))
    write_report(run)
    return run


@pytest.fixture
def page(context: Any, run: RunFolder) -> Iterator[Any]:
    page = opened(context, run)
    yield page
    assert page.trouble == []
    assert page.evaluate("window.hacked") is None


def shown(page: Any) -> list[str]:
    names: list[str] = page.eval_on_selector_all("#cards > :not([hidden]) h3", "all => all.map(one => one.textContent)")
    return names


def pixels(page: Any, selector: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.locator(selector).first.screenshot())).convert("RGB")).astype(int)


def test_decisions_by_keyboard_into_the_run(page: Any, tmp_path: Path) -> None:
    assert shown(page) == [f"i/{number}" for number in range(COUNT)][::-1]
    for key in "jarjf":
        page.keyboard.press(key)
    # a on i/7 goes on to i/6, r to i/5, j to i/4, where f is pressed
    assert [state(page, f"i/{number}") for number in (7, 6, 5, 4)] == ["accepted", "rejected", "", "to fix"]
    for key in "kku":
        page.keyboard.press(key)
    assert "3 of 8 decided: 1 accepted, 1 rejected, 1 to fix" in page.locator("#progress").inner_text()
    tree = downloaded(page, tmp_path / "decisions.json")
    assert {one["image"]: one["status"] for one in tree["decisions"]} == {
        "i/7": "accepted", "i/6": "rejected", "i/4": "fix",
    }  # fmt: skip
    run = build(tmp_path)
    result = import_decisions(run, [tmp_path / "decisions.json"])
    assert result.lines() == ["review: 3 decisions recorded (1 accepted, 1 rejected, 1 to fix)"]
    assert ReviewFolder(run.path).kinds() == {"i/7": "accepted", "i/6": "rejected"}
    assert ReviewedMasks(run.path)("i/7").max() == 2 and ReviewedMasks(run.path)("i/6").min() == 255


def test_a_note_fires_no_shortcut_and_survives_a_reload(page: Any, tmp_path: Path) -> None:
    page.keyboard.press("j")
    page.keyboard.press("n")
    page.keyboard.type("a fur jork [o] <b>u</b>")
    assert state(page, "i/7") == "" and page.locator("#opacity").input_value() == "65"
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    assert state(page, "i/7") == "accepted"
    reloaded(page)
    assert state(page, "i/7") == "accepted"
    assert page.get_by_label("Note on i/7").input_value() == "a fur jork [o] <b>u</b>"
    entry = downloaded(page, tmp_path / "d.json")["decisions"]
    assert [(one["status"], one["note"]) for one in entry] == [("accepted", "a fur jork [o] <b>u</b>")]


def test_shortcuts_can_be_turned_off(page: Any) -> None:
    page.get_by_text("Options, and how decisions are kept").click()
    page.get_by_label("use these keys").uncheck()
    page.get_by_role("article", name="i/7", exact=True).focus()
    page.keyboard.press("a")
    assert state(page, "i/7") == ""
    reloaded(page)
    assert not page.locator("#shortcuts").is_checked(), "a preference is kept"


def test_masks_are_painted_and_follow_the_slider(page: Any) -> None:
    mask = "#cards .column:has(> p:text-is('Mask')) .picture"
    with_mask = pixels(page, mask)
    page.locator("#opacity").fill("0")
    assert page.locator("#opacity-value").inner_text() == "0 %"
    without = pixels(page, mask)
    assert (np.ptp(without, axis=2) <= 2).all(), "nothing but the image in grey"
    changed = (np.abs(with_mask - without).max(axis=2) > 20).mean()
    assert 0.25 < changed < 0.5, "the mask covers a third of the image"
    page.locator("#opacity").fill("100")
    full = pixels(page, mask)
    assert np.abs(full - without).sum() > 1.3 * np.abs(with_mask - without).sum()
    page.get_by_role("article", name="i/7", exact=True).focus()
    page.keyboard.press("o")
    assert np.array_equal(pixels(page, mask), without)
    page.keyboard.press("o")
    assert page.locator("#opacity").input_value() == "100"
    recam = "#cards .column:has(> p:text-is('ReCAM')) .picture"
    assert np.ptp(pixels(page, recam), axis=2).max() > 60


def test_filter_and_sort(page: Any) -> None:
    page.locator("#by-class").select_option(EVIL)
    assert shown(page) == ["i/7", "i/5", "i/3", "i/1"]
    page.locator("#to").fill("0.5")
    assert shown(page) == ["i/7", "i/5"]
    page.get_by_role("button", name="Show all").click()
    page.get_by_text(f"· {COUNT} shown").wait_for()
    page.locator("#sort").select_option("quality, best first")
    assert shown(page) == [f"i/{number}" for number in range(COUNT)]
    page.get_by_role("group", name="Decision on i/3").get_by_role("button", name="Fix").click()
    page.locator("#by-status").select_option("fix")
    assert shown(page) == ["i/3"]
    page.locator("#by-status").select_option("undecided")
    assert len(shown(page)) == COUNT - 1
    page.locator("#by-name").fill("I/5")
    assert shown(page) == ["i/5"]
    assert "· 1 shown" in page.locator("#progress").inner_text()
    assert page.get_by_role("status").filter(has_text="1 image shown").count() == 1, "read out to those who listen"


def test_load_a_file_back(page: Any, context: Any, run: RunFolder, tmp_path: Path, browser: Any) -> None:
    page.keyboard.press("j")
    page.keyboard.press("a")
    tree = downloaded(page, tmp_path / "decisions.json")
    elsewhere = browser.new_context()
    other = opened(elsewhere, run)
    assert state(other, "i/7") == ""
    other.get_by_label("Load").set_input_files(tmp_path / "decisions.json")
    other.get_by_text("decisions.json: 1 decision loaded").wait_for(state="attached")
    assert state(other, "i/7") == "accepted"
    tree["run"]["dataset"] = "another"
    (tmp_path / "wrong.json").write_text(json.dumps(tree))
    other.get_by_label("Load").set_input_files(tmp_path / "wrong.json")
    other.get_by_text("wrong.json was not loaded: it belongs to another run").wait_for()
    (tmp_path / "broken.json").write_text("{")
    other.get_by_label("Load").set_input_files(tmp_path / "broken.json")
    other.get_by_text("broken.json was not loaded").wait_for()
    assert other.trouble == []
    elsewhere.close()


def test_recorded_decisions_are_where_one_starts(context: Any, tmp_path: Path) -> None:
    run = build(tmp_path)
    ReviewFolder(run.path).add([Decision("i/2", "fix", "paw <u>cut</u>")], {}, 255)
    write_report(run)
    page = opened(context, run)
    assert state(page, "i/2") == "to fix"
    assert page.get_by_label("Note on i/2").input_value() == "paw <u>cut</u>"
    page.get_by_role("group", name="Decision on i/2").get_by_role("button", name="Undecided").click()
    tree = downloaded(page, tmp_path / "decisions.json")
    assert [(one["image"], one["status"]) for one in tree["decisions"]] == [("i/2", None)]
    assert page.trouble == []


def test_what_the_run_recorded_later_is_shown(context: Any, tmp_path: Path) -> None:
    run = build(tmp_path)
    write_report(run)
    page = opened(context, run)
    for key in "jaa":
        page.keyboard.press(key)
    assert (state(page, "i/7"), state(page, "i/6")) == ("accepted", "accepted")
    ReviewFolder(run.path).add([Decision("i/7", "fix", time="2999-01-01T00:00:00+00:00")], {}, 255)
    ReviewFolder(run.path).add([Decision("i/6", "fix", time="1999-01-01T00:00:00+00:00")], {}, 255)
    write_report(run)
    reloaded(page)
    assert (state(page, "i/7"), state(page, "i/6")) == ("to fix", "accepted")


def test_decisions_stay_with_masks_that_stay_the_same(context: Any, tmp_path: Path) -> None:
    run = build(tmp_path)
    write_report(run)
    page = opened(context, run)
    for key in "jar":
        page.keyboard.press(key)
    with h5py.File(run.path / "masks.h5", "a") as file:
        file["i/7"][...] = 0
    run.begin("masks")
    run.finish("masks", "another-key", 1.0, ["masks.h5"])
    run.finish("quality", "another-key", 0.1, ["quality.json"])
    write_report(run)
    reloaded(page)
    assert (state(page, "i/7"), state(page, "i/6")) == ("", "rejected")
    assert [one["image"] for one in downloaded(page, tmp_path / "decisions.json")["decisions"]] == ["i/6"]
    assert len(import_decisions(run, [tmp_path / "decisions.json"]).recorded) == 1
    assert page.trouble == []


def test_pages_share_their_decisions(context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "PAGE_IMAGES", 5)
    run = build(tmp_path)
    write_report(run)
    first = opened(context, run)
    first.keyboard.press("j")
    first.keyboard.press("a")
    first.get_by_role("navigation", name="Pages").get_by_role("link", name="6–8").click()
    assert shown(first) == ["i/2", "i/1", "i/0"]
    assert "1 on other pages" in first.locator("#progress").inner_text()
    first.keyboard.press("j")
    first.keyboard.press("r")
    tree = downloaded(first, tmp_path / "decisions.json")
    assert {one["image"] for one in tree["decisions"]} == {"i/7", "i/2"}
    assert len(import_decisions(run, [tmp_path / "decisions.json"]).recorded) == 2
    assert first.trouble == []


def test_without_script_everything_is_shown(browser: Any, run: RunFolder) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((run.path / "report.html").as_uri())
    assert page.locator("#cards article:visible").count() == COUNT
    assert page.locator("#tools").is_hidden() and page.locator(".decide").count() == 0
    assert page.get_by_alt_text("Mask of i/7").is_visible()
    context.close()


UNNAMED = """() => [...document.querySelectorAll('button, input, select, textarea, a, [role=img], img, summary')]
  .filter(one => one.checkVisibility?.({contentVisibilityAuto: false}) && !(
    one.getAttribute('aria-label') || one.getAttribute('alt') || one.textContent.trim()
    || [...(one.labels ?? [])].some(label => label.textContent.trim())))
  .map(one => one.outerHTML.slice(0, 200))"""

CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map(v => (v /= 255) <= .04045 ? v / 12.92
    : ((v + .055) / 1.055) ** 2.4); return .2126 * x + .7152 * y + .0722 * z; };
  const ground = one => { for (; one; one = one.parentElement) { const c = rgba(getComputedStyle(one).backgroundColor);
    if (c[3] === 255) return c; } return rgba('Canvas'); };
  const found = {};
  for (const one of document.querySelectorAll('body *')) {
    const own = [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || one.closest('svg, script, template, style, [hidden]')) continue;
    const pair = [light(rgba(getComputedStyle(one).color)), light(ground(one))].sort((a, b) => b - a);
    const ratio = (pair[0] + .05) / (pair[1] + .05);
    const name = one.tagName + '.' + one.className + (one.dataset.status ?? '');
    found[name] = Math.min(found[name] ?? 99, ratio);
  }
  return Object.entries(found).filter(([, ratio]) => ratio < 4.5);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_names_and_contrast(browser: Any, run: RunFolder, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    page = opened(context, run)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    for key in "jarf":
        page.keyboard.press(key)
    assert page.evaluate(UNNAMED) == []
    assert page.evaluate(CONTRAST) == []
    ids = page.eval_on_selector_all("[id]", "all => all.map(one => one.id)")
    assert len(ids) == len(set(ids))
    assert page.trouble == []
    context.close()


def test_everything_is_reached_by_tab_and_seen(page: Any) -> None:
    page.locator("#by-class").focus()
    seen = []
    for _ in range(24):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate(
                "(e => [e.id || e.getAttribute('aria-label') || e.textContent.trim(), getComputedStyle(e).outlineStyle,"
                " getComputedStyle(e).outlineWidth])(document.activeElement)"
            )
        )
    names = [name for name, _, _ in seen]
    for wanted in ("by-status", "sort", "opacity", "download", "load", "Accept A", "Note on i/7"):
        assert wanted in names, names
    assert all(style != "none" and width != "0px" for _, style, width in seen), seen


@pytest.mark.parametrize("width", [360, 820, 1280, 1900])
def test_no_width_needs_sideways_scrolling(browser: Any, run: RunFolder, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = opened(context, run)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
