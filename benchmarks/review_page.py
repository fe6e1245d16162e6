"""The review page of a run in a browser: its size, how long it loads, the memory that it takes, and how it looks.

    python benchmarks/review_page.py RUN [--images 400] [--shots DIR]

Writes the page of a run (``recamlabel report``), opens it from the disk in headless Chromium, scrolls to its end and
opens the first image in the editor; prints a table. ``--shots`` keeps pictures of it on a desktop, a phone and in the
dark. Needs playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

from recamlabel.review.page.report import write_report
from recamlabel.storage.run_folder import RunFolder

VIEWS = {"desktop": (1280, 800, "light"), "phone": (390, 844, "light"), "dark": (1280, 800, "dark")}


def memory(page: Any) -> float:
    """Bytes of JavaScript's heap in use."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    values = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return float(values["JSHeapUsedSize"])


def main() -> None:
    """Write, open, measure."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--shots", type=Path)
    arguments = parser.parse_args()
    began = time.monotonic()
    place = write_report(RunFolder.open(arguments.run), max_images=arguments.images)
    written = time.monotonic() - began
    pages = sorted(arguments.run.glob("report*.html"))
    rows: list[tuple[str, str]] = [
        ("pages", str(len(pages))),
        ("size of the first, MB", f"{place.stat().st_size / 1e6:.1f}"),
        ("written in, s", f"{written:.1f}"),
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--allow-file-access-from-files"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        began = time.monotonic()
        page.goto(place.resolve().as_uri(), wait_until="load")
        rows.append(("loaded in, s", f"{time.monotonic() - began:.2f}"))
        rows.append(("cards", str(page.locator("article.card").count())))
        rows.append(("heap after loading, MB", f"{memory(page) / 1e6:.1f}"))
        began = time.monotonic()
        height = page.evaluate("document.documentElement.scrollHeight")
        for top in range(0, height, 4000):
            page.evaluate(f"window.scrollTo(0, {top})")
            page.wait_for_timeout(20)
        rows.append(("scrolled to the end in, s", f"{time.monotonic() - began:.2f}"))
        rows.append(("heap after scrolling, MB", f"{memory(page) / 1e6:.1f}"))
        rows.append(("script errors", str(len(errors))))
        if arguments.shots:
            arguments.shots.mkdir(parents=True, exist_ok=True)
            for name, (width, tall, scheme) in VIEWS.items():
                view = browser.new_page(viewport={"width": width, "height": tall}, color_scheme=scheme)
                view.goto(place.resolve().as_uri(), wait_until="load")
                view.screenshot(path=arguments.shots / f"{name}.png")
                view.close()
        browser.close()
    print("| what | value |\n|---|---:|")
    for name, value in rows:
        print(f"| {name} | {value} |")
    print("\n".join(errors))


if __name__ == "__main__":
    main()
