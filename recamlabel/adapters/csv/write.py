"""Labels as one CSV file: an image column and a column of 1, 0 and -1 for each class."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path, PurePosixPath

from recamlabel.adapters.base import IMAGE_SUFFIXES, Dataset
from recamlabel.adapters.csv.columns import IMAGE_NAMES, SPLIT_NAMES
from recamlabel.adapters.write_common import CLASSES_FILE, Written, check_blanks, relative_image
from recamlabel.storage.atomic import write_text

# What a cell begins with that spreadsheets evaluate (OWASP, CSV injection).
FORMULA_MARKS = ("=", "+", "-", "@", "\t", "\r")


def write_csv(dataset: Dataset, out: Path) -> Written:
    """Write ``labels.csv`` (1 present, 0 absent, -1 unknown) and ``classes.txt``; all states are kept.

    Args:
        dataset: Images and their labels.
        out: Folder for the files.

    Raises:
        DatasetError: An image outside of the data root, or a name that a table cannot keep.
    """
    names = dataset.classes.names
    paths = [str(relative_image(image, dataset)) for image in dataset.images]
    check_blanks(paths, "a table")
    image_column, split_column, settings = _columns(names, bool(dataset.splits))
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([image_column, *([split_column] if split_column else []), *names])
    for row, path, image in zip(dataset.labels(), paths, dataset.images, strict=True):
        writer.writerow([path, *([image.split or ""] if split_column else []), *row.tolist()])
    write_text(out / "labels.csv", stream.getvalue())
    write_text(out / CLASSES_FILE, "".join(f"{name}\n" for name in names))
    root = (("data.image_root", str(dataset.root)),)
    files = (out / "labels.csv", out / CLASSES_FILE)
    return Written(files, _formulas([*paths, *names]), files[0], (*root, *settings))


def _formulas(texts: list[str]) -> tuple[str, ...]:
    """A note of names that a spreadsheet takes for formulas: they are written as they are, for a quote before them
    (OWASP's advice for what people look at) would make other names of them when they are read again."""
    found = [text for text in texts if text.startswith(FORMULA_MARKS)]
    if not found:
        return ()
    return (
        f"names that a spreadsheet would take for a formula: {len(found)} (such as {found[0]!r}); they are written as "
        "they are, so in a spreadsheet import labels.csv with all columns as text instead of opening it",
    )


def _columns(names: tuple[str, ...], splits: bool) -> tuple[str, str | None, tuple[tuple[str, str], ...]]:
    """Names of the image and split columns that no class has, and settings where a class could pass for them."""
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()) for name in names}
    image = next(name for name in (*IMAGE_NAMES, *_numbered("image")) if name not in plain)
    settings = []
    if plain & set(IMAGE_NAMES) or any(PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES for name in names):
        settings.append(("data.image_column", image))
    if not splits and not plain & set(SPLIT_NAMES):
        return image, None, tuple(settings)
    split = next(name for name in (*SPLIT_NAMES, *_numbered("split")) if name not in plain)
    if plain & set(SPLIT_NAMES):
        settings.append(("data.split_column", split))
    return image, split, tuple(settings)


def _numbered(name: str) -> list[str]:
    return [f"{name}_{number}" for number in range(100)]
