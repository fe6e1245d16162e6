"""End to end on a drawn data set: what a person gets, what a second run redoes, what a kill leaves."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import TINY, draw, make_tiny_csv
from PIL import Image

from recamlabel.cli.main import run as run_cli
from recamlabel.config import load_config
from recamlabel.data.catalog import load_catalog
from recamlabel.errors import ConfigError, DatasetError, MissingExtraError, StoreError, WeightsError
from recamlabel.export import export_run
from recamlabel.masks.pngs import check_pngs
from recamlabel.masks.quality import read_quality
from recamlabel.run.fit import fit, render
from recamlabel.storage.run_folder import RunFolder

STAGES = ["features", "gate", "classifier", "recam", "maps", "probe", "refine", "calibration", "masks", "quality"]


PLAIN = [*TINY, "refine.method=none"]


def config(*lines: str):
    return load_config("quick", assignments=[*PLAIN, *lines])


def ran(capsys) -> list[str]:
    return [line.split(":")[0] for line in capsys.readouterr().err.splitlines() if ": done in" in line]


def tree(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def finished(copy_run, tmp_path_factory):
    """One finished run, shared by the tests that only read it."""
    return copy_run(tmp_path_factory.mktemp("finished"), *PLAIN)[1]


@pytest.fixture
def copied(copy_run, tmp_path):
    """The data set and a finished run of one's own."""
    return copy_run(tmp_path, *PLAIN)


def test_masks_have_the_images_size_and_only_their_labels(finished):
    with h5py.File(finished.path / "masks.h5") as file:
        for number, allowed in enumerate([{0, 1}, {0, 2}, {0, 1, 2}, {0}, {0, 2}]):
            png = np.array(Image.open(finished.path / "masks" / "images" / f"{number}.png"))
            assert png.shape == (64, 80) and png.dtype == np.uint8 and set(np.unique(png)) <= allowed | {255}
            assert np.array_equal(png, file[f"images/{number}"][()])
        assert file.attrs["class_names"] == '["red", "blue"]'
        assert 0 < file.attrs["threshold"] < 1 and file.attrs["software"].startswith("recamlabel ")


def test_maps_hold_cam_and_recam_of_the_labels(finished):
    with h5py.File(finished.path / "work/maps.h5") as file:
        for group in ("cam", "recam"):
            maps = file[f"{group}/images/2"]
            assert maps.shape == (2, 16, 20) and maps.dtype == np.float16 and list(maps.attrs["class_ids"]) == [1, 2]
            values = maps[()]
            assert np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1
            assert file[f"{group}/images/3"].shape == (0, 16, 20)


def test_provenance_is_written_down(finished):
    state = RunFolder.open(finished.path).state
    assert state.config["seed"] == 0 and state.dataset["classes"] == ["red", "blue"]
    assert {"recamlabel", "torch", "python"} <= set(state.versions)
    assert [name for name in STAGES if name not in state.stages] == []
    steps = [event for event in finished.events() if event.get("event") == "step" and event["stage"] == "recam"]
    assert steps and {"loss_bce", "loss_sce", "accuracy"} <= set(steps[-1])


def test_a_second_fit_does_nothing_and_a_changed_setting_what_depends_on_it(tiny_csv, tmp_path, capsys):
    out, before = tmp_path / "run", tree(tiny_csv)
    fit(tiny_csv, out, config())
    assert ran(capsys) == STAGES
    assert tree(tiny_csv) == before  # the user's own files are never written to
    fit(tiny_csv, out, config())
    text = capsys.readouterr().err
    assert text.count("up to date, skipped") == len(STAGES) and "decode" not in text
    fit(tiny_csv, out, config("masks.threshold=0.3"))
    assert ran(capsys) == ["masks", "quality"]
    fit(tiny_csv, out, config("masks.threshold=0.3", "recam.combine=sum"))
    assert ran(capsys) == ["maps", "probe", "refine", "calibration", "masks", "quality"]
    fit(tiny_csv, out, config("masks.threshold=0.3", "recam.combine=sum", "recam.lr=0.3"))
    assert ran(capsys) == ["recam", "maps", "probe", "refine", "calibration", "masks", "quality"]


