"""Labels on disk to a :class:`Dataset`, one adapter per format.

A new format is one module with a class that follows :class:`Adapter`, a line in ``ADAPTERS``,
and a subclass of the contract test.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from recamlabel.adapters.base import (
    IMAGE_SUFFIXES,
    Adapter,
    AdapterOptions,
    Dataset,
    LabelledImage,
    Problem,
)
from recamlabel.adapters.class_folders import ClassFoldersAdapter
from recamlabel.adapters.csv_file import CsvAdapter
from recamlabel.config import DataConfig
from recamlabel.errors import DatasetError

__all__ = [
    "ADAPTERS",
    "IMAGE_SUFFIXES",
    "Adapter",
    "AdapterOptions",
    "Dataset",
    "LabelledImage",
    "Problem",
    "detect",
    "get_adapter",
    "load_dataset",
    "options_from",
]

# In the order in which 'auto' asks them: a label file says more than the names of folders.
ADAPTERS: dict[str, Adapter] = {adapter.name: adapter for adapter in (CsvAdapter(), ClassFoldersAdapter())}


def get_adapter(name: str) -> Adapter:
    """The adapter of that name.

    Raises:
        DatasetError: There is none; the message lists all names.

    Example:
        >>> get_adapter("csv").name
        'csv'
    """
    try:
        return ADAPTERS[name]
    except KeyError:
        raise DatasetError(f"unknown adapter {name!r}; the adapters are: auto, {', '.join(ADAPTERS)}") from None


def detect(source: Path) -> tuple[Adapter, str]:
    """The first adapter that recognises ``source``, and why it does.

    Raises:
        DatasetError: No such path, or no adapter recognises it; the message lists what would be.
    """
    _check_exists(source)
    for adapter in ADAPTERS.values():
        reason = adapter.detect(source)
        if reason is not None:
            return adapter, reason
    if source.suffix.lower() in IMAGE_SUFFIXES and source.is_file():
        raise DatasetError(f"{source}: a single image; give the label file, or the folder that holds it")
    what = "folder" if source.is_dir() else "file"
    accepted = "".join(f"\n  {adapter.name}: {adapter.description}" for adapter in ADAPTERS.values())
    raise DatasetError(
        f"{source}: a {what} that no adapter recognises; name one with --adapter, or give one of:{accepted}"
    )


def load_dataset(source: Path, adapter: str = "auto", options: AdapterOptions | None = None) -> Dataset:
    """Read the labels of ``source``; no image is decoded and nothing is written.

    The first entry of ``notes`` says what the source was taken for and why.

    Args:
        source: A label file or a folder.
        adapter: A name of ``ADAPTERS``, or ``"auto"``.
        options: What is declared instead of found out.

    Raises:
        DatasetError: Nothing at all can be read. What is wrong with single rows or images
            is in ``problems`` instead.

    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp())
        >>> _ = (folder / "labels.csv").write_text("image,labels\\na.jpg,cat dog\\nb.jpg,cat\\nc.jpg,dog\\n")
        >>> dataset = load_dataset(folder)
        >>> dataset.classes.names, len(dataset), len(dataset.problems)  # the three images are missing
        (('cat', 'dog'), 3, 3)
    """
    source = Path(source)
    _check_exists(source)
    if adapter == "auto":
        chosen, reason = detect(source)
    else:
        chosen, reason = get_adapter(adapter), "as asked"
    dataset = chosen.read(source, options or AdapterOptions())
    return replace(dataset, notes=(f"read as '{chosen.name}': {reason}", *dataset.notes))


def options_from(data: DataConfig) -> AdapterOptions:
    """The adapter's share of the ``data`` section of a configuration."""
    return AdapterOptions(
        classes=tuple(data.classes),
        image_column=data.image_column,
        labels_column=data.labels_column,
        split_column=data.split_column,
        label_separator=data.label_separator,
        image_root=Path(data.image_root) if data.image_root else None,
        coco_exhaustive=data.coco_exhaustive,
        voc_difficult=data.voc_difficult,
        split_lists=tuple(map(Path, data.split_lists)),
        image_cache=Path(data.image_cache) if data.image_cache else None,
    )


def _check_exists(source: Path) -> None:
    if not source.exists():
        raise DatasetError(f"{source}: no such file or folder; expected a label file or a folder with labelled images")
