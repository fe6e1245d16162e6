"""Photographs that were replaced or deleted after `fit`: named wherever masks are shown, never overlaid in silence."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from review_by_hand import run_to_review

from recamlabel.data.catalog import load_catalog
from recamlabel.errors import StoreError
from recamlabel.review.compare.page import write_comparison
from recamlabel.review.compare.runs import compare_runs
from recamlabel.review.decisions.identity import identity_of, mask_digest
from recamlabel.review.decisions.take_in import import_decisions
from recamlabel.review.fiftyone.export import _check_images
from recamlabel.review.page.report import write_report
from recamlabel.review.page.rounds_pages import write_round_pages
from recamlabel.storage.run_folder import RunFolder


def finished(folder: Path) -> RunFolder:
    run = run_to_review(folder)[0]
    run.begin("quality")  # its scores are made for FiftyOne alone
    return run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Gone: ``d``; of another size: ``e``; another picture: ``f``."""
    run = finished(tmp_path)
    (tmp_path / "run-data/d.png").unlink()
    Image.new("RGB", (80, 50)).save(tmp_path / "run-data/e.png")
    Image.new("RGB", (80, 48), (200, 0, 0)).save(tmp_path / "run-data/f.png")
    return run


def card(html: str, name: str) -> str:
    found = re.search(
        rf'<article class="card" id="card-\d+"(?:(?!</article>).)*?<h3[^>]*>{name}</h3>.*?</article>', html, re.S
    )
    assert found is not None
    return found[0]


def photo(text: str) -> np.ndarray:
    data = re.search(r"--photo:url\(data:image/webp;base64,([^)]*)\)", text)
    assert data is not None
    with Image.open(io.BytesIO(base64.b64decode(data[1]))) as image:
        return np.array(image.convert("RGB"))


def test_the_report_is_written_and_names_them(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    html = write_report(run).read_text(encoding="utf-8")
    line = (
        "3 photographs are not those that the masks were made from (1 gone or unreadable, 1 of another size, "
        "1 another picture): d, e, f."
    )
    assert html.count(line) == 2, "at the head of the page and at the pictures"
    assert f"warning: {line}" in capsys.readouterr().err
    assert "photograph: no such image any more" in card(html, "d")
    assert "photograph: 80x50 pixels now, 321x213 when the masks were made" in card(html, "e")
    assert "photograph: another picture than when the masks were made" in card(html, "f")
    assert html.count("photograph: ") == 3


def test_no_mask_lies_over_a_picture_of_another_size(run: RunFolder) -> None:
    html = write_report(run).read_text(encoding="utf-8")
    for name, shape in {"d": (7, 3), "e": (212, 320)}.items():
        shown = photo(card(html, name))
        assert shown.shape[:2] == shape and np.ptp(shown) <= 2, "plain grey, with the sides of the mask"
    red = photo(card(html, "f"))
    assert red.shape[:2] == (48, 80) and red[..., 0].mean() > 150 > red[..., 1].mean()


def test_suspects_of_the_gate_may_be_gone(run: RunFolder) -> None:
    row = {"image": "d", "name": "cat", "probability": 0.1, "typical": 0.5}
    tree = {"note": "", "classes": [], "pairs": [], "doubtful": [row], "missing": []}
    (run.path / "work/gate.json").write_text(json.dumps(tree))
    run.finish("gate", "key", 1.0, ["work/gate.json"])
    assert "cat? d" in write_report(run).read_text(encoding="utf-8")


def test_nothing_is_said_where_nothing_has_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    html = write_report(finished(tmp_path)).read_text(encoding="utf-8")
    assert "made from" not in html and "photograph: " not in html and "warning" not in capsys.readouterr().err


def other_masks(run: RunFolder, copy: Path) -> RunFolder:
    """A copy of a run in which every mask is one object."""
    shutil.copytree(run.path, copy)
    with h5py.File(copy / "masks.h5", "r+") as file:
        for name in load_catalog(copy / "work/dataset.json").shapes:
            file[name][...] = 1
    return RunFolder.open(copy)


def test_a_comparison_names_them_too(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = compare_runs(run, other_masks(run, tmp_path / "other"))
    assert {"d", "e", "f"} <= {one.id for one in comparison.images if one.changed}
    html = write_comparison(comparison, tmp_path / "page.html").read_text(encoding="utf-8")
    line = "3 photographs are not those that the masks were made from (1 gone or unreadable, 1 of another size, "
    assert html.count(line) == 1 and f"warning: {line}" in capsys.readouterr().err
    assert "photograph: no such image any more" in html and html.count("photograph: ") == 3
    assert "photograph: 80x50 pixels now, 321x213 when the masks were made" in html
    assert ("1 photograph is not" in write_comparison(comparison, tmp_path / "one.html", 1).read_text()) == (
        comparison.images[0].id in "def"
    ), "only of those on the page"


def test_the_page_of_rounds_names_them_too(run: RunFolder) -> None:
    copies = [other_masks(run, run.path.with_name("full")), run]
    for number, copy in enumerate(copies, 1):
        shutil.copytree(copy.path, run.path.with_name(f"round{number}"))
    for number in (1, 2):
        shutil.move(run.path.with_name(f"round{number}"), run.path / f"rounds/{number}")
    run.finish("rounds", "key", 1.0, [], kept=2)
    (page,) = write_round_pages(run)
    assert "3 photographs are not those that the masks were made from" in page.read_text(encoding="utf-8")


def test_fiftyone_is_not_given_them(run: RunFolder) -> None:
    catalog = load_catalog(run.path / "work/dataset.json")
    with pytest.raises(StoreError, match=r"(?s)3 images are not .*e\.png: 80x50 pixels now, .*Nothing was exported"):
        _check_images(catalog)


def test_decisions_about_them_are_taken_and_said(run: RunFolder, tmp_path: Path) -> None:
    _, masks = run_to_review(tmp_path / "again")
    identity = identity_of(run, load_catalog(run.path / "work/dataset.json")).to_json()
    rows = [{"image": name, "status": "accepted", "mask": mask_digest(masks[name])} for name in ("e", "images/a")]
    tree = {"format": "recamlabel-decisions", "version": 1, "run": identity, "decisions": rows}
    (tmp_path / "decisions.json").write_text(json.dumps(tree))
    lines = import_decisions(run, [tmp_path / "decisions.json"]).lines()
    assert lines[0].startswith("review: 2 decisions recorded")
    assert lines[-1].startswith("warning: the photographs of 1 decided image are not those") and ": e;" in lines[-1]
