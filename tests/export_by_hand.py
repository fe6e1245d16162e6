"""A small run with names that formats trip over, for the tests of exports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from run_by_hand import TinyImage, make_run

from recamlabel.storage.run_folder import RunFolder

CLASSES = ("cat", "dog, big", '🙂 "q\'s"')
IDS = ("images/a", "images/b c", "images/é,ü", "images/🙂", "b/images/a", "images__a")
SPLITS = ("train", "val", "train", "val", "train", "train")
SHAPE = (33, 47)


def scattered_mask(seed: int, shape: tuple[int, int] = SHAPE, classes: int = 3, ignore: int = 255) -> np.ndarray:
    """Overlapping rectangles of all classes, ignored ones and holes, and single pixels."""
    rng = np.random.default_rng(seed)
    height, width = shape
    mask = np.zeros(shape, dtype=np.uint8 if ignore == 255 else np.uint16)
    for _ in range(14):
        top, left, size = int(rng.integers(0, height)), int(rng.integers(0, width)), int(rng.integers(1, 14))
        mask[top : top + size, left : left + size] = rng.choice([*range(classes + 1), ignore])
    return mask


def hostile_run(folder: Path) -> tuple[RunFolder, dict[str, np.ndarray]]:
    """A run of six images and its masks by id: spaces, commas, accents, emoji, and a clash once flattened."""
    masks = {image_id: scattered_mask(seed) for seed, image_id in enumerate(IDS)}
    none = np.zeros((1, 2, 2))
    images = [
        TinyImage(image_id, ("cat",), none, none, masks[image_id], split)
        for image_id, split in zip(IDS, SPLITS, strict=True)
    ]
    return make_run(folder, CLASSES, images), masks


def tiny_run(folder: Path) -> RunFolder:
    """Two images of 2 x 4 pixels, classes cat and dog, one ignored pixel."""
    one = np.ones((1, 2, 2))
    return make_run(
        folder,
        ("cat", "dog"),
        [
            TinyImage("images/a", ("cat",), one, one, [[1, 0, 1, 1], [255, 0, 0, 1]], "train"),
            TinyImage(
                "images/b", ("cat", "dog"), np.ones((2, 2, 2)), np.ones((2, 2, 2)), [[0, 0, 2, 2], [1, 1, 0, 0]], "val"
            ),
        ],
    )


def many_classes_run(folder: Path, classes: int = 300) -> tuple[RunFolder, dict[str, np.ndarray]]:
    """A run with more classes than 8 bits hold."""
    mask = np.array([[0, 1, 254], [255, 256, classes], [65535, 0, 7]], dtype=np.uint16)
    none = np.zeros((1, 2, 2))
    names = [f"class {number}" for number in range(1, classes + 1)]
    run = make_run(folder, names, [TinyImage("a", (names[0],), none, none, mask, "train")])
    return run, {"a": mask}
