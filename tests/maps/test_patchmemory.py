"""The memory of normal patches by hand, and what it finds in drawn pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from recamlabel.adapters.base import LabelledImage
from recamlabel.config import load_config
from recamlabel.core.classes import ClassTable
from recamlabel.errors import ConfigError
from recamlabel.maps.base import MapRequest
from recamlabel.maps.config import MapsConfig
from recamlabel.maps.patchmemory.memory import PatchMemory, Reservoir, coreset, normal_distances, remember
from recamlabel.maps.patchmemory.source import Findings, excess, patch_features, patchmemory, shared
from recamlabel.models.backbones import Backbone
from recamlabel.run.fit import fit
from tests.helpers import TINY

TABLE = ClassTable(("dot", "bar"))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit(*degrees: float) -> torch.Tensor:
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_distance_to_the_nearest_patch():
    memory = PatchMemory(unit(0, 90), torch.tensor([0, 1]))
    torch.testing.assert_close(memory.distances(unit(0, 60, 180)), torch.tensor([0.0, 1 - 3**0.5 / 2, 1.0]))
    # Patches of the own image are passed over: 0 degrees has only 90 left.
    torch.testing.assert_close(memory.distances(unit(0, 60), torch.tensor([0, 0])), torch.tensor([1.0, 1 - 3**0.5 / 2]))
    alone = PatchMemory(unit(0), torch.tensor([0]))
    assert alone.distances(unit(10, 10), torch.tensor([0, 1])).isinf().tolist() == [True, False]
    assert alone.distances(torch.empty(0, 2)).shape == (0,)


def test_distances_do_not_depend_on_how_many_are_computed_at_a_time(monkeypatch):
    rows, memory = (
        F.normalize(torch.rand(50, 3), dim=1),
        PatchMemory(F.normalize(torch.rand(7, 3), dim=1), torch.zeros(7)),
    )
    whole = memory.distances(rows)
    monkeypatch.setattr("recamlabel.maps.patchmemory.memory.SIMILARITIES", 20)
    torch.testing.assert_close(memory.distances(rows), whole)


def test_the_coreset_is_the_farthest_first():
    rows = torch.tensor([[0.0], [1.0], [10.0], [11.0], [30.0]])
    start = int(torch.randint(5, (1,), generator=generator()))
    assert rows[start].item() == 30.0  # with this seed
    # From 30 the farthest is 0, then 11 (11 from 0, 19 from 30), then 10 and 1 are equally near: the first.
    assert coreset(rows, 4, generator()).tolist() == [4, 0, 3, 1]
    assert coreset(rows, 99, generator()).shape == (5,)


def test_a_rare_patch_is_remembered_where_chance_would_forget_it():
    rows = torch.cat([unit(*np.linspace(0, 2, 999)), unit(90)])
    assert 999 in coreset(rows, 5, generator()).tolist()
    wide = torch.cat([torch.ones(999, 100), -torch.ones(1, 100)])  # in the random projection too
    assert sorted(coreset(wide, 5, generator()).tolist())[-1] == 999 and len(coreset(wide, 5, generator())) == 2


def test_the_reservoir_is_bounded_and_even():
    kept = Reservoir(400, generator())
    for image in range(40):
        kept.add(torch.full((100, 1), float(image)), image)
        assert len(kept.rows) <= 400
    counts = torch.bincount(kept.images, minlength=40)
    assert counts.sum() == 400 and counts.min() >= 2 and counts.max() <= 22  # 10 each on average
    assert torch.equal(kept.rows[:, 0].long(), kept.images)


def test_normal_patches_are_measured_against_other_images():
    kept = Reservoir(9, generator())
    kept.add(unit(0, 10), 1)
    kept.add(unit(90, 100), 2)
    memory = remember(kept, 9)
    # 0 and 10 are 90 and 80 degrees from 90; 90 and 100 are 80 and 90 degrees from 10.
    expected = torch.cat([1 - unit(90, 80)[:, 0], 1 - unit(80, 90)[:, 0]])
    torch.testing.assert_close(normal_distances(memory, kept, 100), expected)
    single = Reservoir(9, generator())
    single.add(unit(0, 10, 40), 1)
    two = remember(single, 2)
    assert len(normal_distances(two, single, 100)) == 1  # the one that is not remembered
    assert len(normal_distances(remember(single, 9), single, 100)) == 0


class Two(nn.Module):
    """Two middle depths between ones that are not looked at."""

    def all_depths(self, images):
        fine = torch.zeros(1, 1, 4, 4)
        fine[0, 0, 1, 1] = 9.0
        junk = torch.full((1, 5, 9, 9), torch.nan)
        return junk, [junk, torch.cat([fine, torch.ones(1, 1, 4, 4)], dim=1), 3 * torch.ones(1, 1, 2, 2), junk]


def test_patch_features_by_hand():
    made = patch_features(Two(), torch.zeros(1, 3, 8, 8))  # type: ignore[arg-type]
    assert made.shape == (1, 3, 4, 4)
    # The mean over 3 x 3 is 1 beside the peak (9 of 9 positions), 9/4 in the corner, where only four are.
    half = 0.5**0.5
    torch.testing.assert_close(made[0, :, 2, 2], torch.tensor([0.5, 0.5, half]))
    corner = torch.tensor([9 / 4, 1.0]) / (81 / 16 + 1) ** 0.5 * half
    torch.testing.assert_close(made[0, :, 0, 0], torch.tensor([*corner.tolist(), half]))
    torch.testing.assert_close(made[0, :, 3, 3], torch.tensor([0.0, half, half]))
    torch.testing.assert_close(made.norm(dim=1), torch.ones(1, 4, 4))


def test_excess_and_shares_by_hand():
    distance = np.array([[0.1, 0.3], [0.2, 0.7]], dtype=np.float32)
    np.testing.assert_allclose(excess(distance, 0.2), [[0, 0.1], [0, 0.5]], atol=1e-6)
    np.testing.assert_allclose(excess(distance, 0.8), [[0, 0.2], [0.1, 0.6]], atol=1e-6)
    np.testing.assert_allclose(excess(distance, 0.0), [[0, 0.2], [0.1, 0.6]], atol=1e-6)
    anomaly = np.array([[0.0, 0.1], [0.0, 0.5]], dtype=np.float32)
    one = shared(anomaly, np.ones((1, 2, 2), np.float16))
    assert one.dtype == np.float16
    np.testing.assert_allclose(one, [[[0, 0.2], [0, 1]]], atol=1e-3)
    cams = np.array([[[1, 1], [0, 0.25]], [[0, 1], [0, 0.75]]], dtype=np.float16)
    # Shares 1/2 and 1/2 up, 1/4 and 3/4 down; 0.05 and 0.125 of the first, 0.05 and 0.375 of the second.
    np.testing.assert_allclose(shared(anomaly, cams), [[[0, 0.4], [0, 1]], [[0, 0.133], [0, 1]]], atol=2e-3)
    nowhere = shared(anomaly, np.zeros((2, 2, 2), np.float16))
    np.testing.assert_allclose(nowhere, [[[0, 0.2], [0, 1]]] * 2, atol=1e-3)
    assert shared(anomaly, np.zeros((0, 2, 2), np.float16)).shape == (0, 2, 2)


def surface(seed: int, dot: tuple[int, int] | None = None) -> np.ndarray:
    """Stripes with noise, 64 x 96, and a small dark dot."""
    rng = np.random.default_rng(seed)
    stripes = 120 + 40 * np.sin(np.arange(96) * 0.7 + rng.uniform(0, 6))[None, :, None]
    picture = stripes + rng.normal(0, 8, (64, 96, 3))
    if dot:
        rows, columns = np.ogrid[:64, :96]
        picture[(rows - dot[0]) ** 2 + (columns - dot[1]) ** 2 < 36] = 10
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    from recamlabel.models.weights import load_backbone_weights

    made = Backbone("tf_efficientnet_lite0").eval()
    load_backbone_weights(made, "embedded")
    return made


def request(backbone: Backbone, normal: list[np.ndarray], labelled: list[np.ndarray], **settings: float) -> MapRequest:
    config = MapsConfig(variant="patchmemory", scales=[1.0], memory_patches=100, **settings)  # type: ignore[arg-type]
    heads = {"cam": torch.randn(2, backbone.channels, generator=generator(3))}
    samples = [(picture, [0]) for picture in labelled]
    return MapRequest(backbone, heads, config, TABLE, lambda: samples, normal=lambda: iter(normal))


def image(*names: str) -> LabelledImage:
    return LabelledImage("a", Path("a.png"), frozenset(names), frozenset())


def test_the_map_is_highest_where_no_normal_image_is_like_it(backbone):
    source = patchmemory(request(backbone, [surface(seed) for seed in range(4)], [surface(9, (20, 70))]))
    assert source.findings.images == 4 and source.findings.patches == 100
    assert 0 < source.findings.normal < source.findings.level and source.findings.warnings() == []
    (only,) = source.maps([image("dot")], [surface(20, (40, 30))], [[0]])["cam"]
    assert only.shape == (1, 16, 24) and only.max() > 0.99
    row, column = np.unravel_index(only[0].argmax(), (16, 24))
    assert abs(row - 10) <= 2 and abs(column - 7.5) <= 2
    far = only[0].copy()
    far[4:17, 1:15] = 0
    assert far.max() < 0.5 and np.median(only[0]) == 0


def test_several_classes_share_what_they_find(backbone):
    asked = request(backbone, [surface(seed) for seed in range(4)], [])
    source = patchmemory(asked)
    picture = surface(20, (40, 30))
    (one,), (both,) = (source.maps([image()], [picture], [own])["cam"] for own in ([0], [0, 1]))
    (nothing,) = source.maps([image()], [picture], [[]])["cam"]
    assert both.shape == (2, 16, 24) and nothing.shape == (0, 16, 24)
    # Where no anomaly is, no class has a share; where there is one, the shares add up to it, class by class scaled.
    assert (both[:, one[0] == 0] == 0).all() and both.max(axis=(1, 2)).min() > 0.99
    mixed = source.maps([image()] * 3, [picture] * 3, [[0, 1], [], [0]])["cam"]
    for found, expected in zip(mixed, (both, nothing, one), strict=True):
        np.testing.assert_allclose(found, expected, atol=5e-3)


def test_the_memory_depends_on_the_seed_alone(backbone):
    asked = request(backbone, [surface(seed) for seed in range(3)], [], memory_scale=1.0)
    one, two = (patchmemory(asked).memory for _ in range(2))
    assert torch.equal(one.patches, two.patches) and torch.equal(one.images, two.images)


def test_normal_images_of_another_camera_are_said_with_figures(backbone):
    foreign = [(surface(seed)[::-1, ::-1] // 3 + 150).astype(np.uint8).transpose(1, 0, 2) for seed in range(4)]
    labelled = [surface(seed, (20, 70)) for seed in (9, 10)]
    source = patchmemory(request(backbone, foreign, labelled))
    (line,) = source.findings.warnings()
    assert f"median distance {source.findings.labelled:.2f}" in line and "another camera" in line
    (only,) = source.maps([image("dot")], [labelled[0]], [[0]])["cam"]
    assert only.max() > 0.99 and only.min() == 0  # the least of the image is its background


def test_one_normal_image_and_none(backbone):
    (line,) = patchmemory(request(backbone, [surface(1)], [])).findings.warnings()
    assert line.startswith("normal images: there is 1,")
    flat = [np.full((64, 96, 3), 90, np.uint8)] * 2
    found = patchmemory(request(backbone, flat, flat))
    assert found.findings.patches >= 1 and np.isfinite(found.maps([image("dot")], flat[:1], [[0]])["cam"][0]).all()
    with pytest.raises(ConfigError, match="there is no normal image among the training images"):
        patchmemory(request(backbone, [], []))


def test_findings_are_rounded_for_the_record():
    assert Findings(2, 9, 0.123456, 0.2, 0.1).facts() == {
        "normal_images": 2,
        "patches": 9,
        "normal_distance": 0.1235,
        "normal_level": 0.2,
        "labelled_distance": 0.1,
    }


SETTINGS = [*TINY, "maps.variant=patchmemory", "refine.method=none"]


def without(root: Path, number: int, label: str, split: str = "") -> None:
    """Another label, and split, for one image."""
    lines = (root / "labels.csv").read_text().splitlines()
    name, _, old = lines[number + 1].split(",")
    lines[number + 1] = f"{name},{label},{split or old}"
    (root / "labels.csv").write_text("\n".join(lines) + "\n")


def test_a_run_keeps_what_is_known_of_the_normal_images(tiny_csv, tmp_path):
    run = fit(tiny_csv, tmp_path / "run", load_config(assignments=SETTINGS), until="cams")
    record = run.state.stages["cams"]
    assert record["normal_images"] == 1 and 0 < record["patches"] <= 2000


def test_a_data_set_without_normal_images_is_refused_before_any_training(tiny_csv, tmp_path):
    config = load_config(assignments=SETTINGS)
    without(tiny_csv, 3, "red")
    with pytest.raises(
        ConfigError, match=r"of the 6 training images none is known to hold nothing; expected at least 1"
    ):
        fit(tiny_csv, tmp_path / "run", config)
    assert not (tmp_path / "run").exists()
    without(tiny_csv, 7, "")
    with pytest.raises(ConfigError, match=r"\(there are 1 in other splits than train\).*rows with an empty label"):
        fit(tiny_csv, tmp_path / "run", config)


def test_a_larger_input_or_another_bound_makes_the_maps_again():
    from recamlabel.stages.map_files import map_settings

    settings = map_settings(load_config(assignments=SETTINGS))
    assert {"maps.memory_patches", "maps.memory_scale", "seed", "data.train_splits"} <= set(settings)
