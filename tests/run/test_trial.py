"""A trial: ways from labels to masks on a sample, ranked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import TINY, make_tiny_csv

from recamlabel.adapters.base import LabelledImage
from recamlabel.cli.main import run as main
from recamlabel.config import load_config
from recamlabel.masks.calibrate import Answers, LevelEvidence
from recamlabel.run.intake import read_dataset
from recamlabel.run.trial.candidates import candidates
from recamlabel.run.trial.ranking import criterion, ranked
from recamlabel.run.trial.sample import choose_images
from recamlabel.run.trial.trial import run_trial


def images(*labels: str) -> list[LabelledImage]:
    return [LabelledImage(str(n), Path(str(n)), frozenset({name} - {""}), frozenset()) for n, name in enumerate(labels)]


def test_the_sample_has_each_class_and_what_has_a_mask_first() -> None:
    known = images(*["cat"] * 20, "dog", "dog", "")
    chosen = choose_images(known, 5, first={"7"})
    assert [sum(name in one.present for one in chosen) for name in ("cat", "dog")] == [2, 2]
    assert "7" in {one.id for one in chosen}
    assert {one.id for one in choose_images(known[::-1], 5, first={"7"})} == {one.id for one in chosen}
    assert len(choose_images(known, 99)) == 23


def test_ties_are_those_whose_difference_may_be_nothing() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(0, 0.1, 200)
    drawn = {"a": 0.6 + common, "b": 0.59 + common, "c": 0.5 + rng.normal(0, 0.1, 200)}
    first, second, third = ranked({"a": 0.6, "b": 0.59, "c": 0.5}, drawn)
    assert (first.name, first.tied, first.behind) == ("a", True, (0.0, 0.0))
    # The intervals of both overlap nearly wholly; drawing by drawing the second is always behind.
    assert not second.tied and second.behind == pytest.approx((0.01, 0.01)) and second.interval[1] > first.interval[0]
    assert third.tied and third.behind[0] < 0 < third.behind[1]


def test_nothing_known_is_tied_with_everything() -> None:
    nothing = np.full(3, np.nan)
    assert all(one.tied for one in ranked({"a": 0.0, "b": 0.0}, {"a": nothing, "b": nothing}))


def test_the_criterion_draws_the_same_labels_of_each() -> None:
    rows = [
        Answers(np.array([0.9, kept]), np.array([0.1, 0.5]), np.array([0.5, 0.2]), 0.9, 0.1) for kept in (0.9, 0.2, 0.5)
    ]
    evidence = LevelEvidence.of([0.3, 0.5], rows)
    value, drawn = criterion(evidence, 3)
    assert value == evidence.criterion().max() and drawn.shape == (200,) and np.isfinite(drawn).all()
    np.testing.assert_array_equal(drawn, criterion(evidence, 3)[1])
    assert criterion(LevelEvidence.of([0.3], []), 0)[1].size == 0


def test_normal_images_and_saliency_are_tried_where_they_are_there(tmp_path: Path) -> None:
    labels = make_tiny_csv(tmp_path)
    dataset = read_dataset(labels, load_config())
    names = [one.name for one in candidates(load_config(assignments=["refine.saliency=maps"]), dataset)]
    assert names[-1] == "without-saliency" and "normal" not in names


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    base = tmp_path_factory.mktemp("trial")
    make_tiny_csv(base)
    words = ["trial", str(base / "data"), "--out", str(base / "out"), "--images", "6", "--truth", str(base / "truth")]
    options = [part for line in TINY for part in ("--set", line)]
    assert main([*words, *options]) == 0
    return base, base / "out", [*words, *options]


def test_every_way_is_run_on_one_classifier_and_ranked(tried: tuple[Path, Path, list[str]]) -> None:
    _, out, _ = tried
    tree = json.loads((out / "trial.json").read_text())
    names = [one["name"] for one in tree["candidates"]]
    assert sorted(names) == ["alike", "as-set", "cam", "recam", "recam-product"] and not tree["left_out"]
    values = [one["value"] for one in tree["candidates"]]
    assert values == sorted(values, reverse=True)
    assert len({(out / name / "weights/classifier.safetensors").read_bytes() for name in names}) == 1
    assert tree["ranked_by"].startswith("mIoU") and tree["advice"][-1].startswith("recamlabel fit ")
    assert len((out / "labels/labels.csv").read_text().splitlines()) == 7


def test_it_goes_on_and_refuses_another_sample(tried: tuple[Path, Path, list[str]], capsys) -> None:
    base, out, words = tried
    before = (out / "cam/masks.h5").stat().st_mtime_ns
    assert main([*words, "--json"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed[printed.index("{") :])["candidates"]
    assert (out / "cam/masks.h5").stat().st_mtime_ns == before
    assert main([*words, "--images", "5"]) != 0
    assert "a trial on other images or with another --images" in capsys.readouterr().err
    (base / "empty").mkdir()
    assert main([*words[:4], "--truth", str(base / "empty")]) != 0
    assert "empty" in capsys.readouterr().err


def test_without_masks_and_without_time(tmp_path: Path) -> None:
    source = make_tiny_csv(tmp_path)
    trial = run_trial(source, tmp_path / "out", load_config(assignments=TINY), images=6, minutes=1e-6)
    assert [one.name for one in trial.places] == ["as-set"]
    assert set(trial.left_out.values()) == {"no time left of 1e-06 minutes (--minutes)"}
    assert "criterion" in trial.figure
    assert any("nothing can be ranked" in line or "weak judge" in line for line in trial.advice)


def test_nothing_is_written_beside_what_is_not_a_trial(tmp_path: Path, capsys) -> None:
    make_tiny_csv(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    assert main(["trial", str(tmp_path / "data"), "--out", str(tmp_path / "mine")]) == 1
    assert "not empty and no trial" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_settings_of_how_the_source_is_read_are_not_those_of_the_sample(tmp_path: Path, capsys) -> None:
    source = make_tiny_csv(tmp_path)
    labels = source / "labels.csv" if source.is_dir() else source
    text = labels.read_text().split("\n")
    labels.write_text("\n".join(["picture" + text[0][text[0].index(",") :], *text[1:]]))
    words = ["trial", str(labels), "--out", str(tmp_path / "out"), "--images", "6", "--minutes", "1e-6"]
    options = [part for line in [*TINY, "data.image_column=picture"] for part in ("--set", line)]
    assert main([*words, *options]) == 0
    assert "--set data.image_column=picture" in capsys.readouterr().out.replace("\n", " ")
