"""Labels from PASCAL VOC: the objects of each image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from recamlabel.adapters.assemble import Draft, Entry, assemble, some
from recamlabel.adapters.base import Dataset, Problem
from recamlabel.adapters.class_names import is_background
from recamlabel.adapters.config import AdapterOptions, refuse_foreign_settings
from recamlabel.adapters.files.listing import FolderListing, is_there
from recamlabel.adapters.files.text import read_text
from recamlabel.adapters.ids import absolute_source, relative_path
from recamlabel.adapters.voc.labels import VocLabels, read_annotation, read_main
from recamlabel.errors import DatasetError

_IMAGES, _XML, _SETS = "JPEGImages", "Annotations", "ImageSets"
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class _Listed:
    """One line of a list file."""

    name: str
    split: str
    file: Path
    row: int


class VocAdapter:
    """Reads ``Annotations/*.xml``, or without them ``ImageSets/Main/CLASS_SPLIT.txt``.

    Images and splits are those of ``ImageSets/Segmentation`` (else ``ImageSets/Main``), or of
    the list files in ``options.split_lists``; without any list, all of ``JPEGImages``. A class
    whose objects are all marked difficult is in the state ``options.voc_difficult``.
    """

    name = "voc"
    description = "a PASCAL VOC folder: JPEGImages/ with Annotations/*.xml or ImageSets/Main/CLASS_SPLIT.txt"

    def detect(self, source: Path) -> str | None:
        """Why ``source`` is a VOC folder, or None. Never raises."""
        try:
            top = _top(source)
        except OSError:
            return None
        if top is None:
            return None
        labels = _XML if (top / _XML).is_dir() else f"{_SETS}/Main"
        return f"there are {_IMAGES} and {labels} in {'it' if top == source else top.name}"

    def read(self, source: Path, options: AdapterOptions) -> Dataset:
        """Read the labels; ``SegmentationClass`` is not opened.

        Raises:
            DatasetError: Not a VOC folder, a list file that is missing, or no class.
            ConfigError: A setting that is about another format is set.
        """
        refuse_foreign_settings(self.name, options, "image_root", "voc_difficult", "split_lists")
        given = absolute_source(source)
        top = _top(given)
        if top is None:
            raise DatasetError(f"{given}: not a VOC folder; expected {self.description}")
        root = absolute_source(options.image_root) if options.image_root else top / _IMAGES
        draft = Draft(self.name, root, top, classes_folder=top)
        listing = FolderListing(root)
        listed = _listed(top, options, draft)
        source_of = _Labels.find(top, draft)
        if listed is None:
            names = sorted({*source_of.names(), *listing.stems()})
            listed = [_Listed(name, "", source_of.file(name), 0) for name in names]
        else:
            draft.notes += _left_out(listed, listing)
        draft.entries += _entries(listed, source_of, draft, listing, options)
        draft.notes += source_of.notes
        # Every file of the folder that is in no list is counted in a note already.
        return assemble(draft, options, listing=FolderListing(root))


class _Labels:
    """The labels of an image by its name, from XML files or from ``ImageSets/Main``."""

    def __init__(self, top: Path, main: Mapping[str, VocLabels] | None, problems: list[Problem]) -> None:
        self._top, self._main, self._problems = top, main, problems
        self.notes: list[str] = []
        self.broken: set[str] = set()

    @classmethod
    def find(cls, top: Path, draft: Draft) -> _Labels:
        if (top / _XML).is_dir():
            return cls(top, None, draft.problems)
        # All splits: those of Segmentation and of Main need not agree.
        main, draft.names = read_main(top / _SETS / "Main", draft.problems)
        labels = cls(top, main, draft.problems)
        labels.notes.append(f"labels from {_SETS}/Main, for there is no folder {_XML}")
        return labels

    def names(self) -> list[str]:
        if self._main is not None:
            return sorted(self._main)
        return sorted(path.stem for path in (self._top / _XML).glob("*.xml") if not path.name.startswith("."))

    def file(self, name: str) -> Path:
        return self._top / _XML / f"{name}.xml" if self._main is None else self._top / _SETS / "Main"

    def of(self, name: str) -> VocLabels | None:
        """None where there are no labels for the image."""
        if self._main is not None:
            return self._main.get(name)
        if not is_there(self.file(name)):
            return None
        try:
            return read_annotation(self.file(name))
        except DatasetError as error:
            # The message begins with the file, which a problem has of its own.
            text = str(error).removeprefix(str(self.file(name))).lstrip(":, ")
            self._problems.append(Problem(text, self.file(name), image_id=name))
            self.broken.add(name)
            return None


def _top(source: Path) -> Path | None:
    """The folder with JPEGImages: the source, or the one such folder in it or in its VOCdevkit."""
    if not source.is_dir():
        return None
    for place in (source, source / "VOCdevkit"):
        below = sorted(place.glob("VOC*")) if place.is_dir() else []
        tops = [folder for folder in (place, *below) if _is_voc(folder)]
        if tops and (tops[0] == place or len(tops) == 1):
            return tops[0]
    return None


def _is_voc(folder: Path) -> bool:
    return (folder / _IMAGES).is_dir() and ((folder / _XML).is_dir() or (folder / _SETS / "Main").is_dir())


def _listed(top: Path, options: AdapterOptions, draft: Draft) -> list[_Listed] | None:
    """The lines of all list files, in order; None where there is no list."""
    files = list(options.split_lists)
    if not files:
        for folder in (top / _SETS / "Segmentation", top / _SETS / "Main"):
            files = [folder / f"{split}.txt" for split in _SPLITS if (folder / f"{split}.txt").is_file()]
            if not files and (folder / "trainval.txt").is_file():
                files = [folder / "trainval.txt"]
            if files:
                break
    if not files:
        draft.notes.append(f"no list of images in {_SETS}: all images are read, without splits")
        return None
    shown = [str(file.relative_to(top)) if file.is_relative_to(top) else str(file) for file in files]
    draft.notes.append(f"images and splits from {', '.join(shown)}")
    return [item for file in files for item in _lines(file, draft.problems)]


def _lines(file: Path, problems: list[Problem]) -> Iterator[_Listed]:
    """Image names; also ``/JPEGImages/a.jpg /SegmentationClassAug/a.png``, the lists of many repositories."""
    for row, line in enumerate(read_text(file).splitlines(), start=1):
        text = line.strip()
        if f"/{_IMAGES}/" in f"/{text}" or "\t" in text:
            text = text.replace("\t", " ").split(" /")[0].strip().split(f"{_IMAGES}/")[-1]
            text = str(PurePosixPath(text).with_suffix(""))
        if not text:
            continue
        try:
            yield _Listed(str(relative_path(text, file.parent)), file.stem, file, row)
        except DatasetError as error:
            problems.append(Problem(str(error), file, row))


def _left_out(listed: list[_Listed], listing: FolderListing) -> Iterator[str]:
    wanted = {item.name for item in listed}
    others = sorted(name for name in listing.stems() if name not in wanted)
    if others:
        yield f"images in no list: {len(others)} ({some(others)}); not read"


def _entries(
    listed: list[_Listed], labels: _Labels, draft: Draft, listing: FolderListing, options: AdapterOptions
) -> Iterator[Entry]:
    without = []
    for item in listed:
        found = labels.of(item.name)
        row = item.row or None
        try:
            path = _image_path(item.name, found, draft.root, listing)
        except DatasetError as error:
            draft.problems.append(Problem(f"<filename>: {error}", labels.file(item.name)))
            continue
        split = item.split or None
        if found is None:
            without += [] if item.name in labels.broken else [item.name]
            nothing = frozenset[str]()
            yield Entry(path, item.file, row, "", nothing, absent=nothing, split=split)
            continue
        present, difficult = _real(found.present), _real(found.difficult)
        if options.voc_difficult == "present":
            present |= difficult
        unknown = difficult if options.voc_difficult == "unknown" else frozenset[str]()
        yield Entry(path, item.file, row, "", present, unknown, split=split)
    if without:
        draft.notes.append(f"images without labels: {len(without)} ({some(without)}); nothing is known of them")


def _image_path(name: str, labels: VocLabels | None, root: Path, listing: FolderListing) -> PurePosixPath:
    """By the name of the XML file or line; ``<filename>`` is often of another machine and comes second."""
    match = listing.with_extension(name)
    if match is None and labels is not None and labels.filename is not None:
        return relative_path(labels.filename, root)
    return PurePosixPath(match or f"{name}.jpg")


def _real(names: set[str]) -> frozenset[str]:
    return frozenset(name for name in names if not is_background(name))
