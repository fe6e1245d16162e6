"""``recamlabel compare`` as a person types it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from run_by_hand import TinyImage, make_run

from recamlabel.cli.main import run as run_cli
from recamlabel.storage.png import write_mask
from recamlabel.storage.run_folder import RunFolder

NAMES = ("[red] fox", "dog")


def tiny(name: str, mask: list[list[int]]) -> TinyImage:
    return TinyImage(name, NAMES, np.zeros((2, 1, 1)), np.zeros((2, 1, 1)), mask)


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    made: list[RunFolder] = [
        make_run(tmp_path, NAMES, [tiny("images/a", [[1, 1, 0, 0]]), tiny("images/b", [[2, 2, 2, 2]])], "one"),
        make_run(tmp_path, NAMES, [tiny("images/a", [[1, 2, 0, 0]]), tiny("images/b", [[2, 2, 2, 2]])], "two"),
    ]
    for number, run in enumerate(made):
        run.state.config = {"seed": number, "maps": {"flip": True}}
        run.save()
    return [str(run.path) for run in made]


def rows(text: str) -> list[list[str]]:
    return [line.replace("│", " ").split() for line in text.splitlines() if "│" in line]


def test_tables(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_mask(tmp_path / "truth" / "a.png", np.array([[1, 1, 0, 0]], np.uint8))
    write_mask(tmp_path / "truth" / "b.png", np.array([[2, 2, 2, 0]], np.uint8))
    page = tmp_path / "compare.html"
    assert run_cli(["compare", *runs, "--truth", str(tmp_path / "truth"), "--out", str(page)]) == 0
    captured = capsys.readouterr()
    assert rows(captured.out) == [
        ["seed", "0", "1"],
        ["images/a", "25.0", "50.0"],
        ["background", "25.0", "25.0", "0.0", "66.7", "66.7"],
        ["[red]", "fox", "25.0", "12.5", "−12.5", "100.0", "50.0"],
        ["dog", "50.0", "62.5", "+12.5", "75.0", "60.0"],
        ["mIoU", "of", "what", "remains", "80.6", "58.9"],
        ["coverage", "100.0", "100.0"],
    ]
    assert "A → B over 2 images, in percent: mIoU of what remains 80.6 → 58.9 (−21.7, 95 % interval " in captured.out
    assert "; coverage 100.0 → 100.0 (0.0, 95 % interval 0.0 to 0.0)" in captured.out
    assert "2 images compared, 1 with equal masks; 12.5 % of the pixels differ in the mean" in captured.out
    assert captured.out.rstrip().endswith(f"page: {page}") and page.stat().st_size > 1000


def test_without_truth_and_page(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert run_cli(["compare", *runs]) == 0
    out = capsys.readouterr().out
    assert "IoU A %" not in out and "page:" not in out
    assert sorted(tmp_path.rglob("*")) == before


def test_the_same_run_twice(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["compare", runs[0], runs[0]]) == 0
    out = capsys.readouterr().out
    assert "Settings" not in out and "Images that" not in out and "2 images compared, 2 with equal masks" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{one}"], 2, "Missing argument 'RUN_B'"),
        (["{one}", "{base}/none"], 1, "no such run folder"),
        (["{one}", "{base}"], 1, "not a run folder"),
        (["{one}", "{two}", "--out", "{base}"], 2, "a folder; expected a file such as compare.html"),
        (["{one}", "{two}", "--out", "{base}/masks.png"], 2, "not the name of a page"),
        (["{one}", "{two}", "--images", "0"], 2, "not in the range"),
        (["{one}", "{two}", "--truth", "{base}/none"], 1, "no such folder; expected the folder with the true masks"),
    ],
)
def test_mistakes_get_one_message(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    names = {"one": runs[0], "two": runs[1], "base": str(tmp_path)}
    assert run_cli(["compare", *(word.format(**names) for word in arguments)]) == code
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err
