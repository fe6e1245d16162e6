"""Makes a small image data set with image-level labels, and exact masks beside it.

The masks lie in a folder of their own, outside the data root, so that nothing which is given
the data set can find them.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from recamlabel.core.progress import track
from recamlabel.demo.compose import Look, Scene, draw_scene
from recamlabel.demo.shapes import SHAPES
from recamlabel.demo.textures import TEXTURES
from recamlabel.errors import ConfigError
from recamlabel.storage.atomic import replacing, write_text
from recamlabel.storage.png import write_mask

JPEG_QUALITY = 93


@dataclass(frozen=True)
class SceneSettings:
    """What the scenes are like. The same settings draw the same scenes.

    Scene ``i`` depends on the seed and on ``i`` alone, so that more images begin with the same ones.

    Args:
        images: Number of scenes.
        classes: Number of classes, 1..8, in the order of :data:`recamlabel.demo.shapes.SHAPES`.
        side: Width and height in pixels.
        seed: Seed of everything random.
        object_counts: Relative frequency of scenes with one, two, three … objects.
        empty: Fraction of scenes without any object (and so without a label).
        background_correlation: Probability that a scene has the usual background of its first
            object's class; a background drawn evenly otherwise.
        cooccurrence: Probability that a further object is of the usual partner of the one before;
            a class drawn evenly otherwise.
        smallest, largest: Object size as a fraction of ``side``.
        overlap: Probability that a further object covers a part of the one before.
        min_visible: Fraction of every object that stays in view, at least.
        noise: Standard deviation of the camera noise, 0..1.
        val: Fraction of the scenes in split ``val``; the others are in ``train``.

    Raises:
        ConfigError: A value out of range.

    Example:
        >>> SceneSettings(images=200, background_correlation=0.9).class_names[:2]
        ('starfish', 'fish')
    """

    images: int = 150
    classes: int = 8
    side: int = 208
    seed: int = 0
    object_counts: tuple[float, ...] = (0.5, 0.33, 0.17)
    empty: float = 0.06
    background_correlation: float = 0.6
    cooccurrence: float = 0.5
    smallest: float = 0.42
    largest: float = 0.78
    overlap: float = 0.4
    min_visible: float = 0.6
    noise: float = 0.015
    val: float = 0.2

    def __post_init__(self) -> None:
        self._within("images", 1, 1_000_000)
        self._within("classes", 1, len(SHAPES))
        self._within("side", 32, 4096)
        self._within("seed", 0, 2**63)
        for name in ("empty", "background_correlation", "cooccurrence", "overlap", "min_visible", "noise", "val"):
            self._within(name, 0, 1)
        self._within("smallest", 0.05, self.largest)
        self._within("largest", self.smallest, 1)
        if not self.object_counts or min(self.object_counts) < 0 or sum(self.object_counts) <= 0:
            raise ConfigError(f"object_counts: expected frequencies of which one is above 0, got {self.object_counts}")

    def _within(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if not low <= value <= high:
            raise ConfigError(f"scene setting {name}: expected {low:g} to {high:g}, got {value:g}")

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that occur, in id order."""
        return tuple(SHAPES)[: self.classes]


@dataclass(frozen=True)
class SceneFolder:
    """Where the parts of a made data set lie: ``data/labels.csv`` is what ``fit`` gets."""

    path: Path

    @property
    def labels(self) -> Path:
        """``data/labels.csv``: columns image, labels (separated by spaces), split."""
        return self.path / "data" / "labels.csv"

    @property
    def truth(self) -> Path:
        """``truth/``: the exact masks, for evaluation only."""
        return self.path / "truth"


def make_scenes(folder: Path, settings: SceneSettings | None = None) -> SceneFolder:
    """Draw a data set into ``folder``.

    It gets ``data/images/*.jpg``, ``data/labels.csv``, ``data/classes.txt`` and
    ``truth/*.png``. ``labels.csv`` is written last: where it exists, everything else does.

    Args:
        folder: Made if missing; files of an earlier call are replaced.
        settings: What the scenes are like; the defaults make the scenes of ``recamlabel demo``.

    Example:
        >>> from tempfile import mkdtemp
        >>> made = make_scenes(Path(mkdtemp()), SceneSettings(images=2, side=48))
        >>> made.labels.read_text().splitlines()[0]
        'image,labels,split'
    """
    settings = settings or SceneSettings()
    made = SceneFolder(folder)
    images = made.labels.parent / "images"
    rows = []
    with track("draw scenes", settings.images, unit="scenes") as advance:
        for index in range(settings.images):
            scene, name = scene_at(settings, index), f"scene_{index:05d}"
            with replacing(images / f"{name}.jpg") as temporary:
                Image.fromarray(scene.image).save(temporary, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
            write_mask(made.truth / f"{name}.png", scene.mask)
            rows.append((f"images/{name}.jpg", " ".join(scene.present), _split(settings, index)))
            advance()
    write_text(made.labels.with_name("classes.txt"), "".join(f"{name}\n" for name in settings.class_names))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("image", "labels", "split"), *rows])
    write_text(made.labels, text.getvalue())
    return made


def scene_at(settings: SceneSettings, index: int) -> Scene:
    """Scene number ``index``, without writing anything."""
    rng = np.random.default_rng([settings.seed, index])
    names = _choose_objects(settings, index, rng)
    look = Look(
        side=settings.side,
        smallest=settings.smallest,
        largest=settings.largest,
        overlap=settings.overlap,
        min_visible=settings.min_visible,
        noise=settings.noise,
    )
    return draw_scene(names, _choose_background(settings, names, rng), settings.class_names, look, rng)


def _choose_objects(settings: SceneSettings, index: int, rng: np.random.Generator) -> list[str]:
    """Classes of the objects; the first one takes turns, so that every class has its share."""
    if rng.random() < settings.empty:
        return []
    frequencies = np.asarray(settings.object_counts) / sum(settings.object_counts)
    count = int(rng.choice(len(frequencies), p=frequencies)) + 1
    names = [settings.class_names[index % settings.classes]]
    while len(names) < count:
        partner = SHAPES[names[-1]].partner
        usual = rng.random() < settings.cooccurrence and partner in settings.class_names
        names.append(partner if usual else str(rng.choice(settings.class_names)))
    return names


def _choose_background(settings: SceneSettings, names: list[str], rng: np.random.Generator) -> str:
    if names and rng.random() < settings.background_correlation:
        return SHAPES[names[0]].background
    return str(rng.choice(list(TEXTURES)))


def _split(settings: SceneSettings, index: int) -> str:
    """The two splits in an even pattern: scene ``i`` is in ``val`` where the share passes a whole number."""
    return "val" if int((index + 1) * settings.val) > int(index * settings.val) else "train"
