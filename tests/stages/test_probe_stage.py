"""The stage ``probe``: what it writes, what it leaves alone, how it goes on after a kill."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from recamlabel.adapters.base import LabelledImage
from recamlabel.config import load_config
from recamlabel.run.fit import fit
from recamlabel.stages.probe import _stream, choose, deal
from recamlabel.storage.run_folder import RunFolder
from tests.helpers import TINY, arrays, make_tiny_csv, stop_after


def config(*lines: str):
    return load_config(assignments=[*TINY, *lines])


@pytest.fixture(scope="module")
def finished(copy_run, tmp_path_factory):
    return copy_run(tmp_path_factory.mktemp("probe"), *TINY, until="probe")[1]


def test_the_refined_source_is_joined_and_nothing_else(finished):
    maps, fused = arrays(finished.path / "work/maps.h5"), arrays(finished.path / "work/fused.h5")
    assert finished.state.stages["probe"]["joined"] == sum(name.startswith("probe/") for name in fused) > 0
    for name, array in maps.items():
        group, image = name.split("/", 1)
        other = fused.get(f"probe/{image}")
        if group == "cam" or other is None:
            assert np.array_equal(fused[name], array)
        else:
            expected = (array.astype(np.float32) + other.astype(np.float32)) / 2
            assert np.allclose(fused[name].astype(np.float32), expected, atol=2e-3)
            assert (other.astype(np.float32).sum(axis=0) <= 1.01).all()


def test_it_goes_on_after_a_kill_with_the_same_result(finished, copy_run, tmp_path, monkeypatch):
    data, run = copy_run(tmp_path, *TINY, until="maps")
    out = run.path
    stop_after(monkeypatch, "work/fused.h5", 4)
    with pytest.raises(KeyboardInterrupt):
        fit(data, out, config(), until="probe")
    assert not (out / "work/fused.h5").exists()
    fit(data, out, config(), until="probe")
    one, two = arrays(finished.path / "work/fused.h5"), arrays(out / "work/fused.h5")
    assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)
    # What the interrupted pass had done counts as what it was: fused, or left as it is.
    facts = [RunFolder.open(run.path).state.stages["probe"]["joined"] for run in (finished, RunFolder.open(out))]
    assert facts[0] == facts[1] == sum(name.startswith("probe/") for name in two)


def test_one_image_has_nothing_to_learn_from(tmp_path, capsys):
    data = make_tiny_csv(tmp_path)
    table = data / "labels.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:2]) + "\n")
    run = fit(data, tmp_path / "run", config("runtime.force=true"), until="probe")
    assert "fewer than two images" in capsys.readouterr().err
    maps, fused = arrays(run.path / "work/maps.h5"), arrays(run.path / "work/fused.h5")
    assert maps.keys() == fused.keys() and all(np.array_equal(maps[name], fused[name]) for name in maps)


def test_without_the_probe_there_is_no_file(copy_run, tmp_path):
    data, run = copy_run(tmp_path, *TINY, until="maps")
    run = fit(data, run.path, config("probe.enabled=false", "refine.method=none"), until="masks")
    assert not (run.path / "work/fused.h5").exists() and "probe" not in run.state.stages


def image(name: str, *present: str) -> LabelledImage:
    return LabelledImage(name, Path(name), frozenset(present), frozenset())


def test_rare_classes_come_first_and_meet_every_fold(tmp_path):
    images = [image(f"c{number}", "common") for number in range(40)] + [
        image(f"r{number}", "rare") for number in range(5)
    ]

    dataset = SimpleNamespace(classes=("common", "rare"))
    catalog = SimpleNamespace(dataset=dataset, images=images, training_images=lambda splits: images)
    context = SimpleNamespace(catalog=catalog, config=config("probe.images=12"))
    chosen = choose(context)
    assert len(chosen) == 12 and sum("rare" in one.present for one in chosen) == 5
    folds = deal(chosen, 5)
    assert sorted(folds[f"r{number}"] for number in range(5)) == [0, 1, 2, 3, 4]


def test_nothing_is_learnt_from_images_outside_the_training_splits(finished, tmp_path):
    data = make_tiny_csv(tmp_path)
    table = data / "labels.csv"
    lines = table.read_text().splitlines()
    changed = [number for number, line in enumerate(lines) if line.endswith(",val")]
    for number in changed:
        name, labels, split = lines[number].split(",")
        lines[number] = f"{name},{'blue' if labels == 'red' else 'red'},{split}"
    table.write_text("\n".join(lines) + "\n")
    one, two = (
        arrays(run.path / "work/fused.h5") for run in (finished, fit(data, tmp_path / "run", config(), until="probe"))
    )
    names = {lines[number].split(",")[0].rsplit(".", 1)[0] for number in changed}
    kept = [name for name in one if not any(name.endswith(part) for part in names)]
    assert changed and len(kept) < len(one)
    assert all(np.array_equal(one[name], two[name]) for name in kept)


def test_it_is_fitted_again_to_what_the_crf_made_of_the_maps(finished, copy_run, tmp_path):
    def probes(name: str, *lines: str) -> dict[str, np.ndarray]:
        data, run = copy_run(tmp_path / name, *TINY, until="maps")
        fit(data, run.path, config(*lines), until="probe")
        return {key: item for key, item in arrays(run.path / "work/fused.h5").items() if key.startswith("probe/")}

    again = {key: item for key, item in arrays(finished.path / "work/fused.h5").items() if key.startswith("probe/")}
    never, two = probes("never", "probe.alternations=0"), probes("two", "runtime.workers=2")
    other = probes("other", "refine.method=none")
    assert all(np.array_equal(again[name], two[name]) and np.array_equal(again[name], other[name]) for name in again)
    assert any(not np.allclose(again[name], never[name], atol=1e-3) for name in again)


def test_positions_are_drawn_by_the_image_and_the_seed():
    drawn = {key: _stream(*key).permutation(1000)[:20].tolist() for key in (("a", 0), ("b", 0), ("a", 1), ("a", 2))}
    assert len({tuple(one) for one in drawn.values()}) == 4
    assert _stream("a", 0).permutation(1000)[:20].tolist() == drawn["a", 0]
    assert drawn["a", 0] == np.random.default_rng([97]).permutation(1000)[:20].tolist()  # as before seeds took part


def test_features_are_computed_once_and_are_the_same_kept_or_not(copy_run, tmp_path, monkeypatch):
    import recamlabel.stages.probe as stage

    seen = []
    plain = stage.run_network

    def run_network(net, pixels, **rest):
        seen.extend(pixels)
        return plain(net, pixels, **rest)

    monkeypatch.setattr(stage, "run_network", run_network)
    results, looks = [], []
    for room in (0, 1 << 30):
        monkeypatch.setattr(stage, "FEATURE_BYTES", room)
        seen.clear()
        data, run = copy_run(tmp_path / str(room), *TINY, until="maps")
        fit(data, run.path, config(), until="probe")
        results.append(arrays(run.path / "work/fused.h5"))
        looks.append(len(seen))
        assert not (run.path / "probe-features").exists()
    images = sum(name.startswith("cam/") for name in results[1])
    assert looks[0] > 2 * images and looks[1] == images
    assert all(np.array_equal(results[0][name], results[1][name]) for name in results[0])
