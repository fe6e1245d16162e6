"""Each plug-in keeps the contract of its kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from recamlabel_example.fcn import Fcn
from recamlabel_example.guided import GUIDED, guided
from recamlabel_example.npz import NpzFormat
from recamlabel_example.smoothcam import smoothcam
from recamlabel_example.tags import TagsAdapter

from recamlabel.contracts import check_adapter, check_exporter, check_refiner, check_segmenter, check_variant


def test_tags(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name, labels in (("a", "cat, dog"), ("b", ""), ("more/c", "dog")):
        Image.new("RGB", (8, 6)).save(folder / f"{name}.png")
        (folder / f"{name}.tags").write_text(labels)
    dataset = check_adapter(TagsAdapter(), folder)
    assert [(image.id, sorted(image.present)) for image in dataset.images] == [
        ("a", ["cat", "dog"]),
        ("b", []),
        ("more/c", ["dog"]),
    ]


def test_smoothcam() -> None:
    check_variant(smoothcam)


def test_guided() -> None:
    check_refiner(GUIDED)


def test_guided_moves_a_map_to_the_edge() -> None:
    image = np.zeros((32, 64, 3), np.uint8)
    image[:, 32:] = 255
    maps = np.zeros((1, 32, 64), np.float32)
    maps[:, :, 31:] = 1  # one pixel too far
    scores = guided(image, maps, None, True)
    assert scores[0, 16, 31] < 0.5 < scores[0, 16, 32]


def test_fcn() -> None:
    check_segmenter(Fcn)


def test_npz(tmp_path: Path) -> None:
    check_exporter(NpzFormat(), tmp_path)
