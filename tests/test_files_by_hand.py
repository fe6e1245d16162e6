"""What a person does to a finished run's files and photographs: the next command notices, and redoes no stage."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import TINY, make_tiny_csv
from PIL import Image

from recamlabel.cli.main import run as run_cli
from recamlabel.config import load_config
from recamlabel.data.catalog import load_catalog
from recamlabel.errors import StoreError
from recamlabel.export import export_run
from recamlabel.masks.pngs import check_pngs
from recamlabel.pipeline import fit, render
from recamlabel.workspace import RunFolder


def config():
    return load_config("quick", assignments=[*TINY, "refine.method=none"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    base = tmp_path_factory.mktemp("finished")
    return fit(make_tiny_csv(base), base / "run", config()), base / "data"


def pngs(run: RunFolder) -> dict[str, bytes]:
    return {path.relative_to(run.path).as_posix(): path.read_bytes() for path in (run.path / "masks").rglob("*.png")}


def damage(run: RunFolder) -> None:
    (run.path / "masks/images/0.png").unlink()
    Image.fromarray(np.ones((64, 80), np.uint8)).save(run.path / "masks/images/1.png")


def test_fit_writes_mask_pngs_again_and_redoes_nothing(finished, capsys):
    run, source = finished
    before, masks = pngs(run), (run.path / "masks.h5").read_bytes()
    damage(run)
    capsys.readouterr()
    fit(source, run.path, config())
    said = capsys.readouterr().err
    assert ": done in" not in said and "masks: up to date" in said
    assert "1 PNG file of masks/ is missing (images/0), 1 was changed since it was made (images/1)" in said
    assert pngs(run) == before and (run.path / "masks.h5").read_bytes() == masks
    shutil.rmtree(run.path / "masks")
    fit(source, run.path, config())
    assert ": done in" not in capsys.readouterr().err and pngs(run) == before


def test_masks_at_the_level_they_have_writes_them_again_too(finished, capsys):
    run, _ = finished
    before = pngs(run)
    damage(run)
    render(run.path, "auto")
    assert pngs(run) == before
    damage(run)
    assert run_cli(["masks", str(run.path)]) == 0
    assert pngs(run) == before and "2 PNG files written again" in capsys.readouterr().out


def test_another_level_keeps_what_was_painted(finished):
    run, _ = finished
    shutil.rmtree(run.path / "masks-by-hand", ignore_errors=True)
    damage(run)
    render(run.path, 0.7)
    assert np.array(Image.open(run.path / "masks-by-hand/images/1.png")).min() == 1
    assert not check_pngs(RunFolder.open(run.path)) and len(pngs(run)) == 8
    render(run.path, "auto")


def test_a_photograph_replaced_after_fit(finished, tmp_path: Path):
    run, source = finished
    assert set(load_catalog(run.path / "dataset.json").states) == {f"images/{number}" for number in range(8)}
    path = source / "images/5.png"
    old = path.read_bytes()
    Image.new("RGB", (80, 64)).save(path)
    with pytest.raises(StoreError, match=r"images/5\.png: another picture than when the masks were made"):
        export_run(run, "voc", tmp_path / "out")
    path.write_bytes(old)
    assert export_run(run, "voc", tmp_path / "out").images == 8, "put back, with another time"
