"""What a source that is no data set may have been meant for, in one sentence."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from recamlabel.adapters.base import Adapter
from recamlabel.adapters.class_names import CLASSES_FILE, is_background
from recamlabel.adapters.csv.read import has_labels_file
from recamlabel.adapters.files.folder_scan import IMAGE_FOLDERS, MASK_FOLDERS, has_image, is_mvtec, split_folders
from recamlabel.adapters.files.listing import is_image_name
from recamlabel.adapters.negatives import NEGATIVE_NAMES, name_key

SPREADSHEETS = frozenset({".xlsx", ".xls", ".xlsm", ".ods", ".numbers"})
_TABLES = (".csv", ".tsv")
# Adapters that read what is in any folder: they say nothing of a sub-folder.
_ANY_FOLDER = frozenset({"folder", "csv"})
# A parent of data sets has a few sub-folders, a folder of classes up to thousands.
_LOOKED_AT = 50
_SHOWN = 5
_EXAMPLE = "image,labels"


def find_data_sets(folder: Path, adapters: Iterable[Adapter]) -> list[Path]:
    """Sub-folders that are data sets of their own, so that ``folder`` is hardly one. Never raises.

    Those with a labels.csv, of a format with a layout of its own, of MVTec, with images/ beside masks/, or with class
    folders below train/ or val/.
    """
    asked = [adapter for adapter in adapters if adapter.name not in _ANY_FOLDER]
    return [path for path in _folders(folder)[:_LOOKED_AT] if _is_data_set(path, asked)]


def find_class_folder_sets(folder: Path, others: Collection[Path] = ()) -> list[Path]:
    """Sub-folders that seem to be folders of class folders; empty where they seem to be classes. Never raises.

    A class may have sub-folders too. These are taken for classes of their own only if no sub-folder with images has an
    image right in it or a single folder of them, and if nothing hints at parts of a class: a name under several
    sub-folders (``left``; one for "nothing is there", such as ``good``, may be), a name without a letter (a date), or
    a classes.txt in ``folder``.

    Args:
        folder: That may be a parent of data sets.
        others: Sub-folders that are known to be data sets: not looked at.
    """
    folders = _folders(folder)
    if len(folders) > _LOOKED_AT or (folder / CLASSES_FILE).exists():
        return []
    data_sets: list[Path] = []
    seen: set[str] = set()
    for path in folders:
        if path in others:
            continue
        names = _class_names(path)
        if names is None or names & seen or not all(any(map(str.isalpha, name)) for name in names):
            return []
        seen |= names
        data_sets += [path] if names else []
    return data_sets


def _class_names(folder: Path) -> set[str] | None:
    """Names of the folders with images in a folder, without negative ones; None where they are no class folders."""
    try:
        parts = [path.name for path in _folders(folder) if has_image(path)]
    except OSError:
        return None
    if len(parts) == 1 or any(is_image_name(name) and not (folder / name).is_dir() for name in _names(folder)):
        return None
    return {name_key(name) for name in parts if not is_background(name)}.difference(NEGATIVE_NAMES)


def _is_data_set(folder: Path, adapters: Iterable[Adapter]) -> bool:
    if has_labels_file(folder) or any(adapter.detect(folder) is not None for adapter in adapters):
        return True
    below = _folders(folder)
    names = {path.name.casefold() for path in below}
    try:
        return is_mvtec(below) or bool(split_folders(below)) or bool(names & MASK_FOLDERS and names & IMAGE_FOLDERS)
    except OSError:
        return False


def did_you_mean(data_sets: list[Path]) -> str:
    """The question that names data sets.

    Example:
        >>> did_you_mean([Path("data/coco"), Path("data/csv")])
        'did you mean data/coco or data/csv?'
    """
    names = list(map(str, data_sets))
    if len(names) > _SHOWN:
        names = [*names[:_SHOWN], f"{len(names) - _SHOWN} more"]
    *first, last = names
    return f"did you mean {', '.join(first)} or {last}?" if first else f"did you mean {last}?"


def explain(source: Path) -> str | None:
    """One sentence on what to do with an empty folder, a spreadsheet, photographs without labels; None: no idea."""
    if source.is_file():
        return f"{source}: a spreadsheet; {_save_as_csv()}" if source.suffix.lower() in SPREADSHEETS else None
    names = _names(source)
    if not names:
        return f"{source}: an empty folder; expected images and their labels"
    sheets = [name for name in names if Path(name).suffix.lower() in SPREADSHEETS]
    tables = [name for name in names if name.lower().endswith(_TABLES)]
    if sheets and not tables:
        return f"{source}: the labels seem to be in a spreadsheet ({sheets[0]}); {_save_as_csv()}"
    if len(tables) > 1:
        which = ", ".join(tables[:_SHOWN])
        return f"{source}: several tables and no labels.csv; give the one with the labels: {which}"
    return _photographs(source, names)


def _photographs(source: Path, names: list[str]) -> str | None:
    """Images with no label at all, in the folder itself or in images/ below it."""
    images = [name for name in names if is_image_name(name) and not (source / name).is_dir()]
    place = ""
    for folder in () if images else _folders(source):
        if folder.name.casefold() in IMAGE_FOLDERS:
            place = f"{folder.name}/"
            images = [name for name in _names(folder) if is_image_name(name)]
    if not images:
        return None
    rows = "; ".join(
        f"{place}{name},{label}" for name, label in zip(images, ("CLASS", "CLASS OTHER", ""), strict=False)
    )
    many = f"{len(images)} image" + ("" if len(images) == 1 else "s")
    return (
        f"{source}: {many} and no labels; make a file labels.csv in it with the header '{_EXAMPLE}' and one row an "
        f"image ({rows}; nothing behind the comma: nothing is there), or sort the images into one folder a class"
    )


def _save_as_csv() -> str:
    return f"save it as CSV (UTF-8), with a header such as '{_EXAMPLE}' and one row an image"


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def _folders(folder: Path) -> list[Path]:
    return [path for path in (folder / name for name in _names(folder)) if path.is_dir()]
