"""refine.method with a random walk: seeds, affinity net, boundaries, walked scores, end to end and in parts."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest
import torch
from hed_by_hand import fake_package, write_keras
from helpers import TINY, draw
from PIL import Image

import recamlabel.training.loop as loop
from recamlabel.adapters import load_dataset
from recamlabel.config import load_config
from recamlabel.data.batches import Batch, Normalisation, TrainingBatches, draw_geometry, resize
from recamlabel.data.config import AugmentConfig
from recamlabel.errors import ConfigError, RecamlabelError
from recamlabel.maps.config import MapsConfig
from recamlabel.models.backbones import Backbone
from recamlabel.models.networks import AffinityFeatures
from recamlabel.refine.config import AffinityConfig, CrfConfig
from recamlabel.refine.edges import EdgeWalk, boundary_maps
from recamlabel.refine.hed import WEIGHTS, Hed, hed_boundaries, hed_file, load_hed
from recamlabel.refine.seeds import SeedRule, SeedTask, make_seeds
from recamlabel.run.fit import fit
from recamlabel.training.objectives.affinity import AffinityObjective

FEW = ["affinity.batch_size=4", "affinity.min_steps=3", "affinity.max_steps=3"]
FAST_CRF = ["refine.levels=[0.3, 0.6]", "refine.crf.iterations=2", "refine.smooth=0"]
PLAIN = Normalisation((0.0,) * 3, (1.0,) * 3)
WALK_STAGES = ["seeds", "affinity", "edges", "refine", "calibration", "masks", "quality"]


def config(method: str, *lines: str):
    return load_config("quick", assignments=[*TINY, *FEW, *FAST_CRF, f"refine.method={method}", *lines])


def ran(capsys) -> list[str]:
    return [line.split(":")[0] for line in capsys.readouterr().err.splitlines() if ": done in" in line]


@pytest.fixture(scope="module")
def base_run(copy_run, tmp_path_factory):
    """A data set and its run with method none, which the tests copy."""
    data, run = copy_run(tmp_path_factory.mktemp("base"), *TINY, *FEW, *FAST_CRF, "refine.method=none", until="probe")
    return run, data


@pytest.fixture
def started(base_run, tmp_path):
    """A copy of the run up to its maps, and the data set."""
    run, source = base_run
    shutil.copytree(run.path, tmp_path / "run")
    return tmp_path / "run", source


def check_scores(out, sizes: tuple[int, int]) -> None:
    with h5py.File(out / "work/scores.h5") as scores, h5py.File(out / "work/edges.h5") as edges:
        for number, classes in enumerate([1, 1, 2, 0, 1, 1, 2, 1]):
            stored = scores[f"scores/images/{number}"]
            assert stored.dtype == np.uint8 and stored.shape[0] == classes
            assert classes == 0 or stored.shape[1:] == sizes
            edge = edges[f"images/{number}"][()]
            assert edge.shape == (16, 20) and np.isfinite(edge).all() and edge.min() >= 0 and edge.max() <= 1
    assert len(list((out / "masks").rglob("*.png"))) == 8


def test_random_walk_end_to_end_redoes_only_what_depends_on_a_setting(started, capsys):
    out, source = started
    capsys.readouterr()
    fit(source, out, config("random_walk"))
    assert ran(capsys) == WALK_STAGES  # classifier, recam and maps of method none still hold
    check_scores(out, (16, 20))
    with h5py.File(out / "work/scores.h5") as scores:
        assert {scores[f"scores/images/{number}"][()].max() for number in (0, 2)} == {255}  # divided by the maximum
    with h5py.File(out / "work/seeds.h5") as seeds:
        assert "images/6" not in seeds  # val trains nothing
        assert not seeds["images/3"][()].any()  # an image without a label is all background
        assert set(np.unique(seeds["images/2"][()])) <= {0, 1, 2, 255}
    assert not list((out / "weights").glob("*.checkpoint"))
    fit(source, out, config("random_walk"))
    assert "up to date" in (text := capsys.readouterr().err) and ": done in" not in text
    kept = (out / "work/seeds.h5").stat().st_mtime_ns
    fit(source, out, config("random_walk", "affinity.lr=0.02"))
    assert ran(capsys) == WALK_STAGES[1:]
    assert (out / "work/seeds.h5").stat().st_mtime_ns == kept  # another rate needs no other seeds
    fit(source, out, config("random_walk", "affinity.lr=0.02", "affinity.beta=5"))
    assert ran(capsys) == ["refine", "calibration", "masks", "quality"]
    fit(source, out, config("random_walk", "affinity.lr=0.02", "affinity.beta=5", "affinity.fg_level=0.65"))
    assert ran(capsys) == WALK_STAGES
    assert (out / "work/seeds.h5").stat().st_mtime_ns != kept
    fit(source, out, config("none", "affinity.lr=0.5"))
    assert ran(capsys) == [
        "refine",
        "calibration",
        "masks",
        "quality",
    ]  # the affinity section means nothing to the other methods


def test_crf_after_random_walk(started, capsys):
    out, source = started
    capsys.readouterr()
    run = fit(source, out, config("crf+random_walk"))
    assert ran(capsys) == WALK_STAGES and run.state.stages["refine"]["method"] == "crf+random_walk"
    check_scores(out, (64, 80))
    with h5py.File(out / "work/scores.h5") as scores:
        assert set(np.unique(scores["scores/images/2"][()])) <= {0, 115, 204}
    fit(source, out, config("random_walk"))
    assert ran(capsys) == ["refine", "calibration", "masks", "quality"]


def test_a_walk_along_hed_trains_nothing(started, tmp_path, monkeypatch, capsys):
    out, source = started
    package = fake_package(tmp_path / "site", monkeypatch, Hed())
    settings = config("random_walk", "refine.edges=hed")
    capsys.readouterr()
    fit(source, out, settings, "refine")
    assert ran(capsys) == ["edges", "refine"]
    assert not (out / "work/seeds.h5").exists() and not (out / "weights/affinity.safetensors").exists()
    with h5py.File(out / "work/edges.h5") as edges:
        stored = edges["images/2"][()]
    pixels = np.asarray(Image.open(source / "images" / "2.png").convert("RGB"))
    expected = hed_boundaries([pixels], load_hed(hed_file()), settings.maps, amp=False)[0]
    np.testing.assert_allclose(stored, expected, atol=5e-3)
    assert stored.shape == (16, 20) and stored.std() > 0.01
    # Other weights make other boundaries.
    write_keras(package / WEIGHTS, Hed())
    fit(source, out, settings, "refine")
    assert ran(capsys) == ["edges", "refine"]


def test_interrupted_training_continues_to_the_same_weights(started, tmp_path, monkeypatch):
    out, source = started
    shutil.copytree(out, tmp_path / "straight")
    straight = fit(source, tmp_path / "straight", config("random_walk")).path / "weights" / "affinity.safetensors"
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    loss = AffinityObjective.loss

    def interrupting(self, batch):
        if batch.step == 2:
            raise KeyboardInterrupt
        return loss(self, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(AffinityObjective, "loss", interrupting)
        fit(source, out, config("random_walk"))
    assert (out / "weights" / "affinity.checkpoint").exists()
    kept = (out / "work/seeds.h5").stat().st_mtime_ns
    fit(source, out, config("random_walk"))
    assert (out / "work/seeds.h5").stat().st_mtime_ns == kept
    assert (out / "weights" / "affinity.safetensors").read_bytes() == straight.read_bytes()


def test_tiny_images_one_class_and_no_labels(tmp_path):
    rows = ["image,labels"]
    for number, (size, labels) in enumerate([((1, 1), "red"), ((1, 70), "red"), ((9, 5), ""), ((40, 30), "red")]):
        path = tmp_path / "data" / f"{number}.png"
        if min(size) < 40 and labels:
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((*size, 3), 120, np.uint8)).save(path)
        else:
            draw(path, [] if size == (9, 5) else ["red"], number, size=size)
        rows.append(f"{number}.png,{labels}")
    (tmp_path / "data" / "labels.csv").write_text("\n".join(rows))
    run = fit(tmp_path / "data", tmp_path / "run", config("random_walk"))
    for number, size in enumerate([(1, 1), (1, 70), (9, 5), (40, 30)]):
        assert np.array(Image.open(run.path / "masks" / f"{number}.png")).shape == size


def test_crops_too_small_for_the_radius_are_refused(tiny_csv, tmp_path):
    with pytest.raises(ConfigError, match=r"affinity\.radius: 10 is too large for training crops of 64 pixels"):
        fit(tiny_csv, tmp_path / "run", config("random_walk", "affinity.radius=10"))
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=r"bg_level \(0\.9\) is above fg_level"):
        config("random_walk", "affinity.bg_level=0.9")


def test_seeds_go_through_the_geometry_of_their_image(tmp_path):
    """A picture whose red channel is its seed: after any crop both still say the same."""
    seed = np.kron(np.arange(1, 13).reshape(3, 4), np.ones((20, 20), int)).astype(np.uint8)
    (tmp_path / "images").mkdir()
    Image.fromarray(np.stack([seed * 20, 0 * seed, 0 * seed], axis=2)).save(tmp_path / "images" / "0.png")
    (tmp_path / "labels.csv").write_text("image,labels\nimages/0.png,a\n")
    dataset = load_dataset(tmp_path)
    augment = AugmentConfig(crop_size=48, resize_min=32, resize_max=120)
    common = (dataset.images, dataset.labels(), 4, 6, augment, PLAIN, 3)
    for stored in (seed, seed[::2, ::2]):  # seeds may be smaller than their image
        flips = set()
        joint = TrainingBatches(*common, seeds=lambda name, stored=stored: stored, ignore_id=255)
        for step in range(6):
            batch, alone = (made[step].to(torch.device("cpu")) for made in (joint, TrainingBatches(*common)))
            assert torch.equal(batch.images, alone.images) and alone.seeds is None
            assert batch.seeds.shape == (4, 48, 48) and batch.seeds.dtype == torch.int32
            shown = batch.images[:, 0] * 255 / 20
            inside = batch.seeds != 255
            assert torch.equal(inside, shown > 0.01) or (inside != (shown > 0.01)).float().mean() < 0.01
            # Only pixels on a border between squares may differ, where the image is interpolated.
            assert ((shown - batch.seeds).abs() < 0.5)[inside].float().mean() > 0.85
            flips |= {bool((row[..., 1:] < row[..., :-1])[row[..., :-1] != 255].any()) for row in batch.seeds}
        assert flips == {True, False}


def test_image_batches_are_what_they_were_before_there_were_seeds():
    """The published geometry, written out in one piece, as finished runs were trained with."""

    def reference(image, augment, rng):
        height, width = image.shape[:2]
        scale = int(rng.integers(augment.resize_min, augment.resize_max + 1)) / max(height, width)
        image = resize(image, max(1, round(height * scale)), max(1, round(width * scale)))
        if augment.flip and rng.random() < 0.5:
            image = image[:, ::-1]
        out = np.zeros((augment.crop_size, augment.crop_size, 3), dtype=np.uint8)
        source, target = [], []
        for side in image.shape[:2]:
            size = min(side, augment.crop_size)
            source.append(slice(start := int(rng.integers(0, side - size + 1)), start + size))
            target.append(slice(start := int(rng.integers(0, augment.crop_size - size + 1)), start + size))
        out[target[0], target[1]] = image[source[0], source[1]]
        return out

    image = np.random.default_rng(0).integers(0, 256, (37, 52, 3)).astype(np.uint8)
    for seed in range(20):
        augment = AugmentConfig(crop_size=40, resize_min=20, resize_max=90, flip=seed % 3 > 0)
        expected = reference(image, augment, np.random.default_rng(seed))
        geometry = draw_geometry((37, 52), augment, np.random.default_rng(seed))
        assert np.array_equal(geometry.apply_to_image(image), expected)


def test_where_a_class_is_unknown_nothing_is_sure_background(tmp_path):
    rule = SeedRule(0.7, 0.4, 64, CrfConfig(), 65535)
    draw(tmp_path / "a.png", [], 0, size=(6, 8))
    task = SeedTask("a", tmp_path / "a.png", np.zeros((0, 2, 2), np.float16), (), False, rule)
    assert set(np.unique(make_seeds(task))) == {65535}


def test_the_floor_is_background_to_the_walk(tmp_path):
    maps = np.array([[[0.5, 0.45, 0.2], [1.0, 0.9, 0.45]]], np.float16)
    (tmp_path / "work").mkdir(exist_ok=True)
    with h5py.File(tmp_path / "work/edges.h5", "w") as file:
        file["sure"] = np.ones((2, 3), np.float16)
        file["none"] = np.zeros((2, 3), np.float16)
        plain = EdgeWalk(file, AffinityConfig(log2_steps=0, walk_radius=2, beta=1e6), torch.device("cpu"))
        lowered = EdgeWalk(file, plain.config.model_copy(update={"floor": 0.45}), torch.device("cpu"))
        assert plain("sure", maps).max() == 0 and np.allclose(lowered("sure", maps), 0.45, atol=1e-3)
        far = lowered("none", maps).astype(float)
        assert far.min() >= 0.45 and np.isclose(far.max(), 1, atol=1e-3) and far.dtype == float
        assert lowered("none", maps[:0]).shape == (0, 2, 3)


def objective(ignore_id: int = 255):
    torch.manual_seed(0)
    net = AffinityFeatures(Backbone("resnet10t"))
    return AffinityObjective(net, load_config("quick").affinity, ignore_id)


@pytest.mark.parametrize("value", [255, 0, 1])
def test_one_kind_of_seed_gives_a_finite_loss_and_gradient(value):
    made = objective()
    before = {name: item.clone() for name, item in made.net.backbone.state_dict().items()}
    seeds = torch.full((2, 64, 64), value, dtype=torch.int32)
    loss, figures = made.loss(Batch(torch.rand(2, 3, 64, 64), torch.zeros(2, 1, dtype=torch.int8), 0, seeds))
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(item) for item in figures.values())
    assert (loss == 0) == (value == 255)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in made.module.parameters())
    assert not made.net.backbone.training and all(p.grad is None for p in made.net.backbone.parameters())
    assert all(torch.equal(before[name], item) for name, item in made.net.backbone.state_dict().items())
    with pytest.raises(RecamlabelError, match="has none"):
        made.loss(Batch(torch.rand(2, 3, 64, 64), torch.zeros(2, 1, dtype=torch.int8), 0))


def test_the_branches_learn_at_their_own_rates():
    groups = objective().parameter_groups()
    assert [group["lr"] for group in groups] == [0.01, 0.1]
    count = sum(len(group["params"]) for group in groups)
    assert count == len(list(objective().module.parameters()))


@pytest.mark.parametrize("stride", [4, 8])
def test_boundaries_lie_on_the_grid_of_the_maps_and_do_not_depend_on_the_side(stride):
    net = objective().net
    net.head.eval()
    image = np.random.default_rng(0).integers(0, 256, (33, 64, 3)).astype(np.uint8)
    settings = MapsConfig(stored_stride=stride)
    edge = np.stack(boundary_maps([image, image[:, ::-1]], net, settings, amp=False))
    assert edge.shape == (2, -(-33 // stride), 64 // stride) and edge.dtype == np.float16
    assert np.allclose(edge[0], edge[1][:, ::-1], atol=1e-3)
