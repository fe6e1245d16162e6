"""``recamlabel export`` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from export_by_hand import hostile_run, many_classes_run
from filelock import FileLock

from recamlabel.cli.main import run as run_cli
from recamlabel.export import FORMATS
from recamlabel.storage.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return hostile_run(tmp_path)[0]


def export(run: RunFolder, *more: str) -> int:
    return run_cli(["export", str(run.path), *more])


def test_help_lists_the_formats(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["export", "--help"]) == 0
    text = capsys.readouterr().out
    for name, format_ in FORMATS.items():
        assert f"  {name:<12} {format_.description}" in text


def test_export_says_where_and_how_it_was_verified(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert export(run, "--format", "voc", "--out", str(out)) == 0
    streams = capsys.readouterr()
    assert streams.out == f"voc: 6 images in {out}\n"
    assert "verified: SegmentationClass: read with Pillow" in streams.err
    assert "note: 6 images are not called .jpg" in streams.err


def test_options(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycocotools")
    out = tmp_path / "out"
    more = ["--coco-instances", "component", "--split", "val", "--images", "none", "--no-verify"]
    assert export(run, "--format", "coco", "--out", str(out), *more) == 0
    assert "not verified, as asked" in capsys.readouterr().err
    assert [path.name for path in (out / "annotations").iterdir() if "train" in path.name] == []
    panoptic = json.loads((out / "annotations/panoptic_val.json").read_text())
    assert [thing["isthing"] for thing in panoptic["categories"]] == [1, 1, 1, 0]
    assert not (out / "images").exists()


def test_mistakes_get_one_message(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    many = many_classes_run(tmp_path / "many")[0]
    cases = [
        (export(run, "--format", "kitti", "--out", out), 2, "--format: unknown 'kitti'. The formats are: voc, mmseg,"),
        (export(run, "--format", "voc"), 2, "Missing option '--out'"),
        (export(run, "--out", out), 2, "Missing option '--format'"),
        (export(run, "--format", "voc", "--out", str(run.path)), 1, "not empty; nothing was written"),
        (export(run, "--format", "voc", "--out", out, "--split", "test"), 2, "--split: unknown 'test'"),
        (export(run, "--format", "voc", "--out", out, "--what", "segmenter"), 1, "segmenter.h5: not there yet"),
        (export(run, "--format", "voc", "--out", out, "--what", "reviewed"), 1, "nothing in this run is reviewed yet"),
        (export(run, "--format", "cvat", "--out", out, "--images", "copy"), 2, "--images copy: not with cvat"),
        (export(many, "--format", "yolo", "--out", out), 1, "yolo has 8-bit masks and holds 254 classes"),
        (run_cli(["export", str(tmp_path), "--format", "voc", "--out", out]), 1, "not a run folder (no run.toml)"),
    ]
    errors = capsys.readouterr().err
    assert "Traceback" not in errors and not Path(out).exists()
    for code, expected, message in cases:
        assert code == expected and message in errors, message


def test_run_that_another_process_works_on(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock(run.path / ".lock"):
        assert export(run, "--format", "voc", "--out", str(tmp_path / "out")) == 1
    assert "another recamlabel process is working on this run" in capsys.readouterr().err
