"""What a source that is no data set may have been meant for, in one sentence."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from recamlabel.adapters.base import Adapter
from recamlabel.adapters.csv.read import has_labels_file
from recamlabel.adapters.files.folder_scan import IMAGE_FOLDERS, MASK_FOLDERS, is_mvtec
from recamlabel.adapters.files.listing import is_image_name

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

    Those with a labels.csv, of a format with a layout of its own, of MVTec, or with images/ beside masks/.
    """
    asked = [adapter for adapter in adapters if adapter.name not in _ANY_FOLDER]
    return [path for path in _folders(folder)[:_LOOKED_AT] if _is_data_set(path, asked)]


def _is_data_set(folder: Path, adapters: Iterable[Adapter]) -> bool:
    if has_labels_file(folder) or any(adapter.detect(folder) is not None for adapter in adapters):
        return True
    below = _folders(folder)
    names = {path.name.casefold() for path in below}
    try:
        return is_mvtec(below) or bool(names & MASK_FOLDERS and names & IMAGE_FOLDERS)
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
