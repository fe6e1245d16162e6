"""Labels alone, from any adapter to another format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from recamlabel.adapters.base import Dataset
from recamlabel.adapters.coco.write import write_coco
from recamlabel.adapters.csv.write import write_csv
from recamlabel.adapters.openimages.write import write_openimages
from recamlabel.adapters.write_common import Written, check_names
from recamlabel.core.registry import check_choice
from recamlabel.errors import DatasetError, StoreError
from recamlabel.storage.atomic import placing
from recamlabel.storage.remote import refuse_remote

WRITERS: dict[str, Callable[[Dataset, Path], Written]] = {
    "csv": write_csv,
    "coco": write_coco,
    "openimages": write_openimages,
}
_SHOWN = 10


def write_labels(dataset: Dataset, target: str, out: Path) -> Written:
    """Write the labels of a data set into a new folder, which appears whole or not at all; images are not copied.

    Problems of single images (a missing file) do not hinder; anything else that is wrong with
    the labels does, for what an adapter could not read would be lost without a word.

    Args:
        dataset: As an adapter gives it.
        target: ``"csv"``, ``"coco"`` or ``"openimages"``.
        out: A folder that is new or empty.

    Raises:
        ConfigError: Another target.
        StoreError: ``out`` is a file or not empty.
        DatasetError: The labels have problems, or no image.

    Example:
        >>> from tempfile import mkdtemp
        >>> from recamlabel.adapters import LabelledImage
        >>> from recamlabel.core.classes import ClassTable
        >>> image = LabelledImage("a", Path("/data/a.jpg"), frozenset({"cat"}), frozenset())
        >>> dataset = Dataset(Path("/data"), "csv", ClassTable(("cat", "dog")), (image,))
        >>> written = write_labels(dataset, "csv", Path(mkdtemp()))
        >>> written.files[0].read_text()
        'image,cat,dog\\na.jpg,1,-1\\n'
    """
    check_choice("--to", target, WRITERS, "format")
    _check_place(out)
    _check_labels(dataset)
    check_names(dataset)
    with placing(out.resolve()) as fresh:
        written = WRITERS[target](dataset, fresh)
    return written.moved(fresh, out)


def _check_place(out: Path) -> None:
    refuse_remote(out, "a data set that is written")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "not empty" if out.is_dir() else "a file"
        raise StoreError(f"{out}: {what}; nothing was written. Give --out a folder that is new or empty")


def _check_labels(dataset: Dataset) -> None:
    fatal = [problem for problem in dataset.problems if problem.fatal and problem.image_id is None]
    if fatal:
        lines = [f"problems with the labels: {len(fatal)}; nothing was written", *map(str, fatal[:_SHOWN])]
        more = [f"… and {len(fatal) - _SHOWN} more"] if len(fatal) > _SHOWN else []
        raise DatasetError("\n  ".join([*lines, *more]))
    if not dataset.images:
        raise DatasetError(f"{dataset.root}: no image in the data set; nothing was written")