def test_a_changed_label_is_noticed(copied, capsys):
    tiny_csv, out = copied[0], copied[1].path
    ran(capsys)
    table = tiny_csv / "labels.csv"
    table.write_text(table.read_text().replace("images/7.png,blue,val", "images/7.png,red,val"))
    fit(tiny_csv, out, config())
    assert ran(capsys) == [
        "gate",
        "maps",
        "probe",
        "refine",
        "calibration",
        "masks",
        "quality",
    ]  # a val image trains nothing
    table.write_text(table.read_text().replace("images/0.png,red,train", "images/0.png,blue,train"))
    fit(tiny_csv, out, config())
    assert ran(capsys) == STAGES[1:]  # the pixels are the same


def test_same_seed_same_masks(finished, tmp_path):
    again = fit(make_tiny_csv(tmp_path), tmp_path / "run", config())
    with h5py.File(again.path / "work/maps.h5") as one, h5py.File(finished.path / "work/maps.h5") as two:
        assert np.array_equal(one["recam/images/2"][()], two["recam/images/2"][()])


def test_render_changes_the_masks_alone(copied):
    run = copied[1]
    kept = {name: (run.path / name).read_bytes() for name in ("work/maps.h5", "work/scores.h5")}
    render(run.path, 1.0)
    # No pixel is above that level: what is left are the labelled classes' best regions.
    table, qualities = load_catalog(run.path / "work/dataset.json").dataset.classes, read_quality(run.path)
    for image in load_catalog(run.path / "work/dataset.json").images:
        mask, own = np.array(Image.open(run.path / f"masks/{image.id}.png")), table.ids_of(image.present)
        assert list(qualities[image.id].kept) == own and set(np.unique(mask)) - {0, 255} == set(own)
    assert {name: (run.path / name).read_bytes() for name in kept} == kept
    assert RunFolder.open(run.path).state.config["masks"]["threshold"] == 1.0
    render(run.path, 0.0)
    shares = [np.mean(np.array(Image.open(path)) > 0) for path in (run.path / "masks").rglob("*.png")]
    assert max(shares) > 0.5
    render(run.path, "auto")
    assert RunFolder.open(run.path).state.config["masks"]["threshold"] == "auto"
    with pytest.raises(ConfigError, match="threshold"):
        render(run.path, 2.0)


def test_render_needs_a_finished_run(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    with pytest.raises(StoreError, match="stage 'refine' is not finished; run `recamlabel fit` again"):
        render(run.path, 0.5)


def test_one_class_no_split_and_unlabelled_images(tmp_path):
    rows = ["image,labels"]
    for number in range(3):
        draw(tmp_path / "data" / f"{number}.png", ["red"] if number else [], number, size=(40, 30))
        rows.append(f"{number}.png,{'red' if number else ''}")
    (tmp_path / "data" / "labels.csv").write_text("\n".join(rows))
    run = fit(tmp_path / "data", tmp_path / "run", config())
    masks = [np.array(Image.open(run.path / "masks" / f"{number}.png")) for number in range(3)]
    assert masks[0].max() in {0, 255} and [mask.shape for mask in masks] == [(40, 30)] * 3


def test_exif_orientation_is_the_same_in_image_and_mask(tiny_csv, tmp_path):
    path = tiny_csv / "images" / "0.png"
    image = Image.open(path).convert("RGB")
    exif = image.getexif()
    exif[274] = 6  # shown rotated by 90 degrees
    image.save(tiny_csv / "images" / "rotated.jpg", exif=exif)
    table = tiny_csv / "labels.csv"
    table.write_text(table.read_text() + "images/rotated.jpg,red,train\n")
    run = fit(tiny_csv, tmp_path / "run", config())
    assert np.array(Image.open(run.path / "masks" / "images" / "rotated.png")).shape == (80, 64)


def test_a_bad_image_stops_before_anything_is_written_or_is_left_out(tiny_csv, tmp_path, capsys):
    (tiny_csv / "images" / "1.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"1\.png"):
        fit(tiny_csv, tmp_path / "run", config())
    assert not (tmp_path / "run").exists()
    run = fit(tiny_csv, tmp_path / "run", config("data.on_bad_image=skip"))
    assert "left out" in capsys.readouterr().err
    assert not (run.path / "masks" / "images" / "1.png").exists()
    assert len(list((run.path / "masks").rglob("*.png"))) == 7


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ("recam.combine=best", ConfigError, "recam.combine: unknown 'best'. The rules are: contrast, product"),
        ("refine.method=magic", ConfigError, "refine.method: unknown 'magic'. The methods are: auto, none"),
        ("maps.variant=magic", ConfigError, "maps.variant: unknown 'magic'. The variants are: cam"),
        ("runtime.device=cuda:99", ConfigError, "device 'cuda:99' asked for"),
        ("runtime.device=gpu", ConfigError, "unknown device 'gpu'; expected auto, cpu, cuda or cuda:N"),
        ('data.train_splits=["training"]', DatasetError, "training"),
    ],
)
def test_impossible_settings_write_nothing(tiny_csv, tmp_path, line, error, message):
    with pytest.raises(error, match=message):
        fit(tiny_csv, tmp_path / "run", config(line))
    assert not (tmp_path / "run").exists()


