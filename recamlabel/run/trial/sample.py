"""Which images a trial looks at, as a label file of their own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recamlabel.adapters.base import Dataset, LabelledImage
from recamlabel.adapters.config import DataConfig
from recamlabel.adapters.write import write_labels
from recamlabel.config import Config, amend
from recamlabel.errors import StoreError
from recamlabel.gate.crossval import canonical_order
from recamlabel.storage.atomic import is_empty, placing

LABELS = "labels"
# Of the settings of [data], what is not about how the labels of the source are read.
KEPT = ("background", "on_bad_image", "negative_labels")


def choose_images(
    images: Sequence[LabelledImage], count: int, first: Collection[str] = ()
) -> tuple[LabelledImage, ...]:
    """At most ``count`` images, each class as often as it can be, images without any class like one more class.

    Args:
        images: To choose from; the order does not matter.
        count: How many at most.
        first: Ids that are taken before others of the same class.

    Example:
        >>> names = ["cat", "cat", "cat", "dog", ""]
        >>> labels = [frozenset({name} - {""}) for name in names]
        >>> images = [LabelledImage(str(i), Path(str(i)), one, frozenset()) for i, one in enumerate(labels)]
        >>> sorted("".join(image.present) for image in choose_images(images, 3))
        ['', 'cat', 'dog']
    """
    wanted, met, ranks = set(first), Counter[str](), {}
    shuffled = [images[position] for position in canonical_order([image.id for image in images])]
    for image in sorted(shuffled, key=lambda image: image.id not in wanted):
        names = image.present or {""}
        ranks[image.id] = min(met[name] for name in names)
        met.update(names)
    chosen = {
        image.id for image in sorted(shuffled, key=lambda image: (ranks[image.id], image.id not in wanted))[:count]
    }
    return tuple(image for image in images if image.id in chosen)


@dataclass(frozen=True)
class Sample:
    """The images of a trial.

    Attributes:
        labels: Their label file.
        config: The settings with which it is read; all else is as it was given.
        dataset: The images with their labels.
    """

    labels: Path
    config: Config
    dataset: Dataset


def write_sample(dataset: Dataset, config: Config, count: int, out: Path, first: Collection[str] = ()) -> Sample:
    """The sample of a data set's training images as a CSV file below ``out``, written once.

    Args:
        dataset: As an adapter gives it.
        config: Which splits are trained on.
        count: Images at most.
        out: Folder of the trial.
        first: Ids that are taken before others.

    Raises:
        StoreError: Another sample is there already, or something that is no trial.
    """
    training = [image for image in dataset.images if image.split is None or image.split in config.data.train_splits]
    chosen = choose_images(training or dataset.images, count, first)
    # A sample that lacks a class still knows of it: class ids are those of the whole data set.
    problems = tuple(problem for problem in dataset.problems if problem.image_id is None)
    sample = replace(dataset, images=tuple(replace(image, split=None) for image in chosen), problems=problems)
    place = out / LABELS
    marker, kept = place / "ids.txt", place / "settings.json"
    ids = "".join(f"{image.id}\n" for image in chosen)
    if marker.is_file():
        if marker.read_text(encoding="utf-8") != ids:
            raise StoreError(
                f"{out}: a trial on other images or with another --images; give --out a folder that is new or empty"
            )
    elif out.exists() and not (out.is_dir() and is_empty(out)):
        raise StoreError(
            f"{out}: not empty and no trial; nothing was written. Give --out a folder that is new or empty"
        )
    else:
        with placing(place.resolve()) as fresh:
            settings = {"data.adapter": "csv", **dict(write_labels(sample, "csv", fresh).settings)}
            (fresh / kept.name).write_text(json.dumps(settings), encoding="utf-8")
            (fresh / marker.name).write_text(ids, encoding="utf-8")
    data = DataConfig(**{name: getattr(config.data, name) for name in KEPT})
    read = amend(config.model_copy(update={"data": data}), overrides=json.loads(kept.read_text(encoding="utf-8")))
    return Sample(place / "labels.csv", read, sample)
