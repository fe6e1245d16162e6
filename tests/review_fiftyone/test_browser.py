"""The App in a real browser: masks are painted, a tag and a stroke of the brush come back, and stay."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import free_port
from PIL import Image
from review_by_hand import CLASSES, Review, run_to_review

from recamlabel.masks.reviewed import ReviewFolder
from recamlabel.review.fiftyone.session import app_url, connect

pytestmark = [pytest.mark.review, pytest.mark.slow]
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SECONDS = 180
LOOKER = '[data-cy="looker"]'


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium: the system's, or the one that playwright has fetched."""
    if find_spec("playwright") is None:
        pytest.skip("playwright is not installed (extra browser)")
    from playwright.sync_api import Error, sync_playwright

    place = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), None)
    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=place, headless=True, args=list(FLAGS))
        except Error as error:
            pytest.skip(f"no browser: {str(error).splitlines()[0]}; install chromium")
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def shown(
    fiftyone_database: str, browser: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Review, str]]:
    """A run that the command itself exports and shows, and the address of its queue."""
    folder, name, port = tmp_path_factory.mktemp("shown"), f"browser-{uuid.uuid4().hex[:8]}", free_port()
    run, masks = run_to_review(folder)
    command = [sys.executable, "-m", "recamlabel", "review", str(run.path), "--name", name, "--no-browser"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for_server(process, port, folder / "log")
        yield Review(run, masks, connect(run, name)), app_url(name, "127.0.0.1", port)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=SECONDS) == 0, (folder / "log").read_text()
        assert "Traceback" not in (folder / "log").read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def wait_for_server(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(10 * SECONDS):
        if process.poll() is not None:
            pytest.fail(log.read_text())
        try:
            socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"no App within {SECONDS} s: {log.read_text()}")


def open_page(browser: Any, url: str, images: int) -> Any:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(1000 * SECONDS)
    # An advertisement that lies over the buttons.
    page.add_init_script("localStorage.setItem('fiftyone-enterprise-tooltip-seen', 'true')")
    page.goto(url)
    wait_for_pictures(page, images)
    return page


def wait_for_pictures(page: Any, images: int) -> None:
    """Every image is drawn, none says that it cannot be."""
    page.wait_for_function(
        f"""count => {{
            const all = [...document.querySelectorAll('{LOOKER}')];
            return all.length === count && all.every(one => one.querySelector('canvas[canvas-loaded="true"]'));
        }}""",
        arg=images,
    )
    assert page.locator('[data-cy="looker-error-info"]').count() == 0
    page.wait_for_timeout(1500)


def picture(page: Any) -> np.ndarray:
    """The images of the grid ``(N, 3)``, as pixels of all their boxes."""
    shot = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
    found = []
    for place in range(page.locator(LOOKER).count()):
        box = page.locator(LOOKER).nth(place).bounding_box()
        top, left = round(box["y"]), round(box["x"])
        found.append(shot[top : top + round(box["height"]), left : left + round(box["width"])].reshape(-1, 3))
    return np.concatenate(found)


def changed(one: np.ndarray, two: np.ndarray) -> float:
    """Share of the pixels that differ visibly."""
    return float((np.abs(one.astype(int) - two.astype(int)).max(axis=1) > 8).mean())


def test_masks_are_painted(browser: Any, shown: tuple[Review, str]) -> None:
    review, url = shown
    fo, data = review.link.fiftyone, review.samples()
    usual = list(data.app_config.active_fields.paths)

    def seen(paths: list[str]) -> np.ndarray:
        data.app_config.active_fields = fo.ActiveFields(paths=paths)
        data.save()
        page = open_page(browser, url, len(review.masks))
        try:
            assert page.locator("b[onmouseover]").count() == 0
            return picture(page)
        finally:
            page.close()

    try:
        bare = seen([])
        assert changed(bare, seen([])) < 0.01
        covered = np.mean([(mask > 0).mean() for mask in review.masks.values()])
        assert changed(bare, seen(["pseudo"])) > 0.5 * covered > 0.1
        assert changed(bare, seen(["editable"])) > 0.3 * covered
        assert changed(bare, seen(["recam"])) > 0.5 * covered
    finally:
        data.app_config.active_fields = fo.ActiveFields(paths=usual)
        data.save()


def test_a_tag_and_a_stroke_come_back(browser: Any, shown: tuple[Review, str]) -> None:
    review, url = shown
    page = open_page(browser, url, len(review.masks))
    assert page.get_by_text(CLASSES[1], exact=True).count() > 0  # as text, beside the images that have it
    tag_image(page, 2, "accepted")  # the third in the queue
    page.reload()
    wait_for_pictures(page, len(review.masks) - 1)
    draw_stroke(page, 1)
    page.close()
    result = review.pull()
    assert {decision.image: (decision.status, decision.painted) for decision in result.recorded} == {
        "d": ("accepted", False),
        "e": (None, True),
    }
    kept = ReviewFolder(review.run.path)
    np.testing.assert_array_equal(kept.mask("d"), review.masks["d"])
    before, after = review.masks["e"], kept.mask("e")
    assert after is not None
    painted = np.argwhere(before != after)
    height, width = before.shape
    assert 0.002 < len(painted) / before.size < 0.2
    assert len(set(after[before != after].tolist())) == 1
    (top, left), (bottom, right) = painted.min(axis=0), painted.max(axis=0)
    assert 0.4 * width < left < right < 0.85 * width and 0.4 * height < top < bottom < 0.6 * height
    assert review.pull().recorded == []
    result = review.export()
    assert (result.added, result.renewed, result.unchanged) == (0, 0, len(review.masks))
    assert len(review.samples()) == len(review.masks) and review.sample("d").tags == ["accepted"]


def tag_image(page: Any, place: int, tag: str) -> None:
    box = page.locator(LOOKER).nth(place).bounding_box()
    page.mouse.move(box["x"] + 14, box["y"] + 14)
    page.mouse.click(box["x"] + 14, box["y"] + 14)
    page.locator('[data-cy="action-tag-sample-labels"]').click()
    page.locator('[data-cy="sample-tag-input"]').fill(tag)
    page.keyboard.press("Enter")
    page.get_by_text("Apply", exact=True).click()
    page.wait_for_timeout(1500)


def draw_stroke(page: Any, place: int) -> None:
    """A horizontal stroke with the brush, through the middle of the right half, in the first region's class."""
    page.locator(LOOKER).nth(place).click()
    page.locator('[data-cy="annotate"]').click()
    page.locator('[data-cy^="annotate-label-"]').first.click()
    page.locator('[data-cy="brush"]').click()
    page.wait_for_timeout(1000)
    box = page.locator('[data-cy="lighter-sample-renderer-canvas"]').bounding_box()
    left, top = box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"]
    page.mouse.move(left, top)
    page.mouse.down()
    for step in range(1, 21):
        page.mouse.move(left + 0.25 * box["width"] * step / 20, top)
    page.mouse.up()
    page.locator('[data-cy="annotation-save-state"][data-settled="true"]').wait_for(state="attached")
    page.wait_for_timeout(1500)
