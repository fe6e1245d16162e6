"""Labels from Hugging Face: an image folder with metadata, or a data set of the library ``datasets``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from recamlabel.adapters.assemble import Draft, Entry, assemble
from recamlabel.adapters.base import Dataset, Problem
from recamlabel.adapters.class_names import is_background, known_classes
from recamlabel.adapters.config import COLUMN_SETTINGS, AdapterOptions, refuse_foreign_settings
from recamlabel.adapters.csv.read import read_entries
from recamlabel.adapters.files.folder_scan import SPLIT_FOLDERS
from recamlabel.adapters.files.listing import is_there
from recamlabel.adapters.huggingface.arrow import is_saved, read_arrow
from recamlabel.adapters.huggingface.rows import RowReader, find_metadata, json_rows, parquet_rows, refuse_unnamed
from recamlabel.adapters.ids import absolute_source, relative_path
from recamlabel.errors import DatasetError

_PREFIX = "huggingface:"


class HuggingFaceAdapter:
    """Reads an image folder with ``metadata.csv``, ``.jsonl`` or ``.parquet``; a folder written by
    ``save_to_disk``; or, as ``huggingface:NAME``, what ``datasets.load_dataset`` gives.

    Images inside a data set's own files are written, byte for byte, to a cache folder
    (``options.image_cache``, else the user's cache), never beside the data. An image without
    a label (null) is unknown; an empty list says that no class is there.
    """

    name = "huggingface"
    description = "a folder with metadata.csv|jsonl|parquet (file_name, labels) or by save_to_disk; or huggingface:NAME"
    accepts_names = True

    def detect(self, source: Path) -> str | None:
        """Why ``source`` is of Hugging Face, or None. Never raises."""
        try:
            if str(source).startswith(_PREFIX):
                return "named so"
            if is_saved(source):
                return "a data set written by save_to_disk"
            files = find_metadata(source)
        except OSError:
            return None
        return f"there is {files[0].relative_to(source)} with file names" if files else None

    def read(self, source: Path, options: AdapterOptions) -> Dataset:
        """Read the labels; no image is decoded.

        Raises:
            DatasetError: Nothing there that can be read, no label column, or no class.
            MissingExtraError: The library ``datasets`` is needed and not installed.
            ConfigError: A setting that is about another format is set.
        """
        refuse_foreign_settings(self.name, options, *COLUMN_SETTINGS, "image_cache")
        name = str(source).removeprefix(_PREFIX)
        top = absolute_source(Path(name)) if is_there(Path(name)) else None
        if top is None and str(source) == name and (len(source.parts) > 2 or source.is_absolute()):
            raise DatasetError(f"{source}: no such file or folder; expected {self.description}")
        files = find_metadata(top) if top is not None and not is_saved(top) else []
        if not files or top is None:
            if top is not None and not is_saved(top):
                refuse_unnamed(top)
            return read_arrow(name, top, options)
        draft = Draft(self.name, top, files[0], classes_folder=top)
        for file in files:
            draft.entries += _entries(file, draft, options)
        draft.notes.append(f"labels from {', '.join(str(file.relative_to(top)) for file in files)}")
        if any(entry.split for entry in draft.entries):
            draft.notes.append(
                "splits are the folders " + ", ".join(sorted({e.split for e in draft.entries if e.split}))
            )
        return assemble(draft, options)


def _entries(file: Path, draft: Draft, options: AdapterOptions) -> Iterator[Entry]:
    """The entries of one metadata file, by paths relative to the data root."""
    prefix = PurePosixPath(file.parent.relative_to(draft.root).as_posix())
    rows = _csv_entries(file, draft, options) if file.suffix.lower() == ".csv" else _row_entries(file, draft, options)
    for entry in rows:
        path = prefix / entry.path
        folder = path.parts[0] if len(path.parts) > 1 else ""
        split = entry.split or (folder if folder.casefold() in SPLIT_FOLDERS else None)
        yield replace(entry, path=path, split=split)


def _csv_entries(file: Path, draft: Draft, options: AdapterOptions) -> list[Entry]:
    content = read_entries(file, file.parent, options, known_classes(options, draft.root)[0])
    draft.problems += content.problems
    draft.notes += [note for note in content.notes if note not in draft.notes]
    draft.names = list(dict.fromkeys((*draft.names, *content.classes)))
    return content.entries


def _row_entries(file: Path, draft: Draft, options: AdapterOptions) -> Iterator[Entry]:
    rows = json_rows(file, draft.problems) if file.suffix.lower() == ".jsonl" else parquet_rows(file)
    reader = RowReader(file, options)
    for row, values in rows:
        try:
            path = relative_path(reader.file_name(values), file.parent)
            labels = reader.labels(values)
        except DatasetError as error:
            draft.problems.append(Problem(str(error), file, row))
            continue
        split = reader.split(values)
        if labels is None:
            yield Entry(path, file, row, "", frozenset(), absent=frozenset(), split=split)
        else:
            real = frozenset(label for label in labels if not is_background(label))
            yield Entry(path, file, row, "", real, split=split)
