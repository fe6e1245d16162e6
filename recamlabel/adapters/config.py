"""Settings of how labels are read; those of one adapter that another cannot use are refused, not dropped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from recamlabel.core.section import Section
from recamlabel.errors import ConfigError


class DataConfig(Section):
    """How the labels on disk are read."""

    adapter: str = Field("auto", description="label format; 'auto' finds out")
    classes: list[str] = Field(
        [], description="class names in id order; empty: classes.txt beside the labels, else sorted"
    )
    image_column: str | None = Field(None, description="column with the image path (csv, huggingface)")
    labels_column: str | None = Field(
        None, description="column with the labels (csv, huggingface), or field of a FiftyOne data set, or its 'tags'"
    )
    split_column: str | None = Field(None, description="column with the split (csv, huggingface)")
    label_separator: Literal[" ", ",", ";", "|"] | None = Field(
        None, description="what stands between two labels of a cell (csv, huggingface)"
    )
    image_root: str | None = Field(
        None, description="folder that the image paths of a label file are relative to; not set: found out"
    )
    coco_exhaustive: bool | None = Field(
        None,
        description="coco: a class without an annotation is absent (true) or unknown (false); "
        "not set: absent, unless the file has LVIS's neg_category_ids",
    )
    voc_difficult: Literal["unknown", "present", "absent"] = Field(
        "unknown", description="voc: state of a class that has difficult objects only"
    )
    split_lists: list[str] = Field(
        [], description="voc: list files with one image name a line, instead of ImageSets; TRAIN.txt gives split TRAIN"
    )
    image_cache: str | None = Field(
        None,
        description="folder for images that a Hugging Face data set holds inside its files; not set: the user's cache",
    )
    negative_labels: list[str] | None = Field(
        None,
        description="labels that say that nothing is there, instead of the usual ones (ok, good, normal, none, "
        "no_defect, ...); []: every label is a class",
    )
    train_splits: list[str] = Field(
        ["train"], description="splits the networks are trained on, where the data set has splits"
    )
    background: bool = Field(
        True, description="false where every pixel belongs to a labelled class, as in aerial tiles"
    )
    on_bad_image: Literal["stop", "skip"] = Field(
        "stop", description="an unreadable image stops the run, or is left out and listed"
    )


@dataclass(frozen=True, slots=True)
class AdapterOptions:
    """What a user may tell an adapter. None (or an empty tuple) means: find out.

    Args:
        classes: Class names in id order; a label outside them is then a problem.
        image_column, labels_column, split_column: Column names; ``labels_column`` is also the
            field (or ``"tags"``) of a FiftyOne data set.
        label_separator: One of ``" "``, ``","``, ``";"``, ``"|"``.
        image_root: Folder that the image paths of a label file are relative to.
        coco_exhaustive: Whether a COCO class without an annotation is absent, or else unknown.
        voc_difficult: State of a VOC class with difficult objects only.
        split_lists: VOC list files, one image name a line; a file's stem is the split's name.
        image_cache: Folder for images that a data set holds inside its own files.
        negative_labels: Labels that say that nothing is there; None: the usual names, such as ``ok``.
        train_splits: Splits to train on, where they are set; None: not set.
    """

    classes: tuple[str, ...] = ()
    image_column: str | None = None
    labels_column: str | None = None
    split_column: str | None = None
    label_separator: str | None = None
    image_root: Path | None = None
    coco_exhaustive: bool | None = None
    voc_difficult: str = "unknown"
    split_lists: tuple[Path, ...] = ()
    image_cache: Path | None = None
    negative_labels: tuple[str, ...] | None = None
    train_splits: tuple[str, ...] | None = None


_COLUMNS = frozenset({"image_column", "labels_column", "split_column", "label_separator"})


_DEFAULTS = AdapterOptions()


_ABOUT = {
    **dict.fromkeys(_COLUMNS, "tables such as CSV files"),
    "image_root": "label files that name their images",
    "coco_exhaustive": "COCO files",
    "voc_difficult": "VOC data sets",
    "split_lists": "VOC data sets",
    "image_cache": "Hugging Face data sets",
}


COLUMN_SETTINGS = tuple(sorted(_COLUMNS))


def refuse_foreign_settings(adapter: str, options: AdapterOptions, *used: str) -> None:
    """Refuse settings that an adapter does not use; ``classes`` is for all.

    Args:
        adapter: Its name, for the message.
        options: What the user has set.
        used: Names of the settings that the adapter does use.

    Raises:
        ConfigError: Another setting is not at its default.

    Example:
        >>> refuse_foreign_settings("yolo", AdapterOptions(coco_exhaustive=True))
        Traceback (most recent call last):
        ...
        recamlabel.errors.ConfigError: data.coco_exhaustive is about COCO files; the adapter 'yolo' cannot use it, ...
    """
    for setting, about in _ABOUT.items():
        if setting not in used and getattr(options, setting) != getattr(_DEFAULTS, setting):
            raise ConfigError(f"data.{setting} is about {about}; the adapter {adapter!r} cannot use it, leave it out")
