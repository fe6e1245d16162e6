"""Labels on disk to a :class:`Dataset`, one adapter per format.

A new format is one module with a class that follows :class:`Adapter`, a line in ``BUILT_IN``,
and a subclass of the contract test. Another package adds its own by an entry point of the group
``recamlabel.adapters`` whose name is the adapter's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from recamlabel.adapters.base import IMAGE_SUFFIXES, Adapter, Dataset, LabelledImage, Problem
from recamlabel.adapters.class_folders import ClassFoldersAdapter
from recamlabel.adapters.coco.read import CocoAdapter
from recamlabel.adapters.config import AdapterOptions, DataConfig
from recamlabel.adapters.csv.read import CsvAdapter, has_labels_file
from recamlabel.adapters.fiftyone.read import FiftyOneAdapter
from recamlabel.adapters.files.listing import is_there
from recamlabel.adapters.files.remote import local_source
from recamlabel.adapters.huggingface.read import HuggingFaceAdapter
from recamlabel.adapters.json_labels import JsonLabelsAdapter
from recamlabel.adapters.nearby import did_you_mean, explain, find_class_folder_sets, find_data_sets
from recamlabel.adapters.openimages.read import OpenImagesAdapter
from recamlabel.adapters.plugins import GROUP, guarded
from recamlabel.adapters.voc.read import VocAdapter
from recamlabel.adapters.yolo import YoloAdapter
from recamlabel.core.registry import Registry
from recamlabel.errors import DatasetError
from recamlabel.storage.regular import why_neither

__all__ = [
    "ADAPTERS",
    "BUILT_IN",
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

_PICKLES = frozenset({".pkl", ".pickle", ".p", ".pt", ".pth", ".joblib"})

# In the order in which 'auto' asks them: what has a layout of its own first, names of folders last.
BUILT_IN: tuple[Adapter, ...] = (
    VocAdapter(),
    YoloAdapter(),
    HuggingFaceAdapter(),
    CocoAdapter(),
    JsonLabelsAdapter(),
    OpenImagesAdapter(),
    FiftyOneAdapter(),
    CsvAdapter(),
    ClassFoldersAdapter(),
)
ADAPTERS: Registry[Adapter] = Registry(
    "--adapter", "adapter", {one.name: one for one in BUILT_IN}, GROUP, guarded, DatasetError, auto=True
)


def get_adapter(name: str) -> Adapter:
    """The adapter of that name, built in or of another package (entry point group ``recamlabel.adapters``).

    Raises:
        DatasetError: There is none, or that package's adapter is broken; the message lists all names.

    Example:
        >>> get_adapter("csv").name
        'csv'
    """
    return ADAPTERS.find(name)


def detect(source: Path) -> tuple[Adapter, str]:
    """The first adapter that recognises ``source``, and why it does; those of other packages are asked last.

    Raises:
        DatasetError: No such path, or no adapter recognises it; the message lists what would be.
    """
    named = _named(source)
    if named is None:
        _check_exists(source)
    for adapter in _in_order(source) if named is None else (named,):
        reason = adapter.detect(source)
        if reason is not None:
            _refuse_parent(source, adapter, reason)
            return adapter, reason
    others, broken = ADAPTERS.load_others()
    for adapter in others:
        reason = adapter.detect(source)
        if reason is not None:
            return adapter, reason
    raise DatasetError(_not_recognised(source, [*BUILT_IN, *others], broken))


def _in_order(source: Path) -> list[Adapter]:
    """All adapters; csv first where there is a labels.csv, which is written for nothing else."""
    first = [ADAPTERS["csv"]] if has_labels_file(source) else []
    return [*first, *(adapter for adapter in BUILT_IN if adapter not in first)]


def _refuse_parent(source: Path, adapter: Adapter, reason: str) -> None:
    """The parent folder of data sets looks like a folder of class folders, with masks or classes below its classes."""
    if adapter.name != "folder" or reason.startswith("MVTec"):
        return
    data_sets = find_data_sets(source, BUILT_IN)
    if not reason.startswith("class folders below"):
        data_sets = sorted([*data_sets, *find_class_folder_sets(source, data_sets)])
    if data_sets:
        raise DatasetError(
            f"{source}: not a data set, but a folder with some in it; {did_you_mean(data_sets)} "
            "(--adapter folder reads its folders as classes all the same)"
        )


def _not_recognised(source: Path, adapters: Sequence[Adapter], broken: Sequence[str]) -> str:
    if source.suffix.lower() in IMAGE_SUFFIXES and source.is_file():
        return f"{source}: a single image; give the label file, or the folder that holds it"
    data_sets = find_data_sets(source, adapters) if source.is_dir() else []
    if data_sets:
        return f"{source}: not a data set, but a folder with some in it; {did_you_mean(data_sets)}"
    simple = explain(source)
    if simple is not None:
        return simple
    what = "folder" if source.is_dir() else "file"
    if source.is_file() and source.suffix.lower() in _PICKLES:
        what = "Python pickle, which is never loaded, for loading one can run any program; a file"
    accepted = "".join(f"\n  {adapter.name}: {adapter.description}" for adapter in adapters)
    failed = "".join(f"\nnot asked: {message}" for message in broken)
    return f"{source}: a {what} that no adapter recognises; name one with --adapter, or give one of:{accepted}{failed}"


def load_dataset(source: Path, adapter: str = "auto", options: AdapterOptions | None = None) -> Dataset:
    """Read the labels of ``source``; no image is decoded and nothing is written.

    The first entry of ``notes`` says what the source was taken for and why.

    Args:
        source: A label file or a folder, also at an address (``s3://…``); a name such as ``fiftyone:NAME`` for adapters
            that take names.
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
    source = local_source(Path(source))
    try:
        return _load(source, adapter, options or AdapterOptions())
    except RecursionError:
        raise DatasetError(f"{source}: nested deeper than any data set is: folders, or a label file") from None


def _load(source: Path, adapter: str, options: AdapterOptions) -> Dataset:
    if adapter == "auto":
        chosen, reason = detect(source)
    else:
        chosen, reason = get_adapter(adapter), "as asked"
        if not getattr(chosen, "accepts_names", False):
            _check_exists(source)
    dataset = chosen.read(source, options)
    taken = ADAPTERS.shadowed(adapter)
    return replace(dataset, notes=(f"read as '{chosen.name}': {reason}", *[taken] * bool(taken), *dataset.notes))


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
        negative_labels=None if data.negative_labels is None else tuple(data.negative_labels),
        train_splits=None if data.train_splits == DataConfig().train_splits else tuple(data.train_splits),
    )


def _named(source: Path) -> Adapter | None:
    """The adapter that ``fiftyone:NAME`` or ``huggingface:NAME`` names, unless there is a file so called."""
    prefix, colon, name = str(source).partition(":")
    adapter = next((one for one in BUILT_IN if one.name == prefix), None)
    if colon and name and getattr(adapter, "accepts_names", False) and not is_there(source):
        return adapter
    return None


def _check_exists(source: Path) -> None:
    if what := why_neither(source):
        raise DatasetError(f"{source}: {what}; expected a label file or a folder")
    if not is_there(source):
        names = " or ".join(f"{one.name}:NAME" for one in BUILT_IN if getattr(one, "accepts_names", False))
        raise DatasetError(
            f"{source}: no such file or folder; expected a label file or a folder with labelled images, or {names}"
        )
