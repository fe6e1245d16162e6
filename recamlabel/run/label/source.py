"""Which images are to be labelled, what is known of them, and the batches that they are labelled in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recamlabel.adapters import detect, load_dataset, options_from
from recamlabel.adapters.base import IMAGE_SUFFIXES, LabelledImage
from recamlabel.adapters.config import AdapterOptions
from recamlabel.adapters.files.remote import local_source
from recamlabel.config import Config
from recamlabel.core.classes import ClassTable
from recamlabel.data.changed import file_state
from recamlabel.data.inspect import apply_on_bad_image
from recamlabel.errors import DatasetError
from recamlabel.run.label.batch import Batch, OnBad
from recamlabel.segment.folder import find_images
from recamlabel.storage.remote import shown


@dataclass(frozen=True)
class Wanted:
    """What is to be labelled.

    Attributes:
        images: With what is known of them.
        labelled: Whether there are labels.
        notes: What a person should know of how the source was read.
    """

    images: tuple[LabelledImage, ...]
    labelled: bool
    notes: Sequence[str] = ()


def read_source(source: Path, table: ClassTable, labelled: bool | None, config: Config, on_bad_image: OnBad) -> Wanted:
    """The images at a place, with their labels where there are some.

    Args:
        source: A data set, or an image or a folder of images.
        table: The run's classes, the only ones that a label may name.
        labelled: Whether the source has labels; None: where an adapter recognises it as a data set.
        config: Whose section ``data`` says how labels are read.
        on_bad_image: Whether images with a problem are left out.

    Raises:
        DatasetError: Nothing there, labels of other classes, problems with single images.
    """
    place = local_source(source)
    if labelled is None:
        try:
            detect(place)
        except DatasetError:
            if not (place.is_dir() or (place.is_file() and place.suffix.lower() in IMAGE_SUFFIXES)):
                raise
            note = f"{shown(source)}: images without labels, as no adapter takes it for a data set (--labels says why)"
            return Wanted(find_images(place), False, (note,))
    if labelled is False:
        return Wanted(find_images(place), False)
    dataset = load_dataset(place, config.data.adapter, _options(config, table))
    foreign = sorted(set(dataset.classes.names) - set(table.names))
    if foreign:
        raise DatasetError(_other_classes(source, foreign, table))
    try:
        usable = apply_on_bad_image(dataset, (), on_bad_image)
    except DatasetError as error:
        text = str(error).partition("\nrun `recamlabel check")[0].replace("the setting data.classes", "the run")
        raise DatasetError(
            f"{text}\nthe run knows {', '.join(table.names)}; --on-bad-image skip leaves single images out, "
            "--no-labels has all labelled by the segmenter alone"
        ) from None
    if not usable.images:
        raise DatasetError(
            f"{shown(source)}: no image that could be labelled; `recamlabel check {shown(source)}` says why"
        )
    return Wanted(usable.images, True, dataset.notes)


def _options(config: Config, table: ClassTable) -> AdapterOptions:
    return replace(options_from(config.data), classes=table.names)


def _other_classes(source: Path, foreign: Sequence[str], table: ClassTable) -> str:
    names = ", ".join(foreign[:5]) + (", …" if len(foreign) > 5 else "")
    return (
        f"{shown(source)}: labels that the run has not learnt: {names}; it knows {', '.join(table.names)}. Rename "
        "them, leave them out, or have all images labelled by the segmenter alone with --no-labels"
    )


def batches_of(images: Sequence[LabelledImage], size: int, label_key: str) -> list[Batch]:
    """Images by the shards that they come in, each with the key of what it depends on.

    Args:
        images: In order.
        size: Images of a shard.
        label_key: Of all else that masks depend on.
    """
    groups = [tuple(images[start : start + size]) for start in range(0, len(images), size)]
    return [Batch(number, _key(group, label_key), group) for number, group in enumerate(groups)]


def _key(images: Sequence[LabelledImage], label_key: str) -> str:
    rows = [[image.id, file_state(image.path), sorted(image.present)] for image in images]
    return hashlib.sha256(json.dumps([label_key, rows]).encode()).hexdigest()[:16]
