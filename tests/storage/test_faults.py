"""What is damaged, deleted or left behind in a run: named with a way out, or made anew."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import TINY

from recamlabel.cli.demo import prepare
from recamlabel.cli.main import run as run_cli
from recamlabel.demo.scenes import SceneSettings
from recamlabel.errors import StoreError
from recamlabel.masks.reviewed import Decision, ReviewFolder
from recamlabel.run.rounds import open_round
from recamlabel.storage.atomic import placing, remove_dead, replacing, temporary_name, write_text
from recamlabel.storage.hdf5 import ShardedWriter
from recamlabel.storage.run_folder import RunFolder

SETTINGS = (*TINY, "refine.method=none", "segmenter.enabled=false")


def arrays(*names: str) -> dict[str, dict[str, tuple[np.ndarray, dict]]]:
    return {name: {name: (np.full((2, 2), ord(name[0]), np.uint8), {})} for name in names}


def write(target: Path, names: str, *, finish: bool = False) -> ShardedWriter:
    with ShardedWriter(target, "key", {}, shard_size=2) as writer:
        for name, parts in arrays(*names).items():
            if name not in writer.done:
                writer.add(name, parts)
        if finish:
            writer.finish()
        else:
            writer.flush()
    return writer


def test_a_deleted_part_replaces_no_other_and_is_made_anew(tmp_path: Path) -> None:
    target = tmp_path / "maps.h5"
    write(target, "abcd")
    parts = sorted((tmp_path / ".maps.h5.parts" / "key").iterdir())
    parts[0].unlink()
    write(target, "abcdef", finish=True)
    with h5py.File(target) as file:
        assert sorted(file) == list("abcdef") and file["d"][0, 0] == ord("d")


def test_a_damaged_part_is_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "maps.h5"
    write(target, "abcd")
    part = sorted((tmp_path / ".maps.h5.parts" / "key").iterdir())[0]
    part.write_bytes(part.read_bytes()[:100])
    write(target, "abcd", finish=True)
    assert "a damaged part of maps.h5" in capsys.readouterr().err
    with h5py.File(target) as file:
        assert sorted(file) == list("abcd")


def test_a_part_that_goes_meanwhile_stops_the_stage(tmp_path: Path) -> None:
    with ShardedWriter(tmp_path / "maps.h5", "key", {}, shard_size=2) as writer:
        for name, parts in arrays(*"abcd").items():
            writer.add(name, parts)
        writer.flush()
        next((tmp_path / ".maps.h5.parts" / "key").iterdir()).unlink()
        with pytest.raises(StoreError, match=r"the parts with 2 images have gone \(\w, \w, …\)"):
            writer.finish()
    assert not (tmp_path / "maps.h5").exists()


def test_an_image_called_as_the_list_of_images(tmp_path: Path) -> None:
    with ShardedWriter(tmp_path / "maps.h5", "key", {}) as writer:
        writer.add("__ids__", arrays("a")["a"] and {"__ids__": (np.zeros((1, 1), np.uint8), {})})
        writer.finish()
    with h5py.File(tmp_path / "maps.h5") as file:
        assert list(file) == ["__ids__"]


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_dead_process_left_goes_and_nothing_else(tmp_path: Path) -> None:
    own, gone = temporary_name(".h5"), temporary_name(".h5").replace(f"-{os.getpid()}-", f"-{dead_process()}-")
    host = own.split("-")[1]
    other = gone.replace(host, "0" * len(host))
    for name in (own, gone, other, "notes.tmp"):
        (tmp_path / name).write_text("half")
    (tmp_path / (gone.removesuffix(".h5") + "folder")).mkdir()
    assert remove_dead(tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([own, other, "notes.tmp"])


def test_a_folder_beside_another_removes_what_a_dead_process_left_there(tmp_path: Path) -> None:
    left = tmp_path / temporary_name().replace(f"-{os.getpid()}-", f"-{dead_process()}-")
    left.mkdir()
    with placing(tmp_path / "out") as fresh:
        (fresh / "a").write_text("1")
        assert not left.exists()
    with replacing(tmp_path / "b.txt") as temporary:
        temporary.write_text("2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.txt", "out"]


@pytest.mark.parametrize("damage", ["", "format = [", "\x00\x01"])
def test_a_damaged_record_has_a_copy(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder.create(tmp_path / "run")
    run.finish("maps", "k", 1.0, [])
    (run.path / "run.toml").write_text(damage)
    assert RunFolder.open(run.path).state.stages == run.state.stages
    assert "going on with its copy, work/run.toml" in capsys.readouterr().err
    (run.path / "run.toml").unlink()
    assert RunFolder.create(run.path).state.stages == run.state.stages
    (run.path / "work" / "run.toml").unlink()
    with pytest.raises(StoreError, match="not a run folder"):
        RunFolder.open(run.path)


@pytest.mark.parametrize("damage", ["", "{", "[1]", "\x00"])
def test_damaged_figures_are_measured_anew(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder.create(tmp_path / "run")
    (run.path / "metrics.json").write_text(damage)
    assert run.metrics() == {} and "metrics.json: damaged" in capsys.readouterr().err
    run.update_metrics("a", {"b": 1})
    assert run.metrics() == {"a": {"b": 1}}


@pytest.mark.parametrize("damage", ["", "{}", "\x00", '{"images": 3}'])
def test_a_damaged_catalog_is_made_anew(
    copy_run, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = copy_run(tmp_path, *SETTINGS)
    assert run_cli(["fit", str(run.path)]) == 0
    capsys.readouterr()
    whole = (run.path / "work/dataset.json").read_text()
    (run.path / "work/dataset.json").write_text(damage)
    assert run_cli(["status", str(run.path)]) == 0
    assert run_cli(["fit", str(run.path)]) == 0
    said = capsys.readouterr().err
    assert "made anew from the labels and images" in said and "maps: up to date" in said
    assert (run.path / "work/dataset.json").read_text() == whole


def test_bit_rot_names_the_file(copy_run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, run = copy_run(tmp_path, *SETTINGS)
    with h5py.File(run.path / "masks.h5") as file:
        place = file["images/2"].id.get_chunk_info(0).byte_offset
    content = bytearray((run.path / "masks.h5").read_bytes())
    content[place + 4] ^= 0xFF
    (run.path / "masks.h5").write_bytes(bytes(content))
    assert run_cli(["export", str(run.path), "--format", "voc", "--out", str(tmp_path / "voc")]) == 1
    said = capsys.readouterr().err
    assert f"{run.path / 'masks.h5'}: damaged" in said and "delete it and run `recamlabel fit` again" in said


def test_a_note_with_other_line_ends_is_read_again(tmp_path: Path) -> None:
    review = ReviewFolder(tmp_path)
    note = "one\u2028two\u0085three\x0bfour"
    review.add([Decision("a", "fix", note)], {}, 255)
    review.add([Decision("b", "fix", "plain")], {}, 255)
    assert {name: one.note for name, one in review.decisions().items()} == {"a": note, "b": "plain"}


def test_a_run_on_a_read_only_disk_is_exported(
    copy_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: object, timeout: float | None = None, **_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    _, run = copy_run(tmp_path, *SETTINGS)
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert run_cli(["export", str(run.path), "--format", "voc", "--out", str(tmp_path / "voc")]) == 0
    assert run_cli(["masks", str(run.path), "--threshold", "0.4"]) == 1
    assert "not allowed" in capsys.readouterr().err


def dead_name(suffix: str = "") -> str:
    """The name of a temporary file of a process that was killed."""
    return temporary_name(suffix).replace(f"-{os.getpid()}-", f"-{dead_process()}-")


def test_a_file_removes_what_a_dead_process_left_beside_it(tmp_path: Path) -> None:
    left = tmp_path / dead_name(".json")
    left.write_text("half")
    write_text(tmp_path / "a.json", "{}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_round_keeps_nothing_of_a_dead_process(copy_run, tmp_path: Path) -> None:
    _, run = copy_run(tmp_path, *SETTINGS)
    left = run.path / "rounds" / "2" / "work" / dead_name(".h5")
    left.parent.mkdir(parents=True)
    left.write_text("half")
    open_round(run, 2)
    assert not left.exists()


def test_what_was_killed_before_it_had_a_record_begins_anew(tmp_path: Path) -> None:
    for name in ("run", "demo"):
        (tmp_path / name).mkdir()
        (tmp_path / name / dead_name(".toml")).write_text("half")
    assert RunFolder.create(tmp_path / "run").path.is_dir()
    scenes = prepare(tmp_path / "demo", SceneSettings(images=1, side=48))
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == ["data", "demo.json", "truth"]
    assert scenes.labels.is_file()
    (tmp_path / "demo2").mkdir()
    (tmp_path / "demo2" / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="nothing was written"):
        prepare(tmp_path / "demo2", SceneSettings(images=1, side=48))


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_table_to_fill_in_appears_whole(tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["init", str(tiny_csv / "images"), "--out", str(tmp_path / "labels.csv")]
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", interrupt)
        assert run_cli(words) == 130 and not (tmp_path / "labels.csv").exists()
    assert run_cli(words) == 0 and len((tmp_path / "labels.csv").read_text().splitlines()) == 9


@pytest.mark.parametrize("target", ["csv", "openimages"])
def test_converted_labels_appear_whole(
    tiny_csv: Path, tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plain = tmp_path / "labels", write_text

    def dying(path: Path, text: str) -> None:
        if path.name == "classes.txt":
            raise KeyboardInterrupt
        plain(path, text)

    words = ["convert", str(tiny_csv), "--to", target, "--out", str(out)]
    with monkeypatch.context() as patch:
        patch.setattr(f"recamlabel.adapters.{target}.write.write_text", dying)
        assert run_cli(words) == 130 and not out.exists()
    assert run_cli(words) == 0
    assert str(out / "classes.txt") in capsys.readouterr().out and (out / "classes.txt").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "labels", "truth"]
