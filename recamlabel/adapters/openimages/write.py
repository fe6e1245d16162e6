"""Labels as Open Images files: one row for each label that is known."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from recamlabel.adapters.base import Dataset, LabelledImage
from recamlabel.adapters.write_common import CLASSES_FILE, Written, by_split, check_blanks, file_part
from recamlabel.errors import DatasetError
from recamlabel.storage.atomic import write_text


def write_openimages(dataset: Dataset, out: Path) -> Written:
    """Write ``SPLIT-annotations-human-imagelabels.csv`` and what belongs to it; all states are kept.

    Confidence 1 is present, 0 is absent, and unknown labels have no row.
    ``LabelName`` is the class name itself, for the classes have no Freebase id. ``image-ids.csv``
    also has the images of which nothing is known, ``classes.txt`` the order of the classes.

    Args:
        dataset: Images and their labels.
        out: Folder for the files.

    Raises:
        DatasetError: A name that a table cannot keep.
    """
    check_blanks((image.id for image in dataset.images), "a table")
    names = dataset.classes.names
    files = []
    for split, images in by_split(dataset.images):
        file = out / f"{file_part(split) + '-' if split else ''}annotations-human-imagelabels.csv"
        if file in files:
            raise DatasetError(f"splits {split!r} and another would both be {file.name}; rename one")
        rows = [row for image in images for row in _rows(image, names)]
        _write(file, ("ImageID", "Source", "LabelName", "Confidence"), rows)
        files.append(file)
    _write(out / "class-descriptions.csv", ("LabelName", "DisplayName"), [(name, name) for name in names])
    _write(out / "image-ids.csv", ("ImageID", "Subset"), [(image.id, image.split or "") for image in dataset.images])
    write_text(out / CLASSES_FILE, "".join(f"{name}\n" for name in names))
    files += [out / "class-descriptions.csv", out / "image-ids.csv", out / CLASSES_FILE]
    return Written(tuple(files), (), out, (("data.image_root", str(dataset.root)),))


def _rows(image: LabelledImage, names: Sequence[str]) -> Iterable[tuple[str, str, str, int]]:
    for name in names:
        if name in image.present or name in image.absent:
            yield image.id, "verification", name, int(name in image.present)


def _write(file: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(file, stream.getvalue())
