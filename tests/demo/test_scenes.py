"""The drawn data set: exact masks, honest labels, the same pictures for the same seed."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recamlabel.demo.scenes import SceneSettings, make_scenes, scene_at
from recamlabel.demo.shapes import SHAPES
from recamlabel.demo.textures import TEXTURES
from recamlabel.errors import ConfigError
from recamlabel.storage.png import read_mask

SMALL = SceneSettings(images=20, side=64)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_and_labels(tmp_path: Path) -> None:
    made = make_scenes(tmp_path, SMALL)
    with made.labels.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = (made.labels.parent / "classes.txt").read_text().split()
    assert tuple(names) == SMALL.class_names
    assert len(rows) == 20
    assert Counter(row["split"] for row in rows) == {"train": 16, "val": 4}
    for row in rows:
        image = Image.open(made.labels.parent / row["image"])
        mask = read_mask(made.truth / f"{Path(row['image']).stem}.png")
        assert (image.size, image.mode, mask.shape, mask.dtype) == ((64, 64), "RGB", (64, 64), np.uint8)
        shown = [names[number - 1] for number in np.unique(mask) if number]
        assert row["labels"].split() == shown


def test_masks_lie_outside_the_data_root(tmp_path: Path) -> None:
    made = make_scenes(tmp_path, replace(SMALL, images=2))
    assert made.labels.parent not in made.truth.parents
    assert made.truth not in made.labels.parents
    assert not list(made.labels.parent.rglob("*.png"))


def test_same_seed_same_files_and_more_images_begin_with_the_same(tmp_path: Path) -> None:
    settings = replace(SMALL, images=3)
    make_scenes(tmp_path / "a", settings)
    make_scenes(tmp_path / "b", settings)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    more, other = replace(settings, images=9), replace(settings, seed=1)
    assert (scene_at(more, 2).image == scene_at(settings, 2).image).all()
    assert (scene_at(other, 2).image != scene_at(settings, 2).image).any()


def test_mask_is_where_the_object_is_drawn() -> None:
    """Drawn twice with another object colour seed, only the object's pixels (and its shadow) differ."""
    settings = replace(SMALL, images=1, empty=0, object_counts=(1,), noise=0, side=96)
    for index in range(settings.classes):
        scene = scene_at(settings, index)
        assert scene.present == (settings.class_names[index],)
        assert set(np.unique(scene.mask)) == {0, index + 1}
        inside = scene.mask > 0
        area = inside.mean()
        assert 0.02 < area < 0.6, (scene.present, area)
        grey = scene.image.astype(float).mean(axis=2)
        across = np.abs(np.diff(grey, axis=1))
        edge = inside[:, 1:] != inside[:, :-1]
        assert across[edge].mean() > 1.3 * across[~edge].mean(), scene.present


def test_every_shape_is_recognisably_its_own() -> None:
    """Outlines differ: no two classes cover the same positions of their frame."""
    u, v = np.meshgrid(np.linspace(-1, 1, 80, dtype=np.float32), np.linspace(-1, 1, 80, dtype=np.float32))
    outlines = {name: shape.draw(u, v, np.random.default_rng(0))[1] for name, shape in SHAPES.items()}
    assert len(outlines) >= 6
    for name, outline in outlines.items():
        assert 0.15 < outline.mean() < 0.9, name
        for other, area in outlines.items():
            if other != name:
                assert (outline & area).sum() / (outline | area).sum() < 0.75, (name, other)


def test_partners_and_backgrounds_exist() -> None:
    for name, shape in SHAPES.items():
        assert shape.partner in SHAPES and shape.partner != name
        assert shape.background in TEXTURES


def test_default_scenes_are_what_the_demo_promises() -> None:
    settings = replace(SceneSettings(), side=64)
    assert settings.images >= 120 and settings.classes >= 6
    scenes = [scene_at(settings, index) for index in range(settings.images)]
    counts = Counter(len(scene.present) for scene in scenes)
    assert counts[0] >= 3 and counts[2] >= 20 and counts[3] >= 5
    positives = Counter(name for scene in scenes for name in scene.present)
    assert min(positives[name] for name in settings.class_names) >= 12
    alone = {scene.present[0] for scene in scenes if len(scene.present) == 1}
    assert alone == set(settings.class_names)


def test_background_correlation_and_cooccurrence_are_what_they_say() -> None:
    base = SceneSettings(images=60, side=32, empty=0, object_counts=(0, 1), overlap=0)
    for probability, low, high in ((0.0, 0.0, 0.4), (1.0, 1.0, 1.0)):
        settings = replace(base, background_correlation=probability)
        usual = [
            scene_at(settings, index).background == SHAPES[settings.class_names[index % 8]].background
            for index in range(60)
        ]
        assert low <= np.mean(usual) <= high
    together = replace(base, cooccurrence=1.0)
    pairs = {scene_at(together, index).present for index in range(16)}
    for pair in pairs:
        assert len(pair) < 2 or SHAPES[pair[0]].partner == pair[1] or SHAPES[pair[1]].partner == pair[0]


def test_empty_and_few_classes() -> None:
    empty = scene_at(replace(SMALL, empty=1.0), 0)
    assert empty.present == () and not empty.mask.any()
    two = replace(SMALL, classes=2, empty=0)
    assert {name for index in range(8) for name in scene_at(two, index).present} == {"starfish", "fish"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 0}, "scene setting images: expected 1 to 1e+06, got 0"),
        ({"classes": 9}, "scene setting classes: expected 1 to 8, got 9"),
        ({"overlap": 1.5}, "scene setting overlap: expected 0 to 1, got 1.5"),
        ({"smallest": 0.8, "largest": 0.5}, "scene setting smallest: expected 0.05 to 0.5, got 0.8"),
        ({"object_counts": (0.0, 0.0)}, "object_counts: expected frequencies of which one is above 0, got (0.0, 0.0)"),
    ],
)
def test_settings_out_of_range(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(SMALL, **change)  # type: ignore[arg-type]
    assert str(caught.value) == message


@pytest.mark.parametrize("name", list(TEXTURES))
def test_textures_fill_their_square(name: str) -> None:
    picture = TEXTURES[name](40, np.random.default_rng(0))
    assert picture.shape == (40, 40, 3)
    assert np.isfinite(picture).all()
    assert picture.min() > -0.2 and picture.max() < 2.5
    assert picture.std() > 0.02
