"""`recamlabel status` and `masks` about PNG files that are not as they were made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_by_hand import TinyImage, make_run

from recamlabel.cli.main import run as run_cli
from recamlabel.masks.pngs import png_mark, save_record
from recamlabel.storage.png import save_mask
from recamlabel.storage.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    maps = np.ones((1, 2, 2))
    masks = {name: np.full((4, 6), number, np.uint8) for number, name in enumerate(("a", "b"))}
    run = make_run(tmp_path, ("cat",), [TinyImage(name, ("cat",), maps, maps, mask) for name, mask in masks.items()])
    for name, mask in masks.items():
        save_mask(run.path / "masks" / f"{name}.png", mask)
    save_record(run.path, "masks-key", {name: png_mark(run.path / "masks" / f"{name}.png") for name in masks})
    run.finish("masks", "masks-key", 1.0, ["masks.h5", "masks"], threshold=0.5)
    return run


def status(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    capsys.readouterr()
    assert run_cli(["status", str(run.path), "--json"]) == 0
    rows: list[dict[str, object]] = json.loads(capsys.readouterr().out)["stages"]
    return next(row for row in rows if row["stage"] == "masks")


def test_status_names_them_and_masks_writes_them_again(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run.path / "masks/a.png").read_bytes()
    assert status(run, capsys)["state"] == "finished"
    (run.path / "masks/a.png").unlink()
    Image.new("L", (6, 4), 0).save(run.path / "masks/b.png")
    row = status(run, capsys)
    assert (row["state"], row["png_missing"], row["png_changed"]) == ("incomplete", ["a"], ["b"])
    assert run_cli(["status", str(run.path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "masks: 1 PNG file of masks/ is missing (a), 1 was changed since it was made (b); `recamlabel masks" in text
    assert run_cli(["masks", str(run.path)]) == 0
    assert capsys.readouterr().out == f"masks: 2 PNG files written again in {run.path / 'masks'}\n"
    assert (run.path / "masks/a.png").read_bytes() == before and status(run, capsys)["state"] == "finished"
    assert np.array(Image.open(run.path / "masks-by-hand/b.png")).max() == 0


def test_masks_without_an_option_and_without_damage(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["masks", str(run.path)]) == 2
    assert "nothing to change, and every PNG file is as it was made; give --threshold" in capsys.readouterr().err
    run.begin("masks")
    assert run_cli(["masks", str(run.path)]) == 1
    assert "stage 'refine' is not finished" in capsys.readouterr().err
