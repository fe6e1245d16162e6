"""A label format: beside each image a text file ``NAME.tags`` with its labels between commas.

photos/
  a.jpg   a.tags    "cat, dog"
  b.jpg   b.tags    ""             nothing that is looked for is in the image
  c.jpg                            without a file: noted, not read
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from recamlabel.adapters import IMAGE_SUFFIXES, AdapterOptions, Dataset
from recamlabel.adapters.assemble import Draft, Entry, assemble
from recamlabel.errors import DatasetError

SUFFIX = ".tags"


class TagsAdapter:
    """Reads a folder with ``.tags`` files, and the folders in it."""

    name = "tags"
    description = "a folder with a NAME.tags file (labels between commas) beside each image"

    def detect(self, source: Path) -> str | None:
        """Why a source is taken for this format. Cheap, and never raises: every unknown source is asked about."""
        return f"{SUFFIX} files beside images" if source.is_dir() and any(source.rglob(f"*{SUFFIX}")) else None

    def read(self, source: Path, options: AdapterOptions) -> Dataset:
        """Collect what the files say. :func:`assemble` checks it: classes, missing images, repeats, ids.

        Raises:
            DatasetError: No such folder, or no such file in it.
        """
        if not source.is_dir():
            raise DatasetError(f"{source}: no such file or folder; expected a folder with {SUFFIX} files beside images")
        draft = Draft(self.name, source.resolve(), source)
        for file in sorted(source.resolve().rglob(f"*{SUFFIX}")):
            image = _image_of(file).relative_to(draft.root)
            labels = [label.strip() for label in file.read_text(encoding="utf-8").split(",")]
            draft.entries.append(Entry(PurePosixPath(image.as_posix()), file, 1, "", frozenset(filter(None, labels))))
        if not draft.entries:
            raise DatasetError(f"{source}: no {SUFFIX} file in this folder; expected one beside each image")
        return assemble(draft, options)


def _image_of(file: Path) -> Path:
    """The image beside a file of labels. Where it is missing, :func:`assemble` says so of NAME.jpg."""
    beside = (path for path in sorted(file.parent.glob(f"{file.stem}.*")) if path.suffix.lower() in IMAGE_SUFFIXES)
    return next(beside, file.with_suffix(".jpg"))
