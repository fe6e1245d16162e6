"""A page of the report in a real browser, from file://.

Needs pip's playwright, and Chromium: the one at RECAMLABEL_CHROMIUM, the system's, or playwright's own.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from recamlabel.storage.run_folder import RunFolder

CHROMIUM = os.environ.get("RECAMLABEL_CHROMIUM") or shutil.which("chromium")
FLAGS = [
    f"--{name}"
    for name in (
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
    )
]


def opened(context: Any, run: RunFolder, name: str = "report.html") -> Any:
    """A page of the report; what it asks of the network and complains of lands in ``page.trouble``."""
    page = context.new_page()
    page.trouble = []
    page.on(
        "request",
        lambda request: request.url.startswith(("file:", "data:", "blob:")) or page.trouble.append(request.url),
    )
    page.on("console", lambda message: message.type in ("error", "warning") and page.trouble.append(message.text))
    page.on("pageerror", lambda error: page.trouble.append(str(error)))
    page.goto((run.path / name).as_uri())
    return page


def reloaded(page: Any) -> None:
    """Loads the page again; on a busy machine Chromium may read the store before what was written last has arrived."""
    stored: dict[str, str] = page.evaluate("({ ...localStorage })")
    for _ in range(20):
        page.wait_for_timeout(100)
        page.reload()
        if stored.items() <= page.evaluate("({ ...localStorage })").items():
            return
    raise AssertionError("what the page stored is gone")


def state(page: Any, image: str) -> str:
    text: str = page.get_by_role("article", name=image, exact=True).locator(".state").text_content() or ""
    return text


def downloaded(page: Any, place: Path) -> dict[str, Any]:
    with page.expect_download() as event:
        page.get_by_role("button", name="Download decisions.json").click()
    assert event.value.suggested_filename == "decisions.json"
    event.value.save_as(place)
    tree: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    return tree
