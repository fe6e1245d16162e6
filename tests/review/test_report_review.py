"""The report as a review page: its order and pages, quality, the background level, what review changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from run_by_hand import TinyImage, make_run

from recamlabel.cli.report import report
from recamlabel.errors import StoreError
from recamlabel.masks.reviewed import Decision, ReviewFolder
from recamlabel.review.decisions.identity import mask_digest
from recamlabel.review.page import report as report_module
from recamlabel.review.page.level_chart import read_level, truth_warnings
from recamlabel.review.page.report import write_report
from recamlabel.storage.run_folder import RunFolder

NAMES = tuple(f"i/{letter}" for letter in "abcde")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    maps = np.zeros((1, 2, 2))
    images = [TinyImage(name, ("cat",), maps, maps, np.full((8, 8), n % 2)) for n, name in enumerate(NAMES)]
    run = make_run(tmp_path, ("cat",), images)
    rows = {
        name: {
            "score": 0.9 - 0.1 * place,
            "withheld": 0.1,
            "classes": {"background": 0.8, "cat": 0.2 * place},
            "withheld_classes": {"background": 0.05, "cat": 0.25},
        }
        for place, name in enumerate(NAMES)
    }
    (run.path / "quality.json").write_text(json.dumps({"order": NAMES[::-1], "images": rows}))
    run.finish("quality", "quality-key", 0.1, ["quality.json"])
    return run


def section(**more: Any) -> dict[str, Any]:
    curve = [[level / 100, level * (100 - level) / 2500] for level in range(1, 100)]
    found = {"threshold": 0.5, "interval": [0.48, 0.53], "criterion": curve, "images": 5, "origin": "Otsu's threshold"}
    return {**found, "used": 0.5, "used_origin": "chosen without ground truth (Otsu's threshold)", **more}


def text_of(path: Path) -> str:
    return " ".join(path.read_text(encoding="utf-8").split())


def cards_of(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    start = text.index(">", text.index('id="review-data"')) + 1
    cards: list[dict[str, Any]] = json.loads(text[start : text.index("</script>", start)])["cards"]
    return cards


def test_the_most_doubtful_masks_come_first(run: RunFolder) -> None:
    page = write_report(run)
    assert [card["image"] for card in cards_of(page)] == list(NAMES[::-1])
    text = text_of(page)
    assert "All 5 images, the most doubtful masks first, each class early." in text
    assert "Quality <b>0.50</b>" in text and "withheld <b>10.0 %</b>" in text and "cat 25.0 %" in text
    assert '<td class="num">0.40</td><td class="num">25.0</td>' in text, "mean of the class over its masks"
    assert [card["image"] for card in cards_of(write_report(run, max_images=2))] == ["i/e", "i/d"]
    assert "2 of 5 images" in text_of(page) and "--images all" in text_of(page)


def test_many_images_are_spread_over_pages(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "PAGE_IMAGES", 2)
    (run.path / "report-mine.html").write_text("kept")
    first = write_report(run, max_images=None)
    pages = [first, run.path / "report-2.html", run.path / "report-3.html"]
    assert [[card["image"][-1] for card in cards_of(page)] for page in pages] == [["e", "d"], ["c", "b"], ["a"]]
    for page in pages:
        assert [link in text_of(page) for link in ('href="report.html"', 'href="report-3.html"')] == [True, True]
        assert text_of(page).count('aria-current="page"') == 1
    assert '<h2 id="scores">' not in text_of(pages[1])
    write_report(run, max_images=3)
    assert sorted(path.name for path in run.path.glob("report*")) == [
        "report-2.html",
        "report-mine.html",
        "report.html",
    ]


def test_command_line_takes_a_number_or_all(run: RunFolder) -> None:
    for images, count in (("3", 3), ("all", 5)):
        result = CliRunner().invoke(report, [str(run.path), "--images", images])
        assert result.exit_code == 0, result.output
        assert len(cards_of(run.path / "report.html")) == count
    for wrong in ("0", "-1", "some", "1.5"):
        result = CliRunner().invoke(report, [str(run.path), "--images", wrong])
        assert result.exit_code == 2 and f"{wrong!r}: expected a number from 1, or all" in result.output


def test_damaged_quality_is_named(run: RunFolder) -> None:
    (run.path / "quality.json").write_text('{"order": [], "images": {"i/a": {"score": 1}}}')
    with pytest.raises(StoreError, match=r"quality\.json: damaged"):
        write_report(run)


def test_the_criterion_of_the_background_level(run: RunFolder) -> None:
    run.update_metrics("threshold", section())
    level = read_level(run)
    assert level is not None and level.chart is not None and not level.with_truth
    assert level.chart.summary == "criterion highest at 0.50, 90 % interval 0.48 to 0.53"
    for word in ("90 % interval", "criterion", "best 0.50"):
        assert f">{word}<" in level.chart.svg
    assert "used" not in level.chart.svg.replace("<use", "")
    assert "Chosen without ground truth (Otsu&#39;s threshold)." in text_of(write_report(run)) and level.chart.svg[
        :40
    ] in text_of(run.path / "report.html")


def test_a_level_that_nothing_is_known_about_has_no_interval(run: RunFolder) -> None:
    run.update_metrics("threshold", section(interval=[0.0, 1.0]))
    level = read_level(run)
    assert level is not None and level.chart is not None
    assert level.chart.summary == "the criterion says nothing about the level; the default is 0.50"
    assert ">default 0.50<" in level.chart.svg and "interval" not in level.chart.svg


def test_a_level_set_by_hand_is_marked_beside_the_best(run: RunFolder) -> None:
    run.update_metrics("threshold", section(used=0.3, used_origin="set by hand"))
    level = read_level(run)
    assert level is not None and level.chart is not None
    assert ">used 0.30<" in level.chart.svg and "the masks were made at 0.30" in level.chart.summary
    coarse = [[0.3, 0.1], [0.5, 0.2]]
    run.update_metrics("threshold", section(criterion=coarse, parts={"separation": [0.2, 0.3], "kept": [0.9]}))
    level = read_level(run)
    assert level is not None and level.chart is not None
    assert ">separation<" in level.chart.svg and ">kept<" not in level.chart.svg, "one that does not fit is left out"
    run.update_metrics("threshold", {"used": "much"})
    with pytest.raises(StoreError, match=r"metrics\.json: section 'threshold' is damaged"):
        read_level(run)
    run.begin("masks")
    assert read_level(run) is None


def test_what_true_masks_had_a_part_in_is_said(run: RunFolder) -> None:
    run.update_metrics("threshold", section(used_origin="chosen with ground truth (20 true masks)"))
    page = text_of(write_report(run))
    assert "The background level of the masks (0.50) was chosen with ground truth (20 true masks)." in page
    scores = [
        {"name": "CAM seeds", "what": "cam-seeds", "with_truth": True},
        {"name": "Masks", "what": "masks", "with_truth": False},
    ]
    assert truth_warnings(None, scores) == ["“CAM seeds”: at the level that is best with the true masks."]


def test_rounds_side_by_side(run: RunFolder) -> None:
    row = {"round": 1, "criterion": 0.39, "threshold": 0.5, "withheld": 0.12, "quality": 0.6}
    run.update_metrics("rounds", {"kept": 2, "rounds": [row, {**row, "round": 2, "criterion": 0.41234}]})
    assert "Rounds" not in text_of(write_report(run)), "not finished"
    run.finish("rounds", "rounds-key", 1.0, [])
    page = text_of(write_report(run))
    assert '2 <span class="muted">kept</span></th><td class="num">0.4123</td><td class="num">0.50</td>' in page
    run.update_metrics("rounds", {"kept": 2, "rounds": [{}]})
    with pytest.raises(StoreError, match=r"metrics\.json: section 'rounds' is damaged"):
        write_report(run)


def test_what_review_changed(run: RunFolder) -> None:
    assert "What review changed" not in text_of(write_report(run))
    painted, accepted = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    painted[:2] = 1
    review = ReviewFolder(run.path)
    review.add(
        [
            Decision("i/a", "accepted"),
            Decision("i/b", "rejected", note="<i>blurred</i>", source="page:decisions.json"),
            Decision("i/c", "accepted", painted=True, note="left leg"),
            Decision("i/d", "fix"),
            Decision("gone", "accepted"),
        ],
        {"i/a": accepted, "i/b": accepted, "i/c": painted, "gone": accepted},
        255,
    )
    path = write_report(run)
    page = text_of(path)
    assert "2 accepted, 1 rejected, 1 to fix, 1 painted, 1 not looked at" in page
    assert "1 mask differs from the pseudo mask" in page and "painted · 25.0 % of the pixels" in page
    assert page.count('alt="Pseudo mask of i/c, before review"') == 1
    assert page.count('alt="Reviewed mask of i/c"') == 2, "in the section and on its card"
    assert "&lt;i&gt;blurred&lt;/i&gt;" in page and "Rejected (1)" in page and "To fix, and notes (3)" in page
    cards = {card["image"]: card for card in cards_of(path)}
    assert cards["i/c"] == {
        "image": "i/c",
        "mask": mask_digest(painted),
        "status": "accepted",
        "note": "left leg",
        "time": "",
        "size": [8, 8],
        "file": "../run-data/i/c.png",
        "ids": [],
        "since": False,
    }
    assert cards["i/d"]["status"] == "fix" and cards["i/e"]["status"] is None