def test_an_interrupted_rendering_starts_over(copied, monkeypatch):
    run = copied[1]
    import recamlabel.masks.render as module

    whole, calls = module.save_mask, []

    def interrupted(path, mask, palette=None):
        calls.append(path)
        if len(calls) > 5:
            raise KeyboardInterrupt
        whole(path, mask, palette)

    monkeypatch.setattr(module, "save_mask", interrupted)
    before = (run.path / "masks.h5").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        render(run.path, 0.1)
    assert (run.path / "masks.h5").read_bytes() == before and len(list((run.path / "masks").rglob("*.png"))) == 8
    assert RunFolder.open(run.path).stage_state("masks") == "not run"
    monkeypatch.setattr(module, "save_mask", whole)
    render(run.path, 0.1)
    assert RunFolder.open(run.path).stage_state("masks") == "finished"
    assert not list(run.path.glob(".masks*"))


def test_an_interrupted_redo_leaves_nothing_that_mixes_old_and_new(copied, monkeypatch, tmp_path):
    tiny_csv, run = copied
    (tiny_csv / "classes.txt").write_text("amber\nred\nblue\n")  # every id moves by one

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("recamlabel.stages.training.train", stop)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_csv, run.path, config())
    states = {name: RunFolder.open(run.path).stage_state(name) for name in STAGES}
    # The gate comes before the training, and is that of the new labels.
    assert states.pop("features") == states.pop("gate") == "finished" and states.pop("classifier") == "not run"
    assert set(states.values()) == {"outdated"}
    with pytest.raises(StoreError, match="stage 'refine' is outdated"):
        render(run.path, 0.3)
    with pytest.raises(StoreError, match="stage 'masks' is outdated"):
        export_run(RunFolder.open(run.path), "hdf5", tmp_path / "out")


def test_skipped_images_are_listed_again_and_stop_a_plain_fit(tiny_csv, tmp_path, capsys):
    (tiny_csv / "images" / "1.png").write_bytes(b"")
    skip = config("data.on_bad_image=skip")
    fit(tiny_csv, tmp_path / "run", skip)
    capsys.readouterr()
    fit(tiny_csv, tmp_path / "run", skip)
    text = capsys.readouterr().err
    assert text.count("left out: ") == 1 and text.count("up to date") == len(STAGES)
    with pytest.raises(DatasetError, match=r"1\.png"):
        fit(tiny_csv, tmp_path / "run", config())


