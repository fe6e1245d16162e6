"""Mask PNG files that somebody deleted, cut or painted: noticed, named, kept and written again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from run_by_hand import TinyImage, make_run

from recamlabel.core.classes import ClassTable
from recamlabel.core.colours import mask_palette
from recamlabel.data.catalog import load_catalog
from recamlabel.masks import pngs
from recamlabel.masks.pngs import check_pngs, fix_pngs, match_png_mode
from recamlabel.masks.render import RenderJob, render_masks
from recamlabel.storage.run_folder import RunFolder

NAMES = ("a", "b/c", "d")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Masks that :func:`render_masks` made, from scores by hand."""
    maps = np.random.default_rng(0).random((1, 8, 8)).astype(np.float16)
    run = make_run(
        tmp_path, ("cat",), [TinyImage(name, ("cat",), maps, maps, np.zeros((32, 40), int)) for name in NAMES]
    )
    with h5py.File(run.path / "work/scores.h5", "w") as file:
        for name in NAMES:
            file.create_dataset(f"scores/{name}", data=(maps * 255).astype(np.uint8)).attrs["class_ids"] = [1]
    with h5py.File(run.path / "work/scores.h5") as scores, h5py.File(run.path / "work/maps.h5") as stored:
        job = RenderJob(load_catalog(run.path / "work/dataset.json"), scores, stored, "recam", 0.4, 0.4, "none")
        render_masks(job, run.path, "key", {}, -np.inf, lambda n=1, note="": None, 2)
    run.finish("masks", "key", 1.0, ["masks.h5", "masks"], threshold=0.4)
    return run


def contents(run: RunFolder) -> dict[str, bytes]:
    return {path.relative_to(run.path).as_posix(): path.read_bytes() for path in (run.path / "masks").rglob("*.png")}


def damage(run: RunFolder) -> bytes:
    """Delete ``a``, cut ``b/c`` and paint ``d``; returns what was painted."""
    (run.path / "masks/a.png").unlink()
    cut = run.path / "masks/b/c.png"
    cut.write_bytes(cut.read_bytes()[:40])
    Image.new("L", (40, 32), 1).save(run.path / "masks/d.png")
    return (run.path / "masks/d.png").read_bytes()


def test_rendered_masks_are_as_they_were_made(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pngs, "file_hash", lambda path: pytest.fail(f"{path} was read"))
    assert not check_pngs(run) and check_pngs(run) == pngs.PngDamage()


def test_the_files_have_the_classes_colours_and_the_same_indices(run: RunFolder) -> None:
    with Image.open(run.path / "masks/a.png") as image, h5py.File(run.path / "masks.h5") as stored:
        assert image.mode == "P" and np.array_equal(np.array(image), stored["a"][()])
        assert image.getpalette()[:6] == [0, 0, 0, *mask_palette(ClassTable(("cat",)))[1]]
        assert image.convert("RGB").getpixel((0, 0)) != (0, 0, 0) or np.array(image)[0, 0] == 0


def test_another_mode_writes_the_files_again_and_nothing_else(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run)
    assert not match_png_mode(run) and contents(run) == before
    run.state.config = {"masks": {"png": "L"}}
    assert match_png_mode(run) and "3 PNG files written again in mode L" in capsys.readouterr().err
    with Image.open(run.path / "masks/a.png") as image, h5py.File(run.path / "masks.h5") as stored:
        assert image.mode == "L" and np.array_equal(np.array(image), stored["a"][()])
    assert not check_pngs(run) and not match_png_mode(run)
    (run.path / "masks/a.png").unlink()
    fix_pngs(run)
    assert Image.open(run.path / "masks/a.png").mode == "L"
    run.state.config = {}
    assert match_png_mode(run) and contents(run) == before


def test_deleted_cut_and_painted_ones_are_found_and_written_again(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before, stages = contents(run), dict(run.state.stages)
    painted = damage(run)
    found = check_pngs(run)
    assert (found.missing, found.changed) == (("a",), ("b/c", "d"))
    assert fix_pngs(run) == found
    assert contents(run) == before and not check_pngs(run)
    assert (run.path / "masks-by-hand/d.png").read_bytes() == painted, "somebody's work is not thrown away"
    assert RunFolder.open(run.path).state.stages == stages, "nothing that stands on the masks is done again"
    assert "1 PNG file of masks/ is missing (a), 2 were changed since they were made (b/c, d); written" in (
        capsys.readouterr().err
    )
    Image.new("L", (40, 32), 0).save(run.path / "masks/d.png")
    fix_pngs(run)
    assert (run.path / "masks-by-hand/d.png").read_bytes() == painted
    assert (run.path / "masks-by-hand/d~2.png").is_file() and contents(run) == before


def test_the_same_size_and_another_pixel(run: RunFolder) -> None:
    path = run.path / "masks/d.png"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    assert check_pngs(run).changed == ("d",)


def test_a_copied_run_is_no_changed_one(run: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "copy", copy_function=shutil.copyfile)
    copy = RunFolder.open(tmp_path / "copy")
    for path in (copy.path / "masks").rglob("*.png"):
        os.utime(path, (1, 1))
    assert not check_pngs(copy) and set(check_pngs(copy).touched) == set(NAMES)
    assert not fix_pngs(copy)
    assert check_pngs(copy).touched == (), "the next look reads no file"
    damage(copy)
    assert check_pngs(copy).changed == ("b/c", "d")


def test_the_whole_folder(run: RunFolder) -> None:
    before = contents(run)
    shutil.rmtree(run.path / "masks")
    assert check_pngs(run).missing == NAMES and run.stage_state("masks") == "incomplete"
    fix_pngs(run)
    assert contents(run) == before and run.stage_state("masks") == "finished"


def test_without_a_record_missing_files_are_found(run: RunFolder) -> None:
    before = contents(run)
    (run.path / "work/masks.json").unlink()
    damage(run)
    assert check_pngs(run) == pngs.PngDamage(missing=("a",))
    fix_pngs(run)
    assert contents(run)["masks/a.png"] == before["masks/a.png"]
    for text in ("", "[]", '{"stage_key": "key", "files": {"a": [1]}}', '{"stage_key": "other", "files": {}}'):
        (run.path / "work/masks.json").write_text(text)
        assert not check_pngs(run)


def test_before_there_are_masks_there_is_nothing_to_say(run: RunFolder) -> None:
    damage(run)
    run.begin("masks")
    assert not check_pngs(run) and not fix_pngs(run)
