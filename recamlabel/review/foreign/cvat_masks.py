"""CVAT's segmentation masks 1.1 (and PASCAL VOC's): ``labelmap.txt`` and colour masks in ``SegmentationClass``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath

import numpy as np

from recamlabel.core.classes import BACKGROUND_ID
from recamlabel.errors import StoreError
from recamlabel.review.decisions.file import count, named
from recamlabel.review.foreign.files import Files
from recamlabel.review.foreign.found import UNSAID, Drawn, Found, LeftOutError, Reading
from recamlabel.review.foreign.match import Labels
from recamlabel.review.foreign.pixels import packed_colours, picture

KIND, LABEL_MAP, FOLDER = "cvat", "labelmap.txt", "SegmentationClass/"
LISTS = "ImageSets/Segmentation/"


def read_cvat_masks(files: Files, labels: Labels) -> tuple[Reading, Iterator[Found]]:
    """The masks of an archive or folder with a ``labelmap.txt``.

    Raises:
        StoreError: A label map that cannot be read, or no mask.
    """
    root = files.folder_of(LABEL_MAP) or ""
    names = _label_map(files, root + LABEL_MAP)
    folder = root + FOLDER
    masks = [name for name in files.names if name.startswith(folder) and name.lower().endswith(".png")]
    if not masks:
        raise StoreError(f"{files.path}: a {LABEL_MAP}, but no mask in {folder}; export the task from CVAT again")
    reading = Reading(KIND)
    listed = {
        line.strip().lstrip("/")
        for name in files.names
        if name.startswith(root + LISTS) and name.endswith(".txt")
        for line in files.read(name).decode("utf-8", "replace").splitlines()
        if line.strip()
    }
    lost = sorted(listed - {PurePosixPath(name[len(folder) :]).with_suffix("").as_posix() for name in masks})
    if lost:
        reading.notes.append(f"{count(len(lost), 'image')} listed in {LISTS} without a mask in {FOLDER}: {named(lost)}")
    return reading, (Found((name[len(folder) :],), _drawer(files, name, names, labels)) for name in masks)


def _drawer(files: Files, name: str, names: Mapping[int, str], labels: Labels) -> Callable[[tuple[int, int]], Drawn]:
    def draw(shape: tuple[int, int]) -> Drawn:
        colours = packed_colours(picture(files.read(name), shape))
        found, places = np.unique(colours, return_inverse=True)
        ids = []
        for colour in found.tolist():
            if colour not in names:
                text = f"{colour >> 16}, {colour >> 8 & 255}, {colour & 255}"
                raise LeftOutError(f"with a colour that {LABEL_MAP} does not name ({text})")
            ids.append(labels.id_of(names[colour]))
        # CVAT has no shape for the background: a pixel of it is one that nobody painted.
        numbers = np.array([UNSAID if class_id == BACKGROUND_ID else class_id for class_id in ids], dtype=np.int32)
        return numbers[places].reshape(shape)

    return draw


def _label_map(files: Files, name: str) -> dict[int, str]:
    """Label by colour (red << 16 | green << 8 | blue)."""
    names: dict[int, str] = {}
    for row, line in enumerate(files.read(name).decode("utf-8-sig", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        label, _, rest = line.partition(":")
        try:
            red, green, blue = (int(value) for value in rest.split(":")[0].split(","))
            if not all(0 <= value < 256 for value in (red, green, blue)):
                raise ValueError
        except ValueError:
            raise StoreError(
                f"{files.path}: {name}, line {row}: {line!r}; expected label:red,green,blue:parts:actions"
            ) from None
        colour = red << 16 | green << 8 | blue
        if colour in names:
            raise StoreError(f"{files.path}: {name}, line {row}: {names[colour]!r} and {label!r} have one colour")
        names[colour] = label
    return names
