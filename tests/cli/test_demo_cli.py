"""The demo's folder: made once, found again, never somebody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from recamlabel.cli.demo import DEMO_SETTINGS, demo_config, prepare
from recamlabel.cli.main import run
from recamlabel.config import setting_keys
from recamlabel.demo.scenes import SceneSettings
from recamlabel.errors import StoreError

SMALL = SceneSettings(images=3, side=48)


def test_draws_once_and_continues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = prepare(tmp_path / "demo", SMALL)
    before = {path: path.stat().st_mtime_ns for path in first.path.rglob("*")}
    second = prepare(tmp_path / "demo", SMALL)
    assert second == first
    assert {path: path.stat().st_mtime_ns for path in first.path.rglob("*")} == before
    assert "is there, not drawn again" in capsys.readouterr().err


def test_finishes_what_was_killed_while_drawing(tmp_path: Path) -> None:
    made = prepare(tmp_path / "demo", SMALL)
    made.labels.unlink()
    (made.truth / "scene_00002.png").unlink()
    prepare(tmp_path / "demo", SMALL)
    assert made.labels.exists() and len(list(made.truth.iterdir())) == 3


def test_other_settings_need_another_folder(tmp_path: Path) -> None:
    prepare(tmp_path / "demo", SMALL)
    with pytest.raises(StoreError) as caught:
        prepare(tmp_path / "demo", SceneSettings(images=3, side=48, seed=5))
    assert str(caught.value) == (
        f"{tmp_path / 'demo'}: a demo with other settings: seed 0 (asked for: 5); "
        "give --out a new folder for the new ones"
    )


def test_folder_that_is_not_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    assert run(["demo", "--out", str(tmp_path)]) == 1
    assert (
        f"{tmp_path}: a folder with something else in it (no demo.json); nothing was written" in capsys.readouterr().err
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert run(["demo", "--out", str(tmp_path / "mine.txt")]) == 1
    assert (tmp_path / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize("text", ["{", "[]", '{"scenes": 3}'])
def test_damaged_marker(tmp_path: Path, text: str) -> None:
    (tmp_path / "demo.json").write_text(text)
    with pytest.raises(StoreError, match=r"demo\.json: damaged; delete .* or give --out a new folder"):
        prepare(tmp_path, SMALL)


def test_settings_are_real_ones() -> None:
    assert set(DEMO_SETTINGS) <= set(setting_keys())
    config = demo_config(seed=4, device="cpu")
    assert (config.seed, config.runtime.device, config.preset) == (4, "cpu", "quick")
    assert config.classifier.min_steps == DEMO_SETTINGS["classifier.min_steps"]
