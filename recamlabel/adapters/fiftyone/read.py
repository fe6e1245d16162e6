"""Labels from a FiftyOne data set: its classifications, or the tags of its samples."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

from recamlabel.adapters.assemble import Draft, Entry, assemble
from recamlabel.adapters.base import Dataset, Problem
from recamlabel.adapters.class_names import is_background
from recamlabel.adapters.config import AdapterOptions, refuse_foreign_settings
from recamlabel.adapters.fiftyone.service import start_fiftyone
from recamlabel.adapters.files.folder_scan import SPLIT_FOLDERS
from recamlabel.adapters.ids import relative_path
from recamlabel.errors import DatasetError

_PREFIX = "fiftyone:"
_TAGS = "tags"


class FiftyOneAdapter:
    """Reads ``fiftyone:NAME``; the data set is not changed.

    Labels are a ``Classification`` or ``Classifications`` field (``options.labels_column``, or
    the only one), else the samples' tags. Tags such as ``train`` and ``val`` are splits. A
    sample without a value in the field is unknown.
    """

    name = "fiftyone"
    description = "fiftyone:NAME, a FiftyOne data set with classifications or tags"
    accepts_names = True

    def detect(self, source: Path) -> str | None:
        """``fiftyone:NAME`` only; the database is not asked. Never raises."""
        return "named so" if str(source).startswith(_PREFIX) else None

    def read(self, source: Path, options: AdapterOptions) -> Dataset:
        """Read the labels of all samples.

        Raises:
            MissingExtraError: FiftyOne or its MongoDB is missing.
            DatasetError: No such data set, not of images, or no labels in it.
            ConfigError: A setting that is about another format is set.
        """
        refuse_foreign_settings(self.name, options, "labels_column")
        name = str(source).removeprefix(_PREFIX)
        if not name.strip() or (source.is_absolute() and source.name):
            raise DatasetError(f"{source}: no such file or folder; expected {self.description}")
        data = _open(name)
        samples = data.values(["id", "filepath", "tags"])
        if not samples[0]:
            raise DatasetError(f"{_PREFIX}{name}: a data set without samples; expected images")
        root = _root(samples[1])
        draft = Draft(self.name, root, Path(f"{_PREFIX}{name}"))
        labels = _labels(data, name, samples[2], options, draft)
        draft.entries += _entries(samples, labels, draft)
        return assemble(draft, options)


def _open(name: str) -> Any:
    fiftyone = start_fiftyone()
    names = fiftyone.list_datasets()
    if name not in names:
        shown = ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        raise DatasetError(f"{_PREFIX}{name}: no such FiftyOne data set; there are: {shown or 'none'}")
    data = fiftyone.load_dataset(name)
    if data.media_type not in (None, "image"):
        raise DatasetError(f"{_PREFIX}{name}: a data set of {data.media_type}; expected images")
    return data


def _root(paths: Sequence[str]) -> Path:
    try:
        return Path(os.path.commonpath([PurePath(path).parent for path in paths]))
    except ValueError:  # Windows: on two drives
        raise DatasetError("the images are on more than one drive; expected one place above all") from None


def _labels(
    data: Any, name: str, tags: Sequence[Sequence[str]], options: AdapterOptions, draft: Draft
) -> list[Sequence[str] | None]:
    """Labels of every sample; None where a sample has no value."""
    fields = {
        key: kind.document_type.__name__
        for key, kind in data.get_field_schema().items()
        if getattr(getattr(kind, "document_type", None), "__name__", "") in {"Classification", "Classifications"}
    }
    chosen = options.labels_column or (next(iter(fields)) if len(fields) == 1 else None)
    if chosen is None and len(fields) > 1:
        raise DatasetError(
            f"{_PREFIX}{name}: several fields have classifications ({', '.join(fields)}); "
            f"choose one with --set data.labels_column=NAME, or {_TAGS!r}"
        )
    if chosen is None or chosen == _TAGS:
        draft.notes.append("labels are the samples' tags, but for those that name a split")
        return [[tag for tag in own if tag.casefold() not in SPLIT_FOLDERS] for own in tags]
    if chosen not in fields:
        found = ", ".join((*fields, _TAGS))
        raise DatasetError(f"{_PREFIX}{name}: no classifications in a field {chosen!r}; there are: {found}")
    draft.notes.append(f"labels from the field {chosen!r}")
    listed = (data.classes or {}).get(chosen) or data.default_classes or ()
    draft.names = [label for label in dict.fromkeys(listed) if not is_background(label)]
    if fields[chosen] == "Classification":
        return [None if label is None else [label] for label in data.values(f"{chosen}.label")]
    return list(data.values(f"{chosen}.classifications.label"))


def _entries(samples: Sequence[Sequence[Any]], labels: Sequence[Sequence[str] | None], draft: Draft) -> Iterator[Entry]:
    strangers: dict[str, str] = {}
    listed = frozenset(draft.names)
    for id_, path, tags, own in zip(*samples, labels, strict=True):
        place = f"sample {id_}"
        try:
            relative = relative_path(path, draft.root)
        except DatasetError as error:
            draft.problems.append(Problem(f"{place}: {error}", draft.source))
            continue
        split = next((tag for tag in tags if tag.casefold() in SPLIT_FOLDERS), None)
        nothing = frozenset[str]()
        if own is None:
            yield Entry(relative, draft.source, None, place, nothing, absent=nothing, split=split)
            continue
        real = frozenset(label for label in own if label and not is_background(label))
        strangers |= {label: place for label in real - listed if label not in strangers} if listed else {}
        yield Entry(relative, draft.source, None, place, real, split=split)
    # The data set's own list is often shorter than its labels, as nothing enforces it.
    draft.names = [*draft.names, *sorted(strangers)]
    if strangers:
        draft.notes.append(f"labels outside of the data set's list of classes: {', '.join(sorted(strangers))}; added")
