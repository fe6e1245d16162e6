"""Data sets of the library ``datasets``: labels from their columns, images written to a cache folder."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from recamlabel.adapters.assemble import Draft, Entry, assemble
from recamlabel.adapters.base import IMAGE_SUFFIXES, Dataset, Problem
from recamlabel.adapters.class_names import is_background
from recamlabel.adapters.config import AdapterOptions
from recamlabel.adapters.csv.columns import LABELS_NAMES, SPLIT_NAMES
from recamlabel.adapters.files.image_cache import store_image
from recamlabel.adapters.huggingface.rows import find_key, plain_labels
from recamlabel.errors import ConfigError, DatasetError, MissingExtraError
from recamlabel.storage.cache import cache_folder


@dataclass(frozen=True)
class _Columns:
    image: str
    labels: str
    split: str | None
    names: list[str]


def is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` wrote this folder."""
    one = (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    return one or (folder / "dataset_dict.json").is_file()


def read_arrow(name: str, folder: Path | None, options: AdapterOptions) -> Dataset:
    """Read a saved data set, or one by its name.

    Args:
        name: What the user gave, without a prefix.
        folder: The same as a folder, if there is one.
        options: Declared columns and cache folder.

    Raises:
        MissingExtraError: ``datasets`` is not installed.
        DatasetError: It cannot be loaded, or has no image or labels column.
        ConfigError: The cache folder lies inside the data.
    """
    splits = _load(name, folder)
    sets = list(splits.values())
    if not sets:
        raise DatasetError(f"{name}: a data set without a split; expected at least one")
    columns = _find_columns(name, sets[0], options)
    root = cache_folder(options.image_cache) / _cache_name(name, splits)
    if folder is not None and root.resolve().is_relative_to(folder):
        raise ConfigError(
            f"data.image_cache={options.image_cache} lies inside the data set {folder}; choose a place outside"
        )
    draft = Draft(
        "huggingface", root.resolve(), folder or Path(name), names=[n for n in columns.names if not is_background(n)]
    )
    for split, rows in splits.items():
        draft.entries += _entries(split, rows, columns, draft, options)
    draft.notes.append(f"columns: image = {columns.image!r}, labels = {columns.labels!r}")
    draft.notes.append(f"images are inside the data set's files; written byte for byte to {draft.root}")
    return assemble(draft, options)


def _load(name: str, folder: Path | None) -> Mapping[str, Any]:
    """Data sets by split; one without splits has the name ``""``."""
    spec = find_spec("datasets")
    if spec is None or spec.origin is None:  # a folder called 'datasets' passes for a package without a file
        raise MissingExtraError(
            f"{name}: a Hugging Face data set needs the library datasets: pip install 'recamlabel[huggingface]' "
            "(an image folder with metadata.csv or metadata.jsonl does not)"
        )
    library = import_module("datasets")
    library.disable_progress_bars()
    if folder and is_saved(folder):
        _check_arrow(folder)
    try:
        loaded = library.load_from_disk(str(folder)) if folder and is_saved(folder) else library.load_dataset(name)
    except Exception as error:  # a dozen kinds: no network, no such name, truncated Arrow, …
        text = (str(error).splitlines() or [type(error).__name__])[0]
        where = "" if folder else "; without network: save it elsewhere by save_to_disk and give the folder"
        raise DatasetError(f"{name}: datasets cannot load it: {text}{where}") from None
    return dict(loaded) if isinstance(loaded, Mapping) else {"": loaded}


def _check_arrow(folder: Path) -> None:
    """Read every Arrow file of a saved data set once: the library maps them into memory, where what has been cut off
    ends the whole process (SIGBUS), and follows offsets that nobody has looked at. Raises DatasetError."""
    arrow, ipc = import_module("pyarrow"), import_module("pyarrow.ipc")
    for file in sorted(folder.rglob("*.arrow")):
        try:
            with arrow.OSFile(str(file)) as stream:
                for batch in ipc.open_stream(stream):
                    batch.validate(full=True)
        except Exception as error:  # ArrowInvalid, OSError, and what the parser of its header raises
            text = (str(error).splitlines() or [type(error).__name__])[0]
            raise DatasetError(f"{file}: truncated or not valid Arrow: {text}; get it again, whole") from None


def _find_columns(name: str, rows: Any, options: AdapterOptions) -> _Columns:
    features = rows.features
    shown = ", ".join(f"{key} ({type(feature).__name__})" for key, feature in features.items())
    for setting in ("image_column", "labels_column", "split_column"):
        declared = getattr(options, setting)
        if declared is not None and declared not in features:
            raise DatasetError(f"{name}: no column {declared!r} (setting data.{setting}); the columns are {shown}")
    images = [key for key, feature in features.items() if type(feature).__name__ == "Image"]
    image = options.image_column or (images[0] if len(images) == 1 else "image" if "image" in images else None)
    if image is None or image not in images:
        raise DatasetError(
            f"{name}: {len(images)} image columns among {shown}; expected one, or name it: data.image_column"
        )
    labelled = [key for key, feature in features.items() if _class_names(feature)]
    labels = options.labels_column or find_key(list(features), (*LABELS_NAMES, "objects"))
    labels = labels or (labelled[0] if len(labelled) == 1 else None)
    if labels is None:
        raise DatasetError(f"{name}: no labels column among {shown}; name it with --set data.labels_column=NAME")
    split = options.split_column or find_key(list(features), SPLIT_NAMES)
    return _Columns(image, labels, split, _class_names(features[labels]) or list(options.classes))


def _class_names(feature: Any) -> list[str]:
    """Names of a ClassLabel, wherever it stands inside a list or an object; empty if there is none."""
    names = getattr(feature, "names", None)
    if names:
        return [str(name) for name in names]
    if isinstance(feature, list | tuple):
        return _class_names(feature[0]) if feature else []
    if isinstance(feature, Mapping):
        return next((found for inner in feature.values() if (found := _class_names(inner))), [])
    inner = getattr(feature, "feature", None)
    return _class_names(inner) if inner is not None else []


def _entries(split: str, rows: Any, columns: _Columns, draft: Draft, options: AdapterOptions) -> Iterator[Entry]:
    for index, values in enumerate(_rows(rows, columns, draft.source)):
        place = f"{split or 'row'}[{index}]"
        try:
            path = _store(split, index, values[columns.image], draft.root)
            labels = plain_labels(values[columns.labels], columns.names, options.label_separator)
        except DatasetError as error:
            draft.problems.append(Problem(f"{place}: {error}", draft.source))
            continue
        own = str(values[columns.split]) if columns.split and values[columns.split] else split or None
        if labels is None:
            yield Entry(path, draft.source, None, place, frozenset(), absent=frozenset(), split=own)
        else:
            real = frozenset(label for label in labels if not is_background(label))
            yield Entry(path, draft.source, None, place, real, split=own)


def _rows(rows: Any, columns: _Columns, source: Path) -> Iterator[dict[str, Any]]:
    """The columns that are read, row by row. Raises DatasetError where the files do not hold what their list says."""
    wanted = [name for name in (columns.image, columns.labels, columns.split) if name is not None]
    try:
        raw = rows.select_columns(list(dict.fromkeys(wanted)))
        # Not decoded: the bytes of the file as it was, or the path of one.
        raw = raw.cast_column(columns.image, import_module("datasets").Image(decode=False))
        for values in raw:
            yield {name: values[name] for name in wanted}
    except Exception as error:  # as many kinds as for loading
        text = (str(error).splitlines() or [""])[0]
        raise DatasetError(
            f"{source}: its rows cannot be read ({type(error).__name__}: {text}); save it again by save_to_disk"
        ) from None


def _store(split: str, index: int, image: Any, root: Path) -> PurePosixPath:
    data, origin = (image or {}).get("bytes"), (image or {}).get("path") or ""
    if data is None and not origin:
        raise DatasetError("no image; expected its bytes or its path")
    # The number keeps names unique and in order; the stem tells a person which image it was.
    stem = re.sub(r"[^\w.+-]", "_", PurePosixPath(origin.replace("\\", "/")).stem)[:80].strip(".")
    suffix = PurePosixPath(origin).suffix.lower()
    name = f"{index:07d}" + (f"-{stem}" if stem else "")
    path = PurePosixPath(re.sub(r"[^\w.+-]", "_", split) or ".") / name
    return store_image(root, path, suffix if suffix in IMAGE_SUFFIXES else "", data, Path(origin) if origin else None)


def _cache_name(name: str, splits: Mapping[str, Any]) -> str:
    """A folder name that changes with the content, so that files in it never need to be written again."""
    prints = [f"{split}={rows._fingerprint}={len(rows)}" for split, rows in splits.items()]
    digest = hashlib.sha256("\n".join([os.path.realpath(name), *prints]).encode()).hexdigest()[:12]
    return f"{re.sub(r'[^A-Za-z0-9._-]', '_', PurePosixPath(name).name)}-{digest}"
