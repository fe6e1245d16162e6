"""Saliency maps beside class maps: what helps, what does no harm, and what is refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from recamlabel.errors import ConfigError, StoreError
from recamlabel.refine.saliency import SaliencyMaps, agreement, with_saliency


def drawn(seed: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """A disc, and the class map that a classifier has of it: its brightest part, wide and beside the middle."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:60, :80]
    row, column, radius = rng.integers(18, 42), rng.integers(18, 62), rng.integers(9, 16)
    truth = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
    shift = rng.integers(-6, 7, 2)
    blob = np.exp(-((rows - row - shift[0]) ** 2 + (columns - column - shift[1]) ** 2) / (2 * (0.9 * radius) ** 2))
    return truth, blob + 0.05 * rng.random(truth.shape)


def best_iou(pairs: list[tuple[NDArray[np.bool_], NDArray[np.floating]]]) -> float:
    """IoU of the object over all images at the best level for all."""
    values = []
    for level in np.arange(0.05, 1, 0.05):
        masks = [(truth, one > level) for truth, one in pairs]
        values.append(
            sum(int((truth & mask).sum()) for truth, mask in masks)
            / sum(int((truth | mask).sum()) for truth, mask in masks)
        )
    return max(values)


def mixed(saliency_of: list[NDArray[np.floating]], weight: float = 0.5) -> tuple[float, float, float]:
    """Best IoU without and with saliency, and the agreement."""
    scenes = [drawn(seed) for seed in range(len(saliency_of))]
    maps = [one / one.max() for _, one in scenes]
    found = [agreement(one[None], seen) for one, seen in zip(maps, saliency_of, strict=True)]
    agreed = float(np.mean([value for value in found if value is not None]))
    after = [
        with_saliency(one[None], seen, weight * max(0.0, agreed))[0]
        for one, seen in zip(maps, saliency_of, strict=True)
    ]
    truths = [truth for truth, _ in scenes]
    plain, with_it = (best_iou(list(zip(truths, some, strict=True))) for some in (maps, after))
    return plain, with_it, agreed


def test_the_truth_blurred_helps() -> None:
    seen = [gaussian_filter(drawn(seed)[0].astype(float), 3) for seed in range(20)]
    plain, with_it, agreed = mixed([one / one.max() for one in seen])
    assert agreed > 0.7 and with_it > plain + 0.05


@pytest.mark.parametrize("width", [0.0, 3.0, 12.0])
def test_noise_does_no_harm(width: float) -> None:
    rng = np.random.default_rng(1)
    seen = [gaussian_filter(rng.random((60, 80)), width) for _ in range(20)]
    seen = [(one - one.min()) / np.ptp(one) for one in seen]
    plain, with_it, agreed = mixed(seen)
    assert abs(agreed) < 0.2 and with_it > plain - 0.01


def test_the_opposite_has_no_weight() -> None:
    seen = [1 - gaussian_filter(drawn(seed)[0].astype(float), 3) for seed in range(5)]
    plain, with_it, agreed = mixed(seen)
    assert agreed < 0 and with_it == pytest.approx(plain, abs=2e-3)


def test_by_hand() -> None:
    maps = np.array([[[0.8, 0.2, 0.0]], [[0.4, 0.2, 0.0]]])
    found = with_saliency(maps, np.array([[0.0, 1.0, 1.0]]), 0.5)
    # Foreground from both, the classes' shares from the maps; where these say nothing of two, neither takes it.
    assert np.allclose(found, [[[0.4, 0.6, 0.0]], [[0.2, 0.6, 0.0]]], atol=1e-3)
    assert np.allclose(with_saliency(maps[:1], np.array([[0.0, 1.0, 1.0]]), 0.5), [[[0.4, 0.6, 0.5]]], atol=1e-3)
    assert np.allclose(with_saliency(maps, np.zeros((1, 3)), 0.0), maps, atol=1e-3)
    assert np.allclose(with_saliency(maps[:1], np.array([[0.0, 1.0, 1.0]]), 1.0), [[[0.0, 1.0, 1.0]]], atol=1e-3)


def save(path: Path, values: NDArray[np.generic]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def test_what_a_folder_holds(tmp_path: Path) -> None:
    grey = np.array([[0, 255], [51, 0]], np.uint8)
    save(tmp_path / "a" / "1.png", grey)
    save(tmp_path / "2.png", np.array([[0, 65535], [13107, 0]], np.uint16))
    save(tmp_path / "3.png", np.repeat(grey[..., None], 3, axis=2))
    maps = SaliencyMaps(tmp_path, ["a/1", "a/2", "b/3", "a/4"])
    for name in ("a/1", "a/2", "b/3"):
        seen = maps.read(name, (20, 20))
        assert seen is not None and np.allclose(seen, [[0, 1], [0.2, 0]], atol=1e-4)
    assert maps.read("a/4", (20, 20)) is None and maps.missing() == ["a/4"]
    # Of two images with one name the file without a folder is neither's.
    assert SaliencyMaps(tmp_path, ["a/2", "b/2", "a/1"]).missing() == ["a/2", "b/2"]
    before = maps.identity()
    save(tmp_path / "2.png", np.array([[0, 65535], [13108, 0]], np.uint16))
    assert maps.identity() != before


def test_what_a_file_holds(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["a/1"], file["a/2"] = np.array([[0.5, 1.0]]), np.array([[0, 255]], np.uint8)
        file["bad"], file["cube"] = np.array([[0.5, 7.0]]), np.zeros((1, 2, 3))
    maps = SaliencyMaps(tmp_path / "s.h5", ["a/1", "a/2", "bad", "cube", "none"])
    assert maps.read("a/1", (10, 20)).tolist() == [[0.5, 1.0]] and maps.read("a/2", (10, 20)).tolist() == [[0, 1]]
    assert maps.missing() == ["none"] and len(maps.identity()) == 16
    with pytest.raises(StoreError, match=r"s\.h5, bad: expected saliency in \[0, 1\], found 0\.5 to 7"):
        maps.read("bad", (10, 20))
    with pytest.raises(StoreError, match=r"s\.h5, cube: expected numbers \(h, w\), found float64 \(1, 2, 3\)"):
        maps.read("cube", (10, 20))


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: nothing; expected a folder with <image id>\.png"):
        SaliencyMaps(tmp_path / "nowhere", [])
    save(tmp_path / "colour.png", np.random.default_rng(0).integers(0, 256, (4, 4, 3)).astype(np.uint8))
    (tmp_path / "half.png").write_bytes((tmp_path / "colour.png").read_bytes()[:60])
    save(tmp_path / "thin.png", np.zeros((4, 40), np.uint8))
    with pytest.raises(
        ConfigError, match=r"none of the 1 images has a map; expected for example a/1\.png, found colour"
    ):
        SaliencyMaps(tmp_path, ["a/1"]).missing()
    maps = SaliencyMaps(tmp_path, ["colour", "half", "thin"])
    with pytest.raises(StoreError, match=r"colour\.png: a picture in colour; refine\.saliency expects grey"):
        maps.read("colour", (4, 4))
    with pytest.raises(StoreError, match=r"half\.png: not a readable picture"):
        maps.read("half", (4, 4))
    with pytest.raises(StoreError, match=r"thin\.png: 40 x 4 pixels, but the image has 40 x 40: another shape"):
        maps.read("thin", (40, 40))
