"""Lists of images in text files, as data sets and papers publish their splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from recamlabel.adapters.base import IMAGE_SUFFIXES
from recamlabel.adapters.files.text import read_text
from recamlabel.errors import DatasetError

AMBIGUOUS = ""


def read_id_list(file: Path, ids: Iterable[str]) -> list[str]:
    """The images that a text file names, one a line, in the file's order.

    A line is an image's id, the end of one (``2007_000032`` for ``JPEGImages/2007_000032``), or a path
    with extension; further columns, such as the mask's path, are not looked at.

    Args:
        file: UTF-8 text; empty lines are skipped.
        ids: Ids of all images there are.

    Returns:
        Full ids.

    Raises:
        DatasetError: A line that names no image, several, or one that stands above it already; an empty file.

    Example:
        >>> from tempfile import mkdtemp
        >>> file = Path(mkdtemp()) / "val.txt"
        >>> _ = file.write_text("2007_000033\\n/JPEGImages/2007_000032.jpg /Masks/2007_000032.png\\n")
        >>> read_id_list(file, ["JPEGImages/2007_000032", "JPEGImages/2007_000033"])
        ['JPEGImages/2007_000033', 'JPEGImages/2007_000032']
    """
    index = _index(ids)
    rows: dict[str, int] = {}
    for row, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        image_id = _find(line.strip(), index)
        if image_id is None:
            example = next((name for name in index.values() if name), "")
            raise DatasetError(
                f"{file}, row {row}: no image {line.strip()!r}; expected ids such as {example!r}, one a line"
            )
        if image_id == AMBIGUOUS:
            raise DatasetError(f"{file}, row {row}: several images end in {line.strip()!r}; write the full id")
        if image_id in rows:
            raise DatasetError(f"{file}, row {row}: {line.strip()!r} stands in row {rows[image_id]} already")
        rows[image_id] = row
    if not rows:
        raise DatasetError(f"{file}: empty; expected image ids, one a line")
    return list(rows)


def _index(ids: Iterable[str]) -> dict[str, str]:
    """Id by itself and by each of its ends; AMBIGUOUS where several images have that end."""
    full = list(ids)
    index: dict[str, str] = {}
    for image_id in full:
        for tail in _tails(image_id):
            index[tail] = AMBIGUOUS if tail in index else image_id
    return index | {image_id: image_id for image_id in full}


def _tails(image_id: str) -> Sequence[str]:
    parts = image_id.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _find(line: str, index: Mapping[str, str]) -> str | None:
    """An id may have blanks in it, so that the whole line goes before its first column."""
    for text in (line, line.split()[0]):
        path = PurePosixPath(text.replace("\\", "/").lstrip("/"))
        stem = str(path.with_suffix("")) if path.suffix.lower() in IMAGE_SUFFIXES else str(path)
        for name in (str(path), stem):
            if name in index:
                return index[name]
    return None