def test_a_missing_image_that_was_skipped_does_not_freeze_the_data_set(tiny_csv, tmp_path):
    (tiny_csv / "images" / "7.png").unlink()
    skip = config("data.on_bad_image=skip")
    fit(tiny_csv, tmp_path / "run", skip)
    draw(tiny_csv / "images" / "new.png", ["red"], 50)
    table = tiny_csv / "labels.csv"
    table.write_text(table.read_text() + "images/new.png,red,train\n")
    run = fit(tiny_csv, tmp_path / "run", skip)
    assert (run.path / "masks" / "images" / "new.png").exists() and (run.path / "masks" / "images" / "0.png").exists()


def test_a_wrong_split_is_refused_before_an_existing_run_is_touched(copied):
    tiny_csv, run = copied
    before = (run.path / "run.toml").read_text()
    with pytest.raises(DatasetError, match="vall"):
        fit(tiny_csv, run.path, config('data.train_splits=["vall"]'))
    assert (run.path / "run.toml").read_text() == before


def test_a_bad_place_is_refused_before_any_image_is_decoded(tiny_csv, capsys):
    with pytest.raises(StoreError, match="not empty"):
        fit(tiny_csv, tiny_csv, config())
    assert "decode" not in capsys.readouterr().err


def test_offline_imagenet_weights_fail_at_once(tiny_csv, tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("recamlabel.models.weights.PROXY_VARIABLES", ())
    monkeypatch.setattr("socket.create_connection", unreachable)
    began = time.monotonic()
    with pytest.raises(WeightsError, match=r"no route to host\); use --weights FILE.*--preset quick"):
        fit(tiny_csv, tmp_path / "run", config("backbone.name=resnet50", "backbone.weights=imagenet"))
    assert time.monotonic() - began < 10 and not (tmp_path / "run").exists()


def test_warnings_of_check_are_said_by_fit(tmp_path, capsys):
    for number in range(3):
        draw(tmp_path / "data" / "red" / f"{number}.png", ["red"], number, size=(40, 40))
    fit(tmp_path / "data", tmp_path / "run", config("runtime.force=true"))
    assert "the 3 training images have 'red', and none is known to be without it" in capsys.readouterr().err


def test_a_run_is_not_put_among_class_folders(tmp_path):
    draw(tmp_path / "red" / "1.png", ["red"], 0)
    draw(tmp_path / "blue" / "2.png", ["blue"], 1)
    with pytest.raises(DatasetError, match="lies inside the data set"):
        fit(tmp_path, tmp_path / "runs" / "one", config())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blue", "red"]


def test_without_pydensecrf_its_backend_is_refused(tiny_csv, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(MissingExtraError, match=r"backend=pydensecrf needs .*pip install 'recamlabel\[crf\]'.*'torch'"):
        fit(tiny_csv, tmp_path / "run", config("refine.method=crf", "refine.crf.backend=pydensecrf"))
    assert not (tmp_path / "run").exists()  # before any work


def test_crf_scores_are_equal_for_any_number_of_workers(tiny_csv, tmp_path):
    lines = ("refine.method=crf", "refine.levels=[0.3, 0.6]", "refine.crf.iterations=2", "refine.smooth=0")
    one = fit(tiny_csv, tmp_path / "one", config(*lines, "runtime.workers=1"))
    two = fit(tiny_csv, tmp_path / "two", config(*lines, "runtime.workers=2"))
    with h5py.File(one.path / "work/scores.h5") as first, h5py.File(two.path / "work/scores.h5") as second:
        for number in range(8):
            stored = first[f"scores/images/{number}"][()]
            assert np.array_equal(stored, second[f"scores/images/{number}"][()])
            assert set(np.unique(stored)) <= {0, 115, 204}  # 0, half-way 0.3 to 0.6, half-way 0.6 to 1


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_fit_continues_after_kill_nine(tiny_csv, tmp_path):
    out = tmp_path / "run"
    slow = [item for line in (*PLAIN, "classifier.min_steps=60", "classifier.max_steps=60") for item in ("--set", line)]
    command = [sys.executable, "-m", "recamlabel", "fit", str(tiny_csv), "--out", str(out), *slow]
    process = subprocess.Popen(command, env={**os.environ, "RECAMLABEL_CHECKPOINT_SECONDS": "0.1"})
    checkpoint = out / "weights" / "classifier.checkpoint"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.exists() and not (out / "weights" / "classifier.safetensors").exists()
    again = subprocess.run(command[:-4] + slow[-4:], capture_output=True, text=True, check=False, timeout=300)
    assert again.returncode == 0, again.stderr
    assert "classifier: continues at step" in again.stderr and (out / "masks.h5").exists()
    assert not checkpoint.exists()


def test_extreme_sizes_and_two_hundred_classes(tmp_path):
    """1x1 and 4000x3000 pixels, one label of 200: defined masks, never a NaN in a stored map."""
    names = [f"class {number}" for number in range(200)]
    sizes = [(1, 1), (3000, 4000), (5, 300), (64, 64)]
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "classes.txt").write_text("\n".join(names))
    rows = ["image,labels"]
    for number, size in enumerate(sizes):
        Image.new("RGB", size[::-1], (200, 10 * number, 30)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{names[number]};{names[-1]}" if number else f"{number}.png,{names[0]};{names[1]}")
    (folder / "labels.csv").write_text("\n".join(rows))
    # Pictures of one colour each: refused unless forced.
    settings = ["maps.max_side=64", "refine.max_side=64", "recam.combine=contrast", "runtime.force=true"]
    run = fit(folder, tmp_path / "run", config(*settings))
    with h5py.File(run.path / "work/maps.h5") as file:
        for group in ("cam", "recam"):
            for number in range(4):
                maps = file[f"{group}/{number}"][()]
                assert maps.shape[0] == 2 and np.isfinite(maps).all() and maps.min() >= 0 and maps.max() <= 1
    for number, size in enumerate(sizes):
        mask = np.array(Image.open(run.path / "masks" / f"{number}.png"))
        assert mask.shape == size and set(np.unique(mask)) <= {0, 255, number + 1, 200 if number else 2}


@pytest.fixture
def spoilt(finished, tmp_path):
    """A copy of the finished run, one mask PNG deleted and one painted, and its PNG files before."""
    shutil.copytree(finished.path, tmp_path / "copy")
    (tmp_path / "copy/masks/images/0.png").unlink()
    Image.fromarray(np.ones((64, 80), np.uint8)).save(tmp_path / "copy/masks/images/1.png")
    return RunFolder.open(tmp_path / "copy"), pngs(finished)


def pngs(run: RunFolder) -> list[bytes]:
    return [path.read_bytes() for path in sorted((run.path / "masks").rglob("*.png"))]


def test_fit_writes_mask_pngs_again_and_redoes_nothing(finished, spoilt, capsys):
    run, before = spoilt
    fit(finished.path.parent / "data", run.path, config())
    said = capsys.readouterr().err
    assert ": done in" not in said and "masks: up to date" in said
    assert "1 PNG file of masks/ is missing (images/0), 1 was changed since it was made (images/1)" in said
    assert pngs(run) == before
    shutil.rmtree(run.path / "masks")
    fit(finished.path.parent / "data", run.path, config())
    assert ": done in" not in capsys.readouterr().err and pngs(run) == before


def test_masks_writes_mask_pngs_again_at_the_level_they_have(spoilt, capsys):
    run, before = spoilt
    render(run.path, "auto")
    assert pngs(run) == before
    (run.path / "masks/images/0.png").unlink()
    assert run_cli(["masks", str(run.path)]) == 0
    assert "1 PNG file written again" in capsys.readouterr().out and pngs(run) == before


def test_another_level_keeps_a_mask_that_was_painted(spoilt):
    run, _ = spoilt
    render(run.path, 0.7)
    assert np.array(Image.open(run.path / "masks-by-hand/images/1.png")).min() == 1
    assert not check_pngs(RunFolder.open(run.path)) and len(tree(run.path / "masks")) == 8


def test_the_catalog_knows_the_files_it_was_made_from(finished):
    catalog = load_catalog(finished.path / "work/dataset.json")
    stats = {image.id: image.path.stat() for image in catalog.images}
    assert dict(catalog.states) == {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}
