"""Labels from Open Images: one row for each verified label of an image."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from recamlabel.adapters.assemble import Draft, Entry, assemble, some
from recamlabel.adapters.base import Dataset, Problem
from recamlabel.adapters.class_names import is_background
from recamlabel.adapters.config import AdapterOptions, refuse_foreign_settings
from recamlabel.adapters.files.json_file import split_of
from recamlabel.adapters.files.listing import FolderListing
from recamlabel.adapters.ids import absolute_source, relative_path
from recamlabel.adapters.openimages.rows import ClassNames, Kind, kind_of, rows_of
from recamlabel.errors import DatasetError


@dataclass(slots=True)
class _Image:
    """What the rows say of one image; the place is that of its first row."""

    file: Path
    row: int
    split: str | None
    listed: bool  # by an image list
    present: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)


class OpenImagesAdapter:
    """Reads ``ImageID,Source,LabelName,Confidence`` files with a class-descriptions file beside them.

    Confidence 1 is present, 0 is verified absent; a class without a row, and one with a
    machine's confidence in between, is unknown. A CSV with ``ImageID`` and without
    ``LabelName`` lists images, those without any row included; its ``Subset`` is their split.
    """

    name = "openimages"
    description = (
        "an Open Images .csv (ImageID,Source,LabelName,Confidence), or a folder with such files and class-descriptions"
    )

    def detect(self, source: Path) -> str | None:
        """Why ``source`` is Open Images, or None. Never raises."""
        try:
            files = _files(source, Kind.LABELS)
        except (OSError, csv.Error):
            return None
        return f"{files[0].name} has ImageID and LabelName" if files else None

    def read(self, source: Path, options: AdapterOptions) -> Dataset:
        """Read all label files of the source; splits come from their names (``train-annotations-….csv``).

        Raises:
            DatasetError: No such file, not UTF-8, a missing column, or no class.
            ConfigError: A setting that is about another format is set.
        """
        refuse_foreign_settings(self.name, options, "image_root")
        top = absolute_source(source)
        files = _files(top, Kind.LABELS)
        if not files:
            raise DatasetError(f"{top}: no CSV with ImageID, LabelName and Confidence; expected {self.description}")
        folder = top if top.is_dir() else top.parent
        draft = Draft(self.name, folder, files[0], classes_folder=folder)
        names = ClassNames.find(folder, draft.problems)
        draft.notes.append(names.note)
        images = _read(files, _files(folder, Kind.IMAGES) if top.is_dir() else [], names, draft)
        folders = _image_folders(images, folder, options)
        draft.root = Path(os.path.commonpath(list(folders.values()))) if folders else folder
        listing = FolderListing(draft.root)
        draft.entries += _entries(images, folders, draft, listing)
        return assemble(draft, options, listing=listing)


def _files(source: Path, kind: Kind) -> list[Path]:
    if source.is_file():
        return [source] if kind_of(source) is kind else []
    if not source.is_dir():
        return []
    return [path for path in sorted(source.iterdir()) if path.suffix.lower() == ".csv" and kind_of(path) is kind]


def _read(files: Sequence[Path], lists: Sequence[Path], names: ClassNames, draft: Draft) -> dict[str, _Image]:
    """Images by ImageID, first those of image lists."""
    images: dict[str, _Image] = {}
    for file in lists:
        for row, (image_id, subset) in rows_of(file, ("ImageID", "Subset"), draft.problems):
            split = subset or split_of(file.stem)
            _image(images, image_id, file, row, split, draft.problems, listed=True)
    counts = {"machine": 0, "background": 0}
    for file in files:
        split = split_of(file.stem)
        for row, (image_id, label, confidence) in rows_of(file, ("ImageID", "LabelName", "Confidence"), draft.problems):
            image = _image(images, image_id, file, row, split, draft.problems)
            state = _state(confidence, file, row, draft.problems)
            name = names.of(label, file, row, draft.problems)
            if name is None or state is None:
                counts["machine"] += name is not None and state is None
            elif is_background(name):
                counts["background"] += 1
            else:
                (image.present if state else image.absent).add(name)
    draft.notes += _notes(images, counts)
    return images


def _image(
    images: dict[str, _Image],
    image_id: str,
    file: Path,
    row: int,
    split: str | None,
    problems: list[Problem],
    *,
    listed: bool = False,
) -> _Image:
    """The image of an ImageID; one that is in two splits is a problem. The split of an image list counts."""
    image = images.get(image_id)
    if image is None:
        image = images[image_id] = _Image(file, row, split, listed)
    elif image.split is None:
        image.split = split
    elif split is not None and split != image.split and (listed or not image.listed):
        message = f"ImageID {image_id!r} is of split {split} here and of {image.split} in {image.file.name}"
        problems.append(Problem(f"{message}, row {image.row}; an image is in one split", file, row))
    return image


def _state(confidence: str, file: Path, row: int, problems: list[Problem]) -> bool | None:
    """True present, False absent, None unknown."""
    try:
        value = float(confidence)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        message = f"Confidence {confidence!r}; expected 1 (present), 0 (verified absent) or a machine's score between"
        problems.append(Problem(message, file, row))
        return None
    return bool(value) if value in (0.0, 1.0) else None


def _notes(images: dict[str, _Image], counts: dict[str, int]) -> Iterator[str]:
    """Notes on labels that are left unknown; contradictions are taken out here."""
    conflicts = []
    for image_id, image in images.items():
        both = image.present & image.absent
        if both:
            conflicts += [f"{image_id}: {name}" for name in sorted(both)]
            image.present -= both
            image.absent -= both
    if conflicts:
        yield f"labels with rows of both 0 and 1: {len(conflicts)} ({some(conflicts)}); they are unknown"
    if counts["machine"]:
        yield f"rows with a confidence between 0 and 1 (or none): {counts['machine']}; these labels are unknown"
    if counts["background"]:
        yield f"rows of the class 'background': {counts['background']}; not read, id 0 has that name"


def _image_folders(images: dict[str, _Image], folder: Path, options: AdapterOptions) -> dict[str | None, Path]:
    """The image folder of every split: where most of some of its images are."""
    by_split: dict[str | None, list[str]] = {}
    for image_id, image in images.items():
        by_split.setdefault(image.split, []).append(image_id.replace("\\", "/"))
    if options.image_root is not None:
        return dict.fromkeys(by_split, absolute_source(options.image_root))
    listings: dict[Path, FolderListing] = {}
    chosen = {}
    for split, ids in by_split.items():
        below = [f"{top}/{split}".strip("/") if split else top for top in ("", "images", "data")]
        candidates = [top / name for top in (folder, folder.parent) for name in (*below, "images", "data", "")]
        sample, best, most = ids[:: max(1, len(ids) // 20)][:20], folder, 0
        for candidate in dict.fromkeys(candidates):
            listing = listings.setdefault(candidate, FolderListing(candidate))
            there = sum(listing.with_extension(image_id) is not None for image_id in sample)
            if there > most:
                best, most = candidate, there
        chosen[split] = best
    return chosen


def _entries(
    images: dict[str, _Image], folders: dict[str | None, Path], draft: Draft, listing: FolderListing
) -> Iterator[Entry]:
    for image_id, image in images.items():
        folder = folders[image.split]
        prefix = PurePosixPath(folder.relative_to(draft.root).as_posix())
        try:
            path = prefix / relative_path(image_id, folder)
        except DatasetError as error:
            draft.problems.append(Problem(f"ImageID: {error}", image.file, image.row))
            continue
        # ImageIDs have no extension; the file has one.
        path_or_name = listing.with_extension(str(path)) or (str(path) if listing.has(path) else f"{path}.jpg")
        path = PurePosixPath(path_or_name)
        present, absent = frozenset(image.present), frozenset(image.absent)
        yield Entry(path, image.file, image.row, "", present, absent=absent, split=image.split)
