"""The contract every map variant keeps, and each variant's own mathematics."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recamlabel.adapters.base import LabelledImage
from recamlabel.config import load_config
from recamlabel.core.classes import ClassTable
from recamlabel.errors import ConfigError, StoreError
from recamlabel.maps import VARIANTS, get_variant
from recamlabel.maps.advcam import AdvCam
from recamlabel.maps.base import MapRequest
from recamlabel.maps.cam import Cam
from recamlabel.maps.config import MapsConfig
from recamlabel.maps.gradcam_pp import GradCamPlusPlus
from recamlabel.maps.layercam import LayerCam
from recamlabel.maps.lpcam import LpCam, Prototypes, class_prototypes, lpcam
from recamlabel.maps.multiscale import MapNet
from recamlabel.maps.precomputed import PrecomputedMaps, file_identity
from recamlabel.models.backbones import Backbone
from recamlabel.run.fit import fit
from tests.helpers import TINY

TABLE = ClassTable(("a", "b", "c"))
LABELS = [[0, 2], [], [1]]


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return Backbone("resnet10t").eval()


@pytest.fixture(scope="module")
def heads():
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(3, 512, generator=generator) for name in ("cam", "recam")}


def pictures():
    rng = np.random.default_rng(5)
    return [rng.integers(0, 256, (40, 48, 3)).astype(np.uint8) for _ in LABELS]


def items(tmp_path):
    return [
        LabelledImage(f"d/{number}", tmp_path / "x.png", frozenset("abc"[k] for k in own), frozenset())
        for number, own in enumerate(LABELS)
    ]


def write_file(path, images, rng=None):
    rng = rng or np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs["class_names"] = json.dumps(list(TABLE.names))
        for image, own in zip(images, LABELS, strict=True):
            item = file.create_dataset(f"cam/{image.id}", data=rng.random((len(own), 5, 6)))
            item.attrs["class_ids"] = [number + 1 for number in own]


@pytest.mark.parametrize("name", VARIANTS)
class TestContract:
    def source(self, name, backbone, heads, tmp_path, **settings):
        write_file(tmp_path / "maps.h5", items(tmp_path))
        config = MapsConfig(variant=name, file=str(tmp_path / "maps.h5"), scales=[1.0, 0.5], advcam_steps=2, **settings)
        samples = [(picture, own) for picture, own in zip(pictures(), LABELS, strict=True) if own]
        request = MapRequest(backbone, heads, config, TABLE, lambda: samples, normal=lambda: pictures()[1:2])
        return get_variant(name)(request)

    def test_values_shapes_and_order(self, name, backbone, heads, tmp_path):
        made = self.source(name, backbone, heads, tmp_path).maps(items(tmp_path), pictures(), LABELS)
        for maps in made.values():
            assert [item.shape for item in maps] == [(2, 10, 12), (0, 10, 12), (1, 10, 12)]
            for item in maps:
                assert item.dtype == np.float16 and np.isfinite(item).all() and item.min(initial=0) >= 0
                for one in item:
                    assert one.max() == 0 or 0.99 < one.max() <= 1
        assert any(item.max(initial=0) > 0.99 for maps in made.values() for item in maps)
        assert set(made) == ({"cam"} if name == "precomputed" else {"cam", "recam"})

    def test_deterministic_and_leaves_the_network_alone(self, name, backbone, heads, tmp_path):
        before = {key: value.clone() for key, value in backbone.state_dict().items()}
        weights = {key: value.clone() for key, value in heads.items()}
        one, two = (
            self.source(name, backbone, heads, tmp_path).maps(items(tmp_path), pictures(), LABELS) for _ in range(2)
        )
        assert all(np.array_equal(x, y) for key in one for x, y in zip(one[key], two[key], strict=True))
        assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
        assert all(torch.equal(value, weights[key]) for key, value in heads.items())
        assert not any(parameter.grad is not None for parameter in backbone.parameters())

    def test_the_end_to_end_run_trains_on_its_maps(self, name, copy_run, tiny_csv, tmp_path):
        settings = [*TINY, f"maps.variant={name}", "maps.advcam_steps=1", "refine.method=none"]
        if name == "precomputed":
            _, first = copy_run(tmp_path / "copied", *TINY, "refine.method=none", until="maps")
            settings.append(f"maps.file={first.path / 'work/maps.h5'}")
        run = fit(tiny_csv, tmp_path / "run", load_config(assignments=settings), until="maps")
        assert ("cams" in run.state.stages) == (name != "cam")
        with h5py.File(run.path / "work/maps.h5") as file:
            assert file.attrs["variant"] == name and set(file) >= {"cam", "recam"}
            if name == "precomputed":
                with h5py.File(first.path / "work/maps.h5") as first:
                    given = first["cam/images/2"][()].astype(float)
                    given /= given.max(axis=(1, 2), keepdims=True) + 1e-5
                    assert np.allclose(file["cam/images/2"][()], given, atol=2e-3)


def test_unknown_variants_list_the_known():
    with pytest.raises(ConfigError, match=r"unknown 'x'. The variants are: cam, layercam, gradcam\+\+, lpcam, advcam"):
        get_variant("x")


def autograd(features, weight, number):
    features = features.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((features.mean((2, 3)) @ weight.T)[:, number].sum(), features)
    return gradient


def test_layercam_is_its_equation_with_autograd():
    features, weight = torch.rand(2, 5, 3, 4), torch.randn(3, 5)
    made = LayerCam().from_features("cam", features, weight, [2, 0])
    for row, number in enumerate((2, 0)):
        expected = (autograd(features, weight, number).relu() * features).sum(1).relu()
        torch.testing.assert_close(made[:, row], expected)


def test_gradcam_pp_is_its_equations_with_autograd():
    features, weight = torch.rand(2, 5, 3, 4), torch.randn(3, 5)
    made = GradCamPlusPlus().from_features("cam", features, weight, [1, 2])
    for row, number in enumerate((1, 2)):
        g = autograd(features, weight, number)
        alpha = g**2 / (2 * g**2 + features.sum((2, 3), keepdim=True) * g**3)
        channel = (alpha * g.relu()).sum((2, 3), keepdim=True)
        torch.testing.assert_close(made[:, row], (channel * features).sum(1).relu())


def test_advcam_without_steps_is_cam_and_a_step_raises_the_logit(backbone, heads):
    net, images = MapNet(backbone, {"cam": heads["cam"]}, Cam()), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(AdvCam(0).raw_maps(net, images, [1]), Cam().raw_maps(net, images, [1]))
        first = torch.zeros(2, 1, 4, 4)
        step = AdvCam._direction(net, heads["cam"], images, 1, first)
        logits = [backbone(x).mean((2, 3)) @ heads["cam"].T for x in (images, images + 1e-2 * step / step.abs().max())]
        gain = logits[1] - logits[0]
        assert (2 * gain[:, 1] - gain.sum(1) > 0).all()


def test_lpcam_by_hand():
    """Own prototypes (1, 0), context (0, 1): the map is the difference of the cosines, where positive."""
    prototypes = {("cam", 0): Prototypes(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))}
    features = torch.tensor([[[[3.0, 0.0, 1.0]], [[0.0, 2.0, 1.0]]]])
    weight = torch.tensor([[0.0, 0.0], [0.0, 5.0]])
    made = LpCam(prototypes).from_features("cam", features, weight, [0, 1])
    torch.testing.assert_close(made[0, 0], torch.tensor([[1.0, 0.0, 0.0]]))
    torch.testing.assert_close(made[0, 1], torch.tensor([[0.0, 10.0, 5.0]]))  # no prototypes: plain CAM


def test_lpcam_draws_by_the_seed(backbone, heads):
    """More local features than a class may keep: which ones stay is drawn."""
    rng = np.random.default_rng(0)
    samples = [(rng.integers(0, 255, (64, 64, 3)).astype(np.uint8), [0]) for _ in range(3)]
    pixels = [rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)]
    items = [LabelledImage("x", Path("x"), frozenset({"a"}), frozenset())]
    maps = [
        lpcam(MapRequest(backbone, heads, MapsConfig(variant="lpcam"), TABLE, lambda: samples, seed=seed)).maps(
            items, pixels, [[0]]
        )["cam"][0]
        for seed in (0, 0, 1)
    ]
    assert np.array_equal(maps[0], maps[1]) and not np.array_equal(maps[0], maps[2])


def test_lpcam_clusters_are_sorted_by_the_classifiers_confidence():
    vectors = torch.cat([torch.tensor([[9.0, 0.0]]).repeat(8, 1), torch.tensor([[0.0, 9.0]]).repeat(8, 1)])
    found = class_prototypes(vectors, torch.eye(2), 0)
    assert torch.allclose(F.normalize(found.own.mean(0), dim=0), torch.tensor([1.0, 0.0]))
    assert torch.allclose(F.normalize(found.context.mean(0), dim=0), torch.tensor([0.0, 1.0]))
    assert class_prototypes(vectors[:0], torch.eye(2), 0) is None
    unsure = class_prototypes(vectors, torch.zeros(2, 2), 0)
    assert len(unsure.own) >= 1 and len(unsure.context) == 0


def test_precomputed_reads_plain_files_and_normalises(tmp_path):
    images = items(tmp_path)[2:]
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        item = file.create_dataset("d/2", data=np.array([[[0, 4]], [[8, 2]]], np.uint8))
        item.attrs["class_ids"] = [1, 2]
    config = MapsConfig(stored_stride=1)
    source = PrecomputedMaps(tmp_path / "plain.h5", TABLE, config)
    made = source.maps(images, [np.zeros((1, 2, 3), np.uint8)], [[1]])["cam"][0]
    assert np.allclose(made, [[[1.0, 0.25]]], atol=1e-3)


def test_precomputed_names_what_is_wrong(tmp_path):
    images, path = items(tmp_path), tmp_path / "bad.h5"
    source, zeros = PrecomputedMaps(path, TABLE, MapsConfig()), [np.zeros((8, 8, 3), np.uint8)]

    def read(data, ids=(1, 3), names=("a", "b", "c"), key="cam/d/0"):
        with h5py.File(path, "w") as file:
            file.attrs["class_names"] = json.dumps(names)
            file.create_dataset(key, data=data).attrs["class_ids"] = list(ids)
        return source.maps(images[:1], zeros, LABELS[:1])

    good = np.ones((2, 3, 3))
    with pytest.raises(StoreError, match=r"bad.h5: made for the classes \['x'\]; this run has \['a', 'b', 'c'\]"):
        read(good, names=("x",))
    with pytest.raises(StoreError, match="holds no maps of image 'd/0'"):
        read(good, key="cam/d/9")
    with pytest.raises(StoreError, match="image 'd/0': no map of its label 'c'"):
        read(good, ids=(1, 2))
    with pytest.raises(StoreError, match="2 maps for 3 class_ids"):
        read(good, ids=(1, 2, 3))
    with pytest.raises(StoreError, match="hold NaN, infinity or negative"):
        read(np.full((2, 3, 3), np.nan))
    with pytest.raises(StoreError, match=r"expected numbers \(classes, h, w\), got float64 \(3, 3\)"):
        read(good[0])
    with pytest.raises(ConfigError, match="needs a file"):
        file_identity(MapsConfig(variant="precomputed"))
    with pytest.raises(ConfigError, match=r"gone\.h5: no such file"):
        file_identity(MapsConfig(variant="precomputed", file=str(tmp_path / "gone.h5")))


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("class_ids", "ab", "the attribute class_ids is 'ab'; expected one id"),
        ("class_ids", 1, "the attribute class_ids is '1'"),
        ("class_ids", [1.5, 3.0], r"the attribute class_ids is '\[1.5 3. \]'"),
        ("class_ids", [np.nan, 3.0], "the attribute class_ids is"),
        ("class_names", "[", r"the attribute class_names is '\['; expected the list \[\"a\", \"b\", \"c\"\]"),
        ("class_names", 3, "the attribute class_names is '3'"),
        ("class_names", "{}", "the attribute class_names is '{}'"),
    ],
)
def test_precomputed_names_odd_attributes(attribute, value, message, tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        item = file.create_dataset("cam/d/0", data=np.ones((2, 3, 3)))
        item.attrs["class_ids"] = [1, 3]
        (item if attribute == "class_ids" else file).attrs[attribute] = value
    source = PrecomputedMaps(tmp_path / "m.h5", TABLE, MapsConfig())
    with pytest.raises(StoreError, match=message):
        source.maps(items(tmp_path)[:1], [np.zeros((8, 8, 3), np.uint8)], LABELS[:1])


@pytest.mark.parametrize(
    ("link", "message"),
    [
        (h5py.SoftLink("/cam/d/0"), "a link that leads nowhere"),
        (h5py.ExternalLink("other.h5", "x"), "its maps are in another file"),
        (h5py.ExternalLink("none.h5", "x"), "a link that leads nowhere"),
    ],
)
def test_precomputed_follows_no_link_elsewhere(link, message, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_dataset("x", data=np.ones((2, 3, 3))).attrs["class_ids"] = [1, 3]
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["cam/d/0"] = link
    source = PrecomputedMaps(tmp_path / "m.h5", TABLE, MapsConfig())
    with pytest.raises(StoreError, match=message):
        source.maps(items(tmp_path)[:1], [np.zeros((8, 8, 3), np.uint8)], LABELS[:1])


def test_precomputed_reads_no_more_than_it_needs(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        item = file.create_dataset("cam/d/0", (2, 400_000, 400_000), "f4", chunks=(1, 1000, 1000))
        item.attrs["class_ids"] = [1, 3]
    source = PrecomputedMaps(tmp_path / "m.h5", TABLE, MapsConfig())
    with pytest.raises(StoreError, match="maps of 400000 x 400000; expected at most 50,000,000 numbers a map"):
        source.maps(items(tmp_path)[:1], [np.zeros((8, 8, 3), np.uint8)], LABELS[:1])
