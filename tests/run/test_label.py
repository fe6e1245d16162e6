"""``recamlabel label``: what a finished run knows, applied to other images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import TINY_SEGMENTER, arrays, draw
from PIL import Image

from recamlabel.cli.main import run as run_cli
from recamlabel.core.classes import ClassTable
from recamlabel.errors import ConfigError, DatasetError, MissingExtraError, StoreError
from recamlabel.run.fit import render
from recamlabel.run.label.batch import Batch, Job, Labeller, refuse_changed
from recamlabel.run.label.chain import Chain
from recamlabel.run.label.identity import check_alike, identity_of
from recamlabel.run.label.shards import Output
from recamlabel.run.label.verb import Options, label
from recamlabel.run.predict import predict
from recamlabel.run.rounds import install, kept_round
from recamlabel.storage.run_folder import RunFolder

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra cluster)")

# Every stage that makes something of an image; a variant that looks at samples of the run's own images.
FULL = [
    *(*TINY_SEGMENTER, "refine.method=crf+random_walk", "rounds=2", "local.enabled=true", "local.folds=2"),
    *("probe.fine_sides=[96]", "affinity.min_steps=2", "affinity.max_steps=2", "affinity.radius=3"),
    *("refine.levels=[0.3]", "refine.crf.iterations=1", "refine.affinity=features"),
]
PLAIN = [*TINY_SEGMENTER, "maps.variant=lpcam", "segmenter.predict.smooth=none"]


@pytest.fixture(scope="module")
def full(copy_run, tmp_path_factory):
    """A run of two rounds with the second in place, whichever was kept; only read."""
    data, run = copy_run(tmp_path_factory.mktemp("full"), *FULL)
    install(run, 2, run.key_of("rounds"))
    return data, run.path


@pytest.fixture(scope="module")
def plain(copy_run, tmp_path_factory):
    """A run of one round; only read."""
    data, run = copy_run(tmp_path_factory.mktemp("plain"), *PLAIN)
    return data, run.path


def made(out: Path) -> dict[str, np.ndarray]:
    """All masks of an output."""
    found: dict[str, np.ndarray] = {}
    for shard in sorted((out / "shards").glob("*.h5")):
        found |= arrays(shard)
    return found


def rows(out: Path) -> list[dict]:
    return parquet.read_table(out / "manifest.parquet").to_pylist()


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def options(**more) -> Options:
    return Options(**{"shard_images": 3, "workers": 1, "device": "cpu", **more})


def test_the_runs_own_images_get_the_runs_own_masks_and_quality(full, tmp_path):
    data, run = full
    assert kept_round(RunFolder.open(run)) == 2
    done = label(run, data, tmp_path / "out", options())
    assert (done.images, done.masks, done.labelled, done.done_before) == (8, 8, True, 0)
    assert same(made(tmp_path / "out"), arrays(run / "masks.h5"))
    quality = json.loads((run / "quality.json").read_text())["images"]
    table = rows(tmp_path / "out")
    assert {row["id"]: row["quality"] for row in table} == {name: one["score"] for name, one in quality.items()}
    first = table[0]
    assert (first["id"], first["labels"], first["height"], first["width"]) == ("images/0", ["red"], 64, 80)
    assert first["bytes"] == (data / "images/0.png").stat().st_size and len(first["hash"]) == 32
    assert sum(share for _, share in first["shares"]) == pytest.approx(1, abs=1e-5)
    assert first["stage_key"] == RunFolder.open(run).key_of("masks") and first["mask"] == "shards/000000.h5"


def test_an_image_is_known_again_by_its_content_not_by_its_name(full, tmp_path):
    """Else its probe would have been fitted to it, and its mask be another one."""
    data, run = full
    lines = ["image,labels"]
    for number, names in enumerate(("red", "blue", "red blue")):
        shutil.copy(data / f"images/{number}.png", _folder(tmp_path / "new") / f"of-{number}.png")
        lines.append(f"of-{number}.png,{names}")
    (tmp_path / "new/labels.csv").write_text("\n".join(lines) + "\n")
    label(run, tmp_path / "new", tmp_path / "out", options(shard_images=2))
    theirs, own = arrays(run / "masks.h5"), made(tmp_path / "out")
    assert all(np.array_equal(own[f"of-{number}"], theirs[f"images/{number}"]) for number in range(3))


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def test_of_a_variant_that_looks_at_samples_too(plain, tmp_path):
    data, run = plain
    label(run, data, tmp_path / "out", options(shard_images=5))
    assert same(made(tmp_path / "out"), arrays(run / "masks.h5"))


def test_new_images_have_only_their_labels(plain, tmp_path):
    _, run = plain
    draw(tmp_path / "new/a.png", ["red", "blue"], 50, size=(48, 70))
    draw(tmp_path / "new/b.png", [], 51)
    (tmp_path / "new/labels.csv").write_text("image,labels\na.png,blue\nb.png,\n")
    label(run, tmp_path / "new", tmp_path / "out", options(format="png"))
    mask = np.array(Image.open(tmp_path / "out/masks/a.png"))
    assert mask.shape == (48, 70) and set(np.unique(mask)) <= {0, 2, 255} and (mask == 2).any()
    assert not np.array(Image.open(tmp_path / "out/masks/b.png")).any()
    assert (tmp_path / "out/classes.txt").read_text() == "red\nblue\n"
    assert [row["mask"] for row in rows(tmp_path / "out")] == ["masks/a.png", "masks/b.png"]


def test_without_labels_it_is_what_predict_makes(plain, tmp_path):
    data, run = plain
    done = label(run, data / "images", tmp_path / "out", options())
    predict(run, data / "images", tmp_path / "predicted", device="cpu")
    assert not done.labelled
    assert same(made(tmp_path / "out"), arrays(tmp_path / "predicted/masks.h5"))
    row = rows(tmp_path / "out")[0]
    assert (row["id"], row["labels"], row["quality"]) == ("0", [], None)
    assert row["stage_key"] == RunFolder.open(run).key_of("segmenter")


def test_labels_can_be_left_aside(plain, tmp_path):
    data, run = plain
    assert not label(run, data, tmp_path / "out", options(labels=False)).labelled
    assert "images/0" in made(tmp_path / "out")


def test_what_is_finished_is_not_done_again_and_a_stopped_call_goes_on(plain, tmp_path, monkeypatch):
    data, run = plain
    label(run, data, tmp_path / "whole", options(labels=False))
    calls: list[int] = []
    whole = Labeller.__call__

    def counted(self: Labeller, batch: Batch):
        calls.append(batch.number)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(self, batch)

    monkeypatch.setattr(Labeller, "__call__", counted)
    with pytest.raises(KeyboardInterrupt):
        label(run, data, tmp_path / "out", options(labels=False))
    assert not (tmp_path / "out/manifest.parquet").exists()
    done = label(run, data, tmp_path / "out", options(labels=False))
    assert calls == [0, 1, 1, 2] and done.done_before == 3
    assert same(made(tmp_path / "out"), made(tmp_path / "whole")) and rows(tmp_path / "out") == rows(tmp_path / "whole")


def test_a_shard_is_made_anew_where_a_file_of_it_is_lost_or_an_image_or_a_label_changes(plain, tmp_path, monkeypatch):
    data, run = plain
    shutil.copytree(data, tmp_path / "data")
    asked = options(format="png")
    label(run, tmp_path / "data", tmp_path / "out", asked)
    calls: list[int] = []
    whole = Labeller.__call__
    monkeypatch.setattr(Labeller, "__call__", lambda self, batch: calls.append(batch.number) or whole(self, batch))
    (tmp_path / "out/masks/images/4.png").unlink()
    label(run, tmp_path / "data", tmp_path / "out", asked)
    assert calls == [1]
    draw(tmp_path / "data/images/7.png", ["blue"], 99)
    label(run, tmp_path / "data", tmp_path / "out", asked)
    assert calls == [1, 2]
    text = (tmp_path / "data/labels.csv").read_text()
    (tmp_path / "data/labels.csv").write_text(text.replace("images/0.png,red,", "images/0.png,blue,"))
    label(run, tmp_path / "data", tmp_path / "out", asked)
    assert calls == [1, 2, 0] and rows(tmp_path / "out")[0]["labels"] == ["blue"]
    # Of a data set that has become smaller nothing is left behind.
    (tmp_path / "data/labels.csv").write_text("\n".join(text.splitlines()[:4]) + "\n")
    label(run, tmp_path / "data", tmp_path / "out", asked)
    assert len(rows(tmp_path / "out")) == 3
    assert sorted(path.name for path in (tmp_path / "out/masks/images").iterdir()) == ["0.png", "1.png", "2.png"]


def test_a_bad_image_stops_it_or_is_named_in_the_manifest(plain, tmp_path, capsys):
    data, run = plain
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data/images/4.png").write_bytes(b"no image")
    arguments = ["label", str(tmp_path / "data"), "--run", str(run), "--out", str(tmp_path / "out")]
    arguments += ["--shard-images", "3", "--workers", "1", "--no-labels"]
    assert run_cli(arguments) == 1
    told = capsys.readouterr().err
    assert "4.png: not an image" in told and "--on-bad-image skip" in told and "finished shards are kept" in told
    assert (tmp_path / "out/shards/000000.parquet").is_file() and not (tmp_path / "out/shards/000001.h5").exists()
    arguments[5] = str(tmp_path / "skipped")
    assert run_cli([*arguments, "--on-bad-image", "skip"]) == 0
    table = rows(tmp_path / "skipped")
    assert [row["id"] for row in table] == [f"images/{number}" for number in range(8)]
    assert table[4]["mask"] is None and "not an image" in table[4]["problem"]
    assert "7 of 8 images" in capsys.readouterr().out


def test_an_image_that_changes_meanwhile_is_noticed(plain, tmp_path, monkeypatch):
    data, run = plain
    shutil.copytree(data, tmp_path / "data")
    monkeypatch.setattr(
        "recamlabel.run.label.batch.refuse_changed",
        lambda catalog: (tmp_path / "data/images/1.png").unlink(missing_ok=True) or refuse_changed(catalog),
    )
    with pytest.raises(DatasetError, match=r"1\.png: has gone while its mask was made; .* finished shards are kept"):
        label(run, tmp_path / "data", tmp_path / "out", options())


def test_a_run_that_changes_meanwhile_is_noticed(copy_run, tmp_path, monkeypatch):
    data, run = copy_run(tmp_path, *PLAIN)
    whole = Chain.make

    def rendered_meanwhile(self: Chain, *given: object) -> None:
        whole(self, *given)
        render(run.path, threshold=0.7)

    monkeypatch.setattr(Chain, "make", rendered_meanwhile)
    with pytest.raises(StoreError, match="the run has changed while its masks were made"):
        label(run.path, data, tmp_path / "out", options())


def test_labels_of_other_classes_are_refused_with_the_runs_own(plain, tmp_path):
    _, run = plain
    draw(tmp_path / "new/a.png", ["red"], 50)
    (tmp_path / "new/labels.csv").write_text("image,labels\na.png,green\n")
    with pytest.raises(DatasetError, match=r"(?s)green.*the run knows red, blue.*--no-labels"):
        label(run, tmp_path / "new", tmp_path / "out", options())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "error", "text"),
    [
        ({"format": "png"}, StoreError, r"made with format='h5', now 'png'"),
        ({"labels": False}, StoreError, r"made with labels=True, now False"),
        ({"ray_address": "localhost:1"}, ConfigError, r"--ray-address: of no use with --engine local"),
        ({"settings": ("masks.threshold=0.4",)}, ConfigError, r"label takes settings of \[data\] alone"),
    ],
)
def test_what_does_not_go_together_is_refused(plain, tmp_path, more, error, text):
    data, run = plain
    label(run, data, tmp_path / "out", options(shard_images=8))
    with pytest.raises(error, match=text):
        label(run, data, tmp_path / "out", options(shard_images=8, **more))


def test_places_that_are_not_written_to(plain, tmp_path):
    data, run = plain
    (_folder(tmp_path / "full") / "a.txt").write_text("mine")
    with pytest.raises(StoreError, match="not empty and not of an earlier `label`"):
        label(run, data, tmp_path / "full", options())
    with pytest.raises(StoreError, match="lies inside"):
        label(run, data, data / "out", options())
    with pytest.raises(StoreError, match="no such run folder"):
        label(tmp_path / "no", data, tmp_path / "out", options())
    with (
        Output.at(tmp_path / "out", {}, ClassTable(("red", "blue"))),
        pytest.raises(StoreError, match="another recamlabel process"),
    ):
        label(run, data, tmp_path / "out", options())


def test_a_run_that_is_not_ready_says_what_to_do(copy_run, tmp_path):
    data, run = copy_run(tmp_path, *PLAIN)
    (run.path / "weights/probe.safetensors").rename(tmp_path / "kept")
    with pytest.raises(StoreError, match=r"probe\.safetensors: no such file: .* delete .*fused\.h5 and run"):
        label(run.path, data, tmp_path / "out", options())
    (tmp_path / "kept").rename(run.path / "weights/probe.safetensors")
    kept = run.state.stages.pop("segmenter")
    run.save()
    with pytest.raises(StoreError, match="stage 'segmenter' is not finished"):
        label(run.path, data / "images", tmp_path / "other", options())
    run.state.stages["segmenter"] = kept
    run.save()
    with h5py.File(run.path / "masks.h5", "a") as file:
        del file.attrs["object_sizes"]
    with pytest.raises(StoreError, match=r"masks\.h5: made by a version that did not keep .* delete it and run"):
        label(run.path, data, tmp_path / "another", options())


def test_masks_rendered_at_another_level_are_what_label_makes(copy_run, tmp_path, capsys):
    data, run = copy_run(tmp_path, *PLAIN)
    render(run.path, threshold=0.8)
    label(run.path, data, tmp_path / "out", options())
    assert same(made(tmp_path / "out"), arrays(run.path / "masks.h5"))
    assert "the quality is without the segmenter's support (masks.threshold" in capsys.readouterr().err


def test_a_worker_with_something_else_is_refused(plain, tmp_path):
    _, run = plain
    known = identity_of(run)
    check_alike(run, known)
    with pytest.raises(Exception, match=r"has recamlabel .*, the driver 0\.0\.1: .* install the same version"):
        check_alike(run, {**known, "recamlabel": "0.0.1"})
    with pytest.raises(StoreError, match="no such run folder there"):
        check_alike(tmp_path / "no", known)
    shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("work", "masks*"))
    (tmp_path / "copy/weights/segmenter.safetensors").write_bytes(b"other")
    with pytest.raises(StoreError, match=r"segmenter\.safetensors: not the file that the driver has"):
        Labeller(Job(tmp_path / "copy", False, identity=known))(Batch(0, "", ()))


def test_without_pyarrow_it_says_what_to_install(plain, tmp_path, monkeypatch):
    data, run = plain
    monkeypatch.setattr("recamlabel.run.label.shards.import_module", _missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'recamlabel\[cluster\]'"):
        label(run, data, tmp_path / "out", options())
    assert not (tmp_path / "out").exists()


def _missing(name: str):
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
