"""`recamlabel status`: photographs that are not those of the masks, and what it costs to know."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_by_hand import TinyImage, make_run

from recamlabel.cli.main import run as run_cli
from recamlabel.data import changed
from recamlabel.data.catalog import load_catalog, save_catalog
from recamlabel.data.changed import file_state
from recamlabel.storage.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    maps, mask = np.ones((1, 2, 2)), np.ones((4, 6), np.uint8)
    run = make_run(tmp_path, ("cat",), [TinyImage(name, ("cat",), maps, maps, mask) for name in "abcd"])
    file = run.path / "work/dataset.json"
    catalog = load_catalog(file)
    states = {image.id: state for image in catalog.images if (state := file_state(image.path))}
    save_catalog(file, type(catalog)(catalog.dataset, catalog.shapes, catalog.hashes, states))
    return run


def status(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert run_cli(["status", str(run.path)]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_photographs_that_changed_are_named(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert "made from" not in status(run, capsys)
    data = run.path.with_name("run-data")
    (data / "a.png").unlink()
    Image.new("RGB", (6, 4), (9, 200, 9)).save(data / "c.png")
    line = (
        "warning: 2 photographs are not those that the masks were made from (1 gone or unreadable, 1 another picture): "
        "a, c. Put the old files back, or run `recamlabel fit` again"
    )
    assert line in status(run, capsys)
    assert run_cli(["status", str(run.path), "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert [(one["id"], one["kind"]) for one in tree["changed_photographs"]] == [("a", "gone"), ("c", "content")]
    assert tree["photographs_not_read"] == 0 and tree["review_unfinished"] is False


def test_of_many_files_with_another_time_a_few_are_read(
    run: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcd":
        os.utime(run.path.with_name("run-data") / f"{name}.png", (1, 1))
    assert "another time" not in status(run, capsys)
    monkeypatch.setattr(changed.changed_at_a_glance, "__defaults__", (3,))
    assert "1 more image file has another time" in status(run, capsys)


def test_nothing_is_said_without_a_data_set_and_a_damaged_one_stops_nothing(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.path / "work/dataset.json").write_text("{")
    assert run_cli(["status", str(run.path)]) == 0
    found = capsys.readouterr()
    assert "masks" in found.out and "dataset.json: damaged" in found.err
    (run.path / "work/dataset.json").unlink()
    assert run_cli(["status", str(run.path)]) == 0 and "work/dataset.json" not in capsys.readouterr().err
